/* Attention, forward and backward: sequences of a SmolLM2-135M layer, long and short, and one step of decoding. */
#include <cmath>
#include <string>

#include "attention_ref.h"
#include "bench.h"

namespace {

struct Layer {
  int64_t h, h_kv, d;
};
constexpr Layer kSmolLM2{9, 3, 64};

struct Problem {
  oribi_attention_shape shape;
  std::vector<int32_t> cu_seqlens, kv_start, kv_len;
  std::vector<float> q, k, v, o, d_o, lse, dq, dk, dv;

  Problem(Layer layer, int64_t sequences, int32_t queries, int32_t keys) : cu_seqlens(sequences + 1) {
    for (int64_t s = 0; s < sequences; s++) {
      cu_seqlens[s + 1] = cu_seqlens[s] + queries;
      kv_start.push_back(static_cast<int32_t>(s) * keys);
      kv_len.push_back(keys);
    }
    const bool cache = keys != queries;
    const int64_t n = sequences * queries, ld_q = layer.h * layer.d, ld_k = layer.h_kv * layer.d;
    shape = {n, sequences, layer.h, layer.h_kv, layer.d, ld_q, ld_k, ld_k, ld_q, cu_seqlens.data(),
             cache ? kv_start.data() : nullptr, cache ? kv_len.data() : nullptr,
             1 / std::sqrt(static_cast<float>(layer.d)), ORIBI_F32, 0, 0, 0};
    q = bench::normals(n * ld_q), d_o = q, o = q, dq = q;
    k = bench::normals(sequences * keys * ld_k), v = k, dk = k, dv = k;
    lse.resize(n * layer.h);
  }
  Problem(const Problem&) = delete;

  /* Of the scores that a causal mask leaves: one product of them. */
  double product_flops() const {
    double scores = 0;
    for (size_t s = 0; s + 1 < cu_seqlens.size(); s++) {
      const double queries = cu_seqlens[s + 1] - cu_seqlens[s], hidden = kv_len[s] - queries;
      scores += queries * hidden + queries * (queries + 1) / 2;
    }
    return 2 * scores * static_cast<double>(shape.h * shape.d);
  }
};

struct Runner {
  oribi_ctx* ctx;
  Problem& p;
  std::vector<char> workspace;

  Runner(oribi_ctx* c, Problem& problem) : ctx(c), p(problem) {
    workspace.resize(std::max(oribi_attention_workspace(ctx, &p.shape, 0), oribi_attention_workspace(ctx, &p.shape, 1)) + 64);
  }
  void* aligned() { return workspace.data() + 64 - reinterpret_cast<uintptr_t>(workspace.data()) % 64; }
  void forward() {
    bench::must(ctx, oribi_attention_forward(ctx, p.o.data(), p.lse.data(), p.q.data(), p.k.data(), p.v.data(), aligned(), &p.shape));
  }
  void backward() {
    bench::must(ctx, oribi_attention_backward(ctx, p.dq.data(), p.dk.data(), p.dv.data(), p.o.data(), p.lse.data(),
                                              p.d_o.data(), p.q.data(), p.k.data(), p.v.data(), aligned(), &p.shape));
  }
};

void verify() {
  Problem p(kSmolLM2, 2, 100, 100);
  oribi_ctx* ctx = bench::context(0);
  Runner runner(ctx, p);
  runner.forward();
  runner.backward();
  const auto doubles = [](const std::vector<float>& x) { return std::vector<double>(x.begin(), x.end()); };
  std::vector<double> o(p.o.size()), lse(p.lse.size()), dq(p.q.size()), dk(p.k.size()), dv(p.v.size());
  reference::attention_forward(o.data(), lse.data(), doubles(p.q).data(), doubles(p.k).data(), doubles(p.v).data(), p.shape);
  reference::attention_backward(dq.data(), dk.data(), dv.data(), doubles(p.d_o).data(), doubles(p.q).data(),
                                doubles(p.k).data(), doubles(p.v).data(), p.shape);
  const auto close = [](const std::vector<float>& actual, const std::vector<double>& exact) {
    for (size_t i = 0; i < exact.size(); i++)
      if (!(std::fabs(actual[i] - exact[i]) <= 1e-4)) return false;
    return true;
  };
  bench::verified(close(p.o, o), "o");
  bench::verified(close(p.dq, dq) && close(p.dk, dk) && close(p.dv, dv), "a gradient");
  oribi_ctx_destroy(ctx);
}

void time_shape(int32_t threads, int64_t sequences, int32_t queries, int32_t keys) {
  oribi_ctx* ctx = bench::context(threads);
  Problem p(kSmolLM2, sequences, queries, keys);
  Runner runner(ctx, p);
  const std::string name = std::to_string(sequences) + "x" + std::to_string(queries) + (keys == queries ? "" : " keys=" + std::to_string(keys)) +
                           " H=9 Hkv=3 D=64 f32";
  bench::report("attention_forward", name.c_str(), threads, bench::measure([&] { runner.forward(); }), 2 * p.product_flops(), "GFLOP/s");
  if (keys == queries)
    bench::report("attention_backward", name.c_str(), threads, bench::measure([&] { runner.backward(); }), 5 * p.product_flops(), "GFLOP/s");
  oribi_ctx_destroy(ctx);
}

}  // namespace

int main() {
  verify();
  for (int32_t threads : {1, 2}) {
    time_shape(threads, 4, 256, 256);
    time_shape(threads, 1, 2048, 2048);
    time_shape(threads, 1, 1, 2048);
  }
}
