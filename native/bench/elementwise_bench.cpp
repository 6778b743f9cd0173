/*
 * The kernels that memory bounds, beside memcpy by as many threads. Sizes of SmolLM2 135M with 4 x 1024 tokens; bytes are
 * those that must move, each array once in and once out.
 */
#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <thread>

#include "bench.h"
#include "embedding_ref.h"
#include "glu_ref.h"
#include "random_ref.h"
#include "rms_norm_ref.h"
#include "rope_ref.h"

namespace {

constexpr int64_t kRows = 4096, kC = 576, kF = 1536, kV = 49152, kHeads = 9, kHeadSize = 64, kMaxPosition = 1024;
constexpr int64_t kVerified = 3; /* rows that are compared with the reference before anything is timed */
constexpr double kSeconds = 0.3;

struct Bench {
  oribi_ctx* ctx;
  int32_t threads;
  std::vector<float> gu = bench::normals(kRows * 2 * kF), out = std::vector<float>(kRows * 2 * kF);
  std::vector<float> table = bench::normals(kV * kC), w = bench::normals(kC), rstd = std::vector<float>(kRows, 0.5f);
  std::vector<float> cos, sin, dw = std::vector<float>(kC), workspace;
  std::vector<int32_t> ids, positions;

  explicit Bench(int32_t threads_) : ctx(bench::context(threads_)), threads(threads_) {
    workspace.resize(oribi_rms_norm_backward_workspace(kRows, kC) / 4);
    for (int64_t i = 0; i < kRows; i++) {
      ids.push_back(static_cast<int32_t>(i * 7919 % kV));
      positions.push_back(static_cast<int32_t>(i % kMaxPosition));
    }
    for (int64_t i = 0; i < kMaxPosition * kHeadSize / 2; i++) {
      cos.push_back(static_cast<float>(std::cos(static_cast<double>(i))));
      sin.push_back(static_cast<float>(std::sin(static_cast<double>(i))));
    }
  }
  ~Bench() { oribi_ctx_destroy(ctx); }

  /* Runs once, compares the beginning of `out` where a reference is given, then times. */
  void time(const char* name, const char* shape, double bytes, const std::function<oribi_status()>& run,
            const std::vector<double>& expected = {}) {
    bench::must(ctx, run());
    for (size_t i = 0; i < expected.size(); i++) {
      bench::verified(std::fabs(out[i] - expected[i]) <= 1e-4 * (1 + std::fabs(expected[i])), name);
    }
    bench::report(name, shape, threads, bench::measure([&] { bench::must(ctx, run()); }, kSeconds), bytes, "GB/s");
  }
};

std::vector<double> doubles(const std::vector<float>& values, int64_t count) {
  return std::vector<double>(values.begin(), values.begin() + count);
}

double identity(double x) { return x; }

void time_copy(Bench& b) {
  const size_t part = b.gu.size() / static_cast<size_t>(b.threads);
  const bench::Times times = bench::measure([&] {
    std::vector<std::thread> threads;
    for (int32_t i = 0; i < b.threads; i++) {
      threads.emplace_back([&, i] { std::memcpy(b.out.data() + i * part, b.gu.data() + i * part, part * sizeof(float)); });
    }
    for (std::thread& thread : threads) thread.join();
  }, kSeconds);
  bench::report("memcpy", "4096x3072 f32", b.threads, times, 8.0 * kRows * 2 * kF, "GB/s");
}

void time_memory(Bench& b) {
  const int64_t count = kRows * kF;
  std::vector<double> sum = doubles(b.gu, kC);
  for (int64_t i = 0; i < kC; i++) sum[i] += b.table[i];
  b.time("add", "4096x1536 f32", 12.0 * count,
         [&] { return oribi_add(b.ctx, b.out.data(), b.gu.data(), b.table.data(), count, ORIBI_F32); }, sum);
  b.time("cast f32 to bf16", "4096x1536", 6.0 * count,
         [&] { return oribi_cast(b.ctx, b.out.data(), b.gu.data(), count, ORIBI_BF16, ORIBI_F32); });
  std::vector<double> normal(kC), dropped(kC);
  for (int64_t i = 0; i < kC; i++) {
    normal[i] = reference::random_normal(7, 9, i);
    dropped[i] = reference::random_uniform(7, 9, i) >= 0.1f ? b.gu[i] / 0.9 : 0;
  }
  b.time("random_normal", "4096x1536 f32", 4.0 * count,
         [&] { return oribi_random_normal(b.ctx, b.out.data(), count, 0, 1, 7, 9, ORIBI_F32); }, normal);
  b.time("dropout", "4096x1536 f32", 8.0 * count,
         [&] { return oribi_dropout(b.ctx, b.out.data(), b.gu.data(), count, 0.1f, 7, 9, 0, ORIBI_F32); }, dropped);
}

void time_embedding(Bench& b) {
  const std::vector<int32_t> first(b.ids.begin(), b.ids.begin() + kVerified);
  std::vector<double> expected;
  for (int32_t id : first) {
    for (int64_t i = 0; i < kC; i++) expected.push_back(b.table[id * kC + i]);
  }
  b.time("embedding_forward", "4096x576 f32", 8.0 * kRows * kC,
         [&] { return oribi_embedding_forward(b.ctx, b.out.data(), b.table.data(), b.ids.data(), kRows, kC, kV, ORIBI_F32); },
         expected);
  b.time("embedding_backward", "4096x576 f32", 12.0 * kRows * kC,
         [&] { return oribi_embedding_backward(b.ctx, b.table.data(), b.out.data(), b.ids.data(), kRows, kC, kV, ORIBI_F32); });
}

void time_rms_norm(Bench& b) {
  const double count = static_cast<double>(kRows * kC);
  const std::vector<double> x = doubles(b.gu, kVerified * kC), dy = doubles(b.table, kVerified * kC), w = doubles(b.w, kC);
  std::vector<double> y, rstd, dx, dw(kC, 0.0);
  reference::rms_norm_forward<double>(y, rstd, x, w, kVerified, kC, 1e-5, identity);
  reference::rms_norm_backward<double>(dx, dw, rstd, dy, x, w, kVerified, kC);
  b.time("rms_norm_forward", "4096x576 f32", 8.0 * count, [&] {
    return oribi_rms_norm_forward(b.ctx, b.out.data(), b.rstd.data(), b.gu.data(), b.w.data(), kRows, kC, 1e-5f, ORIBI_NORM_WEIGHT, ORIBI_F32);
  }, y);
  b.time("rms_norm_backward", "4096x576 f32", 12.0 * count, [&] {
    return oribi_rms_norm_backward(b.ctx, b.out.data(), nullptr, b.rstd.data(), b.table.data(), b.gu.data(), b.w.data(),
                                   nullptr, kRows, kC, 0, ORIBI_NORM_WEIGHT, ORIBI_F32);
  }, dx);
  b.time("rms_norm_backward, dw", "4096x576 f32", 12.0 * count, [&] {
    return oribi_rms_norm_backward(b.ctx, b.out.data(), b.dw.data(), b.rstd.data(), b.table.data(), b.gu.data(), b.w.data(),
                                   b.workspace.data(), kRows, kC, 0, ORIBI_NORM_WEIGHT, ORIBI_F32);
  }, dx);
  /* The bits of fp32 numbers are no sensible bf16 ones; fill in some that are. */
  std::vector<float> x16(kRows * kC / 2), w16(kC);
  bench::must(b.ctx, oribi_cast(b.ctx, x16.data(), b.gu.data(), kRows * kC, ORIBI_BF16, ORIBI_F32));
  bench::must(b.ctx, oribi_cast(b.ctx, w16.data(), b.w.data(), kC, ORIBI_BF16, ORIBI_F32));
  b.time("rms_norm_forward", "4096x576 bf16", 4.0 * count, [&] {
    return oribi_rms_norm_forward(b.ctx, b.out.data(), b.rstd.data(), x16.data(), w16.data(), kRows, kC, 1e-5f, ORIBI_NORM_WEIGHT, ORIBI_BF16);
  });
}

void time_rope(Bench& b) {
  std::vector<double> q = doubles(b.gu, kVerified * kC);
  reference::rope<double>(q, doubles(b.cos, kVerified * kHeadSize / 2), doubles(b.sin, kVerified * kHeadSize / 2), b.positions,
                          kVerified, kHeads, kHeadSize, kHeadSize, kC, false);
  const oribi_rope_shape shape = {kRows, kHeads, 0, kHeadSize, kC, 0, kMaxPosition, ORIBI_F32, 0, 0};
  std::memcpy(b.out.data(), b.gu.data(), kRows * kC * sizeof(float));
  auto run = [&] { return oribi_rope(b.ctx, b.out.data(), nullptr, b.cos.data(), b.sin.data(), b.positions.data(), &shape); };
  b.time("rope", "4096x9x64 f32", 8.0 * kRows * kC, run, q);
}

void time_glu(Bench& b, oribi_activation act, const char* name) {
  const std::vector<double> gu = doubles(b.gu, kVerified * 2 * kF), df = doubles(b.table, kVerified * kF);
  b.time((std::string(name) + " forward").c_str(), "4096x1536 f32", 12.0 * kRows * kF,
         [&] { return oribi_glu_forward(b.ctx, b.out.data(), b.gu.data(), kRows, kF, act, ORIBI_F32); },
         reference::glu_forward<double>(gu, kVerified, kF, act, identity));
  b.time((std::string(name) + " backward").c_str(), "4096x1536 f32", 20.0 * kRows * kF,
         [&] { return oribi_glu_backward(b.ctx, b.out.data(), nullptr, b.table.data(), b.gu.data(), kRows, kF, act, ORIBI_F32); },
         reference::glu_backward<double>(df, gu, kVerified, kF, act, identity));
}

}  // namespace

int main() {
  for (int32_t threads : {1, 2}) {
    Bench b(threads);
    time_copy(b);
    time_memory(b);
    time_rms_norm(b);
    time_rope(b);
    time_glu(b, ORIBI_SILU, "silu");
    time_glu(b, ORIBI_GELU_TANH, "gelu_tanh");
    time_glu(b, ORIBI_GELU_ERF, "gelu_erf");
    time_embedding(b);
  }
}
