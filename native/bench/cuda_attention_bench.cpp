/*
 * Attention on a card: causal, 32 query heads and 8 key heads of 128, as in Llama 3.1 8B; then other sizes of head, a window,
 * and decoding. FLOPs are those that a causal mask leaves: 4 * (queries * keys / 2) * H * D forward and 2.5 times as many
 * backward, the five products that a backward pass needs at least. Decoding is bound by reading the cache: bytes.
 */
#include <memory>

#include "attention_ref.h"
#include "cuda_bench.h"

using namespace cuda_bench;

namespace {

struct Layer {
  int64_t h, h_kv, d;
};
constexpr Layer kLlama{32, 8, 128};

struct Problem {
  oribi_ctx* ctx;
  oribi_attention_shape shape{};
  std::vector<int32_t> cu_seqlens, kv_start, kv_len;
  Memory device_seqlens, device_start, device_len;
  Memory qkv, cache, o, lse, d_o, d_qkv;
  std::unique_ptr<Memory> forward_space, backward_space;

  static std::vector<int32_t> starts(int64_t sequences, int64_t length) {
    std::vector<int32_t> all;
    for (int64_t s = 0; s <= sequences; s++) all.push_back(static_cast<int32_t>(s * length));
    return all;
  }

  /* q, k and v lie side by side in each row, as one GEMM writes them. keys > 0: a cache of so many for each sequence. */
  Problem(oribi_ctx* context, Layer layer, oribi_dtype t, int64_t sequences, int64_t queries, int64_t keys = 0)
      : ctx(context), cu_seqlens(starts(sequences, queries)), kv_start(starts(sequences, keys)),
        kv_len(static_cast<size_t>(sequences), static_cast<int32_t>(keys)), device_seqlens(upload(cu_seqlens)),
        device_start(upload(kv_start)), device_len(upload(kv_len)),
        qkv(normals(sequences * queries * (layer.h + 2 * layer.h_kv) * layer.d, t)),
        cache(normals(2 * sequences * keys * layer.h_kv * layer.d, t)),
        o(static_cast<size_t>(sequences * queries * layer.h * layer.d) * size_of(t)),
        lse(static_cast<size_t>(sequences * queries * layer.h) * 4),
        d_o(normals(sequences * queries * layer.h * layer.d, t, 1, 9)), d_qkv(qkv.size()) {
    const int64_t row = (layer.h + 2 * layer.h_kv) * layer.d;
    shape.n = sequences * queries, shape.sequences = sequences;
    shape.h = layer.h, shape.h_kv = layer.h_kv, shape.d = layer.d;
    shape.ld_q = row, shape.ld_k = shape.ld_v = keys > 0 ? layer.h_kv * layer.d : row, shape.ld_o = layer.h * layer.d;
    shape.cu_seqlens = device_seqlens.as<int32_t>();
    if (keys > 0) shape.kv_start = device_start.as<int32_t>(), shape.kv_len = device_len.as<int32_t>();
    shape.scale = 1 / std::sqrt(static_cast<float>(layer.d)), shape.t = t, shape.max_seqlen = queries;
    forward_space = std::make_unique<Memory>(static_cast<size_t>(oribi_attention_workspace(ctx, &shape, 0)));
    backward_space = std::make_unique<Memory>(static_cast<size_t>(oribi_attention_workspace(ctx, &shape, 1)));
  }

  char* part(const Memory& rows, int64_t column) const { return rows.as<char>() + column * static_cast<int64_t>(size_of(shape.t)); }
  int64_t k_column() const { return shape.h * shape.d; }
  int64_t v_column() const { return (shape.h + shape.h_kv) * shape.d; }
  bool cached() const { return shape.kv_start != nullptr; }
  const char* k() const { return cached() ? part(cache, 0) : part(qkv, k_column()); }
  const char* v() const { return cached() ? part(cache, static_cast<int64_t>(cache.size() / size_of(shape.t)) / 2) : part(qkv, v_column()); }

  oribi_status forward() {
    return oribi_attention_forward(ctx, o, lse.as<float>(), qkv, k(), v(), *forward_space, &shape);
  }
  oribi_status backward() {
    return oribi_attention_backward(ctx, d_qkv, part(d_qkv, k_column()), part(d_qkv, v_column()), o, lse.as<float>(), d_o, qkv, k(),
                                    v(), *backward_space, &shape);
  }

  /* Of one product, forward. */
  double flops() const {
    double pairs = 0;
    for (size_t s = 0; s + 1 < cu_seqlens.size(); s++) {
      const double queries = cu_seqlens[s + 1] - cu_seqlens[s], window = static_cast<double>(shape.window);
      pairs += shape.window > 0 && window < queries ? queries * window - window * window / 2 : queries * queries / 2;
    }
    return 2 * pairs * static_cast<double>(shape.h * shape.d);
  }
};

/* The last rows of the last sequence against the reference: a problem of `tail` queries before the whole of their keys. */
struct Tail {
  static constexpr int64_t kTail = 3;
  oribi_attention_shape shape;
  std::vector<int32_t> cu_seqlens{0, kTail}, kv_start{0}, kv_len;
  std::vector<double> q, k, v, d_o, o, lse;
  int64_t row;

  /* h_kv heads are reduced to the first, and its query heads. */
  explicit Tail(const Problem& p) : shape(p.shape) {
    const int64_t group = shape.h / shape.h_kv, length = p.cached() ? p.kv_len.back() : p.cu_seqlens.back() - p.cu_seqlens[p.cu_seqlens.size() - 2];
    const int64_t queries = std::min<int64_t>(kTail, p.cu_seqlens.back() - p.cu_seqlens[p.cu_seqlens.size() - 2]);
    const int64_t first_key = p.cached() ? p.kv_start[p.kv_len.size() - 1] : shape.n - length;
    row = shape.n - queries;
    cu_seqlens[1] = static_cast<int32_t>(queries);
    kv_len.push_back(static_cast<int32_t>(length));
    q = columns(p.qkv, row, queries, shape.ld_q, group * shape.d, shape.t);
    k = columns(p.k(), first_key, length, shape.ld_k, shape.d, shape.t);
    v = columns(p.v(), first_key, length, shape.ld_v, shape.d, shape.t);
    d_o = columns(p.d_o, row, queries, shape.ld_o, group * shape.d, shape.t);
    shape.n = queries, shape.sequences = 1, shape.h = group, shape.h_kv = 1;
    shape.ld_q = shape.ld_o = group * shape.d, shape.ld_k = shape.ld_v = shape.d;
    shape.cu_seqlens = cu_seqlens.data(), shape.kv_start = kv_start.data(), shape.kv_len = kv_len.data();
    o.resize(q.size()), lse.resize(static_cast<size_t>(queries * group));
    reference::attention_forward(o.data(), lse.data(), q.data(), k.data(), v.data(), shape);
  }

  static std::vector<double> columns(const void* x, int64_t first, int64_t rows, int64_t ld, int64_t count, oribi_dtype t) {
    std::vector<double> all;
    const char* at = static_cast<const char*>(x) + first * ld * static_cast<int64_t>(size_of(t));
    const size_t bytes = static_cast<size_t>(count) * size_of(t);
    Memory packed(static_cast<size_t>(rows) * bytes);
    must(cudaMemcpy2D(packed, bytes, at, static_cast<size_t>(ld) * size_of(t), bytes, static_cast<size_t>(rows), cudaMemcpyDeviceToDevice), "columns");
    return download(packed, 0, rows * count, t);
  }

  bool forward_right(const Problem& p) const {
    const double error = largest_error(columns(p.o, row, shape.n, p.shape.ld_o, shape.h * shape.d, shape.t), o);
    return error <= (shape.t == ORIBI_F32 ? 1e-5 : 4e-3);
  }

  /* dq of the same rows; dk and dv of as many keys, which only those rows see. */
  bool backward_right(const Problem& p) const {
    std::vector<double> dq(q.size()), dk(k.size()), dv(v.size()), tail_dk, tail_dv;
    /* The reference writes zeros to as many key rows as there are queries; the rest is zero already. */
    reference::attention_backward(dq.data(), dk.data(), dv.data(), d_o.data(), q.data(), k.data(), v.data(), shape);
    const int64_t keys = shape.n * shape.d, most = static_cast<int64_t>(dk.size());
    tail_dk.assign(dk.begin() + (most - keys), dk.end()), tail_dv.assign(dv.begin() + (most - keys), dv.end());
    const auto found = [&](int64_t column, int64_t count) {
      return columns(p.part(p.d_qkv, column), row, shape.n, p.shape.ld_q, count, shape.t);
    };
    const double tolerance = shape.t == ORIBI_F32 ? 1e-4 : 2e-2;
    return largest_error(found(0, shape.h * shape.d), dq) <= tolerance && largest_error(found(p.k_column(), shape.d), tail_dk) <= tolerance &&
           largest_error(found(p.v_column(), shape.d), tail_dv) <= tolerance;
  }
};

std::string name_of(const Problem& p, int64_t keys) {
  const std::string queries = std::to_string(p.cu_seqlens[1]);
  return std::to_string(p.shape.sequences) + "x" + (keys > 0 ? queries + "/" + std::to_string(keys) : queries) + " " +
         std::to_string(p.shape.h) + "/" + std::to_string(p.shape.h_kv) + "x" + std::to_string(p.shape.d) +
         (p.shape.window > 0 ? " w" + std::to_string(p.shape.window) : "") + (p.shape.softcap > 0 ? " cap" : "");
}

void time_training(Bench& bench, Layer layer, oribi_dtype t, int64_t sequences, int64_t length, int64_t window = 0, float softcap = 0) {
  if (!bench.wanted("attention_forward") && !bench.wanted("attention_backward")) return;
  Problem p(bench.ctx(), layer, t, sequences, length);
  p.shape.window = window, p.shape.softcap = softcap;
  const std::string name = name_of(p, 0);
  const Tail tail(p);
  bench.time("attention_forward", name, t, flops(2 * p.flops()), [&] { return p.forward(); }, [&] { return tail.forward_right(p); });
  if (p.forward() != ORIBI_OK) return; /* o and lse, where --only left the forward pass out */
  bench.time("attention_backward", name, t, flops(5 * p.flops()), [&] { return p.backward(); }, [&] { return tail.backward_right(p); });
}

void time_decoding(Bench& bench, Layer layer, oribi_dtype t, int64_t sequences, int64_t keys) {
  if (!bench.wanted("attention_decode")) return;
  Problem p(bench.ctx(), layer, t, sequences, 1, keys);
  const Tail tail(p);
  bench.time("attention_decode", name_of(p, keys), t, bytes(static_cast<double>(p.cache.size())), [&] { return p.forward(); },
             [&] { return tail.forward_right(p); });
}

}  // namespace

int main(int count, char** arguments) {
  Bench bench(arguments, count);
  time_training(bench, kLlama, ORIBI_BF16, 2, 2048);
  time_training(bench, kLlama, ORIBI_BF16, 8, 1024);
  time_training(bench, kLlama, ORIBI_BF16, 1, 8192);
  time_training(bench, kLlama, ORIBI_BF16, 1, 32768);
  time_training(bench, {32, 8, 64}, ORIBI_BF16, 2, 2048);
  time_training(bench, {32, 8, 64}, ORIBI_BF16, 1, 8192);
  time_training(bench, {16, 8, 256}, ORIBI_BF16, 1, 8192);
  time_training(bench, {16, 8, 256}, ORIBI_BF16, 1, 8192, 4096, 50);
  time_training(bench, kLlama, ORIBI_F16, 1, 8192);
  time_training(bench, kLlama, ORIBI_F32, 2, 1024);
  time_decoding(bench, kLlama, ORIBI_BF16, 1, 8192);
  time_decoding(bench, kLlama, ORIBI_BF16, 16, 4096);
  time_decoding(bench, kLlama, ORIBI_BF16, 64, 1024);
}
