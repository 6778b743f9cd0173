/*
 * The kernels that memory bounds, on a card: the sizes of Llama 3.1 8B with 8192 and with 512 tokens, bf16, beside the
 * card's own copy. Bytes are those that must move, each array once in and once out. The beginning of each result is
 * compared with the double reference before anything is timed.
 */
#include <cmath>
#include <string>

#include "cuda_bench.h"
#include "embedding_ref.h"
#include "glu_ref.h"
#include "head_norm_ref.h"
#include "random_ref.h"
#include "rms_norm_ref.h"
#include "rope_ref.h"

namespace {

using cuda_bench::bytes;
using cuda_bench::download;
using cuda_bench::largest_error;
using cuda_bench::Memory;
using cuda_bench::normals;

constexpr int64_t kC = 4096, kF = 14336, kV = 128256, kHeads = 32, kKeyHeads = 8, kHeadSize = 128, kMaxPosition = 8192;
constexpr int64_t kVerified = 3; /* rows that are compared */
constexpr oribi_dtype kType = ORIBI_BF16;
constexpr double kSize = 2, kTolerance = 0.02; /* bytes of an element; two roundings of bf16 and some room */
constexpr float kEps = 1e-5f;

double identity(double x) { return x; }

std::vector<double> rows(const Memory& memory, int64_t c, oribi_dtype t = kType) {
  return download(memory, 0, kVerified * c, t);
}

std::string shape(int64_t n, const std::string& rest) { return std::to_string(n) + "x" + rest; }

void time_memory(cuda_bench::Bench& bench, int64_t n) {
  const int64_t count = n * kC;
  const Memory a = normals(count, kType, 1, 1), b = normals(count, kType, 1, 2), wide = normals(count, ORIBI_F32, 1, 3);
  const Memory y(static_cast<size_t>(count) * 4);
  const double elements = static_cast<double>(count);
  bench.time("add", shape(n, "4096"), kType, bytes(3 * kSize * elements),
             [&] { return oribi_add(bench.ctx(), y, a, b, count, kType); }, [&] {
               std::vector<double> sum = rows(a, kC), other = rows(b, kC);
               for (size_t i = 0; i < sum.size(); i++) sum[i] += other[i];
               return largest_error(rows(y, kC), sum) <= kTolerance;
             });
  bench.time("cast f32 to bf16", shape(n, "4096"), kType, bytes(6 * elements),
             [&] { return oribi_cast(bench.ctx(), y, wide, count, kType, ORIBI_F32); },
             [&] { return largest_error(rows(y, kC), rows(wide, kC, ORIBI_F32)) <= kTolerance; });
  bench.time("fill", shape(n, "4096"), kType, bytes(kSize * elements),
             [&] { return oribi_fill(bench.ctx(), y, count, 0.5f, kType); },
             [&] { return largest_error(rows(y, kC), std::vector<double>(kVerified * kC, 0.5)) == 0; });
  bench.time("dropout", shape(n, "4096"), kType, bytes(2 * kSize * elements),
             [&] { return oribi_dropout(bench.ctx(), y, a, count, 0.1f, 7, 9, 0, kType); }, [&] {
               std::vector<double> kept = rows(a, kC);
               for (size_t i = 0; i < kept.size(); i++) kept[i] = reference::random_uniform(7, 9, i) >= 0.1f ? kept[i] / 0.9 : 0;
               return largest_error(rows(y, kC), kept) <= kTolerance;
             });
  bench.time("random_normal", shape(n, "4096"), kType, bytes(kSize * elements),
             [&] { return oribi_random_normal(bench.ctx(), y, count, 0, 1, 7, 9, kType); }, [&] {
               std::vector<double> drawn(kVerified * kC);
               for (size_t i = 0; i < drawn.size(); i++) drawn[i] = reference::random_normal(7, 9, i);
               return largest_error(rows(y, kC), drawn) <= kTolerance;
             });
}

void time_rms_norm(cuda_bench::Bench& bench, int64_t n) {
  const Memory x = normals(n * kC, kType, 1, 1), delta = normals(n * kC, kType, 1, 2), w = normals(kC, kType, 1, 3);
  const Memory y(static_cast<size_t>(n * kC) * 2), r = normals(n * kC, kType, 1, 4), rstd(static_cast<size_t>(n) * 4);
  const Memory workspace(static_cast<size_t>(oribi_rms_norm_backward_workspace(n, kC)));
  const Memory dw = cuda_bench::upload(std::vector<float>(kC), ORIBI_F32);
  const double row = kSize * static_cast<double>(n * kC);
  const auto forward_holds = [&](const Memory& in) {
    std::vector<double> expected, scale;
    reference::rms_norm_forward<double>(expected, scale, rows(in, kC), download(w, 0, kC, kType), kVerified, kC, kEps, identity);
    return largest_error(rows(y, kC), expected) <= kTolerance;
  };
  const auto backward_holds = [&](const Memory& out, const std::vector<double>& before) {
    std::vector<double> dx, dw_row(kC);
    reference::rms_norm_backward<double>(dx, dw_row, rows(rstd, 1, ORIBI_F32), rows(delta, kC), rows(x, kC),
                                         download(w, 0, kC, kType), kVerified, kC);
    for (size_t i = 0; i < before.size(); i++) dx[i] += before[i];
    return largest_error(rows(out, kC), dx) <= kTolerance;
  };
  bench.time("rms_norm_forward", shape(n, "4096"), kType, bytes(2 * row), [&] {
    return oribi_rms_norm_forward(bench.ctx(), y, rstd.as<float>(), x, w, n, kC, kEps, ORIBI_NORM_WEIGHT, kType);
  }, [&] { return forward_holds(x); });
  bench.time("add_rms_norm_forward", shape(n, "4096"), kType, bytes(4 * row), [&] {
    return oribi_add_rms_norm_forward(bench.ctx(), r, y, rstd.as<float>(), x, delta, w, n, kC, kEps, ORIBI_NORM_WEIGHT, kType);
  }, [&] { return forward_holds(r); });
  if (oribi_rms_norm_forward(bench.ctx(), y, rstd.as<float>(), x, w, n, kC, kEps, ORIBI_NORM_WEIGHT, kType) != ORIBI_OK) return;
  const auto backward = [&](bool with_dw, int32_t accumulate) {
    return oribi_rms_norm_backward(bench.ctx(), accumulate != 0 ? r : y, with_dw ? dw.as<float>() : nullptr, rstd.as<float>(), delta,
                                   x, w, workspace, n, kC, accumulate, ORIBI_NORM_WEIGHT, kType);
  };
  bench.time("rms_norm_backward", shape(n, "4096"), kType, bytes(3 * row), [&] { return backward(false, 0); },
             [&] { return backward_holds(y, {}); });
  bench.time("rms_norm_backward, dw", shape(n, "4096"), kType, bytes(3 * row), [&] { return backward(true, 0); },
             [&] { return backward_holds(y, {}); });
  const std::vector<double> before = rows(r, kC);
  bench.time("rms_norm_backward, dx +=", shape(n, "4096"), kType, bytes(4 * row), [&] { return backward(false, 1); },
             [&] { return backward_holds(r, before); });
}

void time_head_norm(cuda_bench::Bench& bench, int64_t n) {
  const int64_t c = kHeads * kHeadSize;
  const oribi_head_norm_shape s = {n, kHeads, kHeadSize, c, c, kEps, kType, ORIBI_NORM_WEIGHT, 0};
  const Memory x = normals(n * c, kType, 1, 1), dy = normals(n * c, kType, 1, 2), w = normals(kHeadSize, kType, 1, 3);
  const Memory y(static_cast<size_t>(n * c) * 2), rstd(static_cast<size_t>(n * kHeads) * 4);
  const Memory workspace(static_cast<size_t>(oribi_head_norm_backward_workspace(n, kHeads, kHeadSize)));
  const Memory dw = cuda_bench::upload(std::vector<float>(kHeadSize), ORIBI_F32);
  const double row = kSize * static_cast<double>(n * c);
  const std::vector<double> w_values = download(w, 0, kHeadSize, kType);
  bench.time("head_norm_forward", shape(n, "32x128"), kType, bytes(2 * row),
             [&] { return oribi_head_norm_forward(bench.ctx(), y, rstd.as<float>(), x, w, &s); }, [&] {
               std::vector<double> expected(kVerified * c), scale;
               reference::head_norm_forward<double>(expected, scale, rows(x, c), w_values, {kVerified, kHeads, kHeadSize, c, c}, kEps, identity);
               return largest_error(rows(y, c), expected) <= kTolerance;
             });
  for (const bool with_dw : {false, true}) {
    bench.time(with_dw ? "head_norm_backward, dw" : "head_norm_backward", shape(n, "32x128"), kType, bytes(3 * row), [&] {
      return oribi_head_norm_backward(bench.ctx(), y, with_dw ? dw.as<float>() : nullptr, rstd.as<float>(), dy, x, w, workspace, &s);
    }, [&] {
      std::vector<double> dx(kVerified * c), dw_row(kHeadSize);
      reference::head_norm_backward<double>(dx, dw_row, rows(rstd, kHeads, ORIBI_F32), rows(dy, c), rows(x, c), w_values, {kVerified, kHeads, kHeadSize, c, c});
      return largest_error(rows(y, c), dx) <= kTolerance;
    });
  }
}

void time_rope(cuda_bench::Bench& bench, int64_t n) {
  const int64_t c = (kHeads + kKeyHeads) * kHeadSize, half = kHeadSize / 2;
  std::vector<float> cosines, sines;
  std::vector<int32_t> positions;
  for (int64_t i = 0; i < kMaxPosition * half; i++) {
    const double angle = static_cast<double>(i / half) * std::pow(500000.0, -static_cast<double>(i % half) / static_cast<double>(half));
    cosines.push_back(static_cast<float>(std::cos(angle)));
    sines.push_back(static_cast<float>(std::sin(angle)));
  }
  for (int64_t i = 0; i < n; i++) positions.push_back(static_cast<int32_t>(i % 2048 + 5));
  const Memory qk = normals(n * c, kType), cos = cuda_bench::upload(cosines), sin = cuda_bench::upload(sines), at = cuda_bench::upload(positions);
  std::vector<double> q = rows(qk, c);
  const oribi_rope_shape s = {n, kHeads, kKeyHeads, kHeadSize, c, c, kMaxPosition, kType, 0, 0};
  uint16_t* const k = qk.as<uint16_t>() + kHeads * kHeadSize;
  bench.time("rope", shape(n, "(32+8)x128"), kType, bytes(2 * kSize * static_cast<double>(n * c)),
             [&] { return oribi_rope(bench.ctx(), qk, k, cos.as<float>(), sin.as<float>(), at.as<int32_t>(), &s); }, [&] {
               reference::rope<double>(q, {cosines.begin(), cosines.end()}, {sines.begin(), sines.end()}, positions, kVerified,
                                       kHeads + kKeyHeads, kHeadSize, kHeadSize, c, false);
               return largest_error(rows(qk, c), q) <= kTolerance;
             });
}

void time_glu(cuda_bench::Bench& bench, int64_t n, oribi_activation act, const std::string& name) {
  const Memory gu = normals(n * 2 * kF, kType, 2, 1), df = normals(n * kF, kType, 1, 2);
  const Memory f(static_cast<size_t>(n * kF) * 2), dgu(static_cast<size_t>(n * 2 * kF) * 2);
  const double row = kSize * static_cast<double>(n * kF);
  bench.time(name + " forward", shape(n, "14336"), kType, bytes(3 * row),
             [&] { return oribi_glu_forward(bench.ctx(), f, gu, n, kF, act, kType); }, [&] {
               const std::vector<double> expected = reference::glu_forward<double>(rows(gu, 2 * kF), kVerified, kF, act, identity);
               return largest_error(rows(f, kF), expected) <= kTolerance;
             });
  const Memory f_again(f.size());
  /* What f must equal to the bit, also where --only leaves out the case above. */
  if (oribi_glu_forward(bench.ctx(), f, gu, n, kF, act, kType) != ORIBI_OK) return;
  for (const bool again : {false, true}) {
    bench.time(name + (again ? " backward, f" : " backward"), shape(n, "14336"), kType, bytes((again ? 6 : 5) * row), [&] {
      return oribi_glu_backward(bench.ctx(), dgu, again ? f_again.as<void>() : nullptr, df, gu, n, kF, act, kType);
    }, [&] {
      const std::vector<double> expected = reference::glu_backward<double>(rows(df, kF), rows(gu, 2 * kF), kVerified, kF, act, identity);
      return largest_error(rows(dgu, 2 * kF), expected) <= kTolerance && (!again || largest_error(rows(f_again, kF), rows(f, kF)) == 0);
    });
  }
}

/* Memory of the host that the card reads in place, as a table may lie that is too large for the card. */
class Pinned {
 public:
  explicit Pinned(const Memory& from) {
    cuda_bench::must(cudaHostAlloc(&data_, from.size(), cudaHostAllocMapped), "cudaHostAlloc");
    cuda_bench::must(cudaMemcpy(data_, from, from.size(), cudaMemcpyDeviceToHost), "cudaMemcpy");
  }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  ~Pinned() { cudaFreeHost(data_); }
  const void* data() const { return data_; }

 private:
  void* data_ = nullptr;
};

/* Ids as text has them: some tokens are frequent. Rows of dtable are counted once, those of dy each. */
void time_embedding(cuda_bench::Bench& bench, int64_t n) {
  std::mt19937_64 engine(3);
  std::vector<int32_t> ids;
  std::vector<bool> seen(kV);
  double distinct = 0;
  for (int64_t i = 0; i < n; i++) {
    const double u = std::uniform_real_distribution<double>(0, 1)(engine);
    ids.push_back(static_cast<int32_t>(static_cast<double>(kV - 1) * u * u * u));
    distinct += seen[static_cast<size_t>(ids.back())] ? 0 : 1;
    seen[static_cast<size_t>(ids.back())] = true;
  }
  const Memory table = normals(kV * kC, kType, 1, 1), dy = normals(n * kC, kType, 1, 2), at = cuda_bench::upload(ids);
  const Memory y(static_cast<size_t>(n * kC) * 2), dtable(static_cast<size_t>(kV * kC) * 4);
  cuda_bench::must(cudaMemset(dtable, 0, dtable.size()), "cudaMemset");
  const double row = static_cast<double>(kC);
  const auto time_forward = [&](const std::string& name, const void* from, const std::vector<int32_t>& tokens) {
    const Memory tokens_there = cuda_bench::upload(tokens);
    bench.time(name, shape(n, "4096"), kType, bytes(2 * kSize * row * static_cast<double>(n)),
               [&] { return oribi_embedding_forward(bench.ctx(), y, from, tokens_there.as<int32_t>(), n, kC, kV, kType); }, [&] {
                 std::vector<double> expected;
                 for (int64_t i = 0; i < kVerified; i++) {
                   const std::vector<double> one = download(table, tokens[i] * kC, kC, kType);
                   expected.insert(expected.end(), one.begin(), one.end());
                 }
                 return largest_error(rows(y, kC), expected) == 0;
               });
  };
  std::vector<int32_t> uniform;
  for (int64_t i = 0; i < n; i++) uniform.push_back(static_cast<int32_t>(engine() % kV));
  time_forward("embedding_forward", table, ids);
  time_forward("embedding_forward, any ids", table, uniform);
  if (bench.wanted("embedding_forward, host")) time_forward("embedding_forward, host", Pinned(table).data(), uniform);
  bench.time("embedding_backward", shape(n, "4096"), kType, bytes(row * (kSize * static_cast<double>(n) + 8 * distinct)),
             [&] { return oribi_embedding_backward(bench.ctx(), dtable.as<float>(), dy, at.as<int32_t>(), n, kC, kV, kType); }, [&] {
               std::vector<double> expected(kC);
               for (int64_t i = 0; i < n; i++) {
                 if (ids[i] != ids[0]) continue;
                 const std::vector<double> one = download(dy, i * kC, kC, kType);
                 for (int64_t j = 0; j < kC; j++) expected[j] += one[j];
               }
               return largest_error(download(dtable, ids[0] * kC, kC, ORIBI_F32), expected) <= 1e-5;
             });
}

}  // namespace

int main(int count, char** arguments) {
  cuda_bench::Bench bench(arguments, count);
  for (const int64_t n : {8192, 512}) {
    time_rms_norm(bench, n);
    time_head_norm(bench, n);
    time_rope(bench, n);
    time_glu(bench, n, ORIBI_SILU, "silu");
    time_glu(bench, n, ORIBI_GELU_TANH, "gelu_tanh");
    time_glu(bench, n, ORIBI_GELU_ERF, "gelu_erf");
    time_memory(bench, n);
    time_embedding(bench, n);
  }
}
