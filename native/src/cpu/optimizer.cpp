/*
 * Math        p *= 1 - lr * wd;  m += (1 - beta1) * (g - m);  v = beta2 * v + (1 - beta2) * g^2
 *             p -= lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)          (PyTorch's order)
 *             sums: x and x^2; clip: grad_scale = min(1, max_norm / (norm + 1e-6))
 * Shapes      p, p16, m, v, g, x (count)
 * Layout      any count
 * Precision   AdamW fp32, its scalars worked out in double; sums double; p16 is p rounded to its storage type
 * Saved       m, v from step to step
 * Writes      p, m, v in place; p16, grad_scale, norm =; out = or +=
 * Determinism bit-exact for any number of threads: sums over fixed chunks, added in the order of the chunks
 * Limits      none
 */
#include <cmath>

#include "common/adamw.h"
#include "common/context.h"
#include "common/dtype.h"
#include "common/sum.h"
#include "cpu/parallel.h"

namespace oribi {
namespace {

void adamw_range(float* p, float* m, float* v, const float* g, float grad_scale, const AdamwScalars& s, int64_t begin,
                 int64_t end) {
#pragma omp simd
  for (int64_t i = begin; i < end; i++) {
    const float gradient = g[i] * grad_scale;
    m[i] += s.rest1 * (gradient - m[i]);
    v[i] = s.beta2 * v[i] + s.rest2 * gradient * gradient;
    p[i] = p[i] * s.decay - s.step_size * (m[i] / (std::sqrt(v[i]) / s.correction2_root + s.epsilon));
  }
}

/* Sixteen running sums, whatever the vector length, so that every instruction set adds in the same order. */
template <class Term>
double chunk_sum(const float* x, int64_t count, Term term) {
  constexpr int64_t kSums = 16;
  double sums[kSums] = {};
  int64_t i = 0;
  for (; i + kSums <= count; i += kSums)
    for (int64_t j = 0; j < kSums; j++) sums[j] += term(static_cast<double>(x[i + j]));
  for (int64_t j = 0; i < count; i++, j++) sums[j] += term(static_cast<double>(x[i]));
  double total = 0;
  for (double sum : sums) total += sum;
  return total;
}

template <class Term>
oribi_status sum_terms(oribi_ctx* ctx, const char* function, double* out, const float* x, void* workspace,
                       int64_t count, bool accumulate, Term term) {
  Check check(ctx, function);
  check.size("count", count).pointer("out", out).pointer("x", x, count).pointer("workspace", workspace, count);
  if (!check.ok()) return check.status();
  double* sums = static_cast<double*>(workspace);
  parallel_ranges(ctx, count, kSumChunk, [&](int64_t begin, int64_t end) {
    sums[begin / kSumChunk] = chunk_sum(x + begin, end - begin, term);
  });
  double total = accumulate ? *out : 0;
  for (int64_t i = 0; i < sum_chunks(count); i++) total += sums[i];
  *out = total;
  return ORIBI_OK;
}

}  // namespace
}  // namespace oribi

extern "C" oribi_status oribi_adamw(oribi_ctx* ctx, float* p, void* p16, float* m, float* v, const float* g,
                                    const float* grad_scale, const oribi_adamw_hyper* hyper, int64_t count,
                                    oribi_dtype t16) {
  oribi::Check check(ctx, "oribi_adamw");
  oribi::check_adamw(check, p, m, v, g, hyper, count, t16);
  oribi::check_hyper(check, hyper);
  if (!check.ok()) return check.status();
  const oribi::AdamwScalars scalars = oribi::adamw_scalars(*hyper);
  const float scale = grad_scale == nullptr ? 1.0f : *grad_scale;
  oribi::dispatch(t16, [&](auto type) {
    using T = decltype(type);
    T* rounded = static_cast<T*>(p16);
    oribi::parallel_ranges(ctx, count, oribi::kChunkElements, [&](int64_t begin, int64_t end) {
      oribi::adamw_range(p, m, v, g, scale, scalars, begin, end);
      if (rounded == nullptr) return;
#pragma omp simd
      for (int64_t i = begin; i < end; i++) rounded[i] = oribi::from_float<T>(p[i]);
    });
  });
  return ORIBI_OK;
}

extern "C" oribi_status oribi_sum_squares(oribi_ctx* ctx, double* out, const float* x, void* workspace, int64_t count,
                                          int32_t accumulate) {
  return oribi::sum_terms(ctx, "oribi_sum_squares", out, x, workspace, count, accumulate != 0,
                          [](double x) { return x * x; });
}

extern "C" oribi_status oribi_sum(oribi_ctx* ctx, double* out, const float* x, void* workspace, int64_t count,
                                  int32_t accumulate) {
  return oribi::sum_terms(ctx, "oribi_sum", out, x, workspace, count, accumulate != 0, [](double x) { return x; });
}

extern "C" int64_t oribi_sum_workspace(int64_t count) {
  return oribi::sum_workspace(count);
}

extern "C" oribi_status oribi_clip_scale(oribi_ctx* ctx, float* grad_scale, float* norm, const double* sum_squares,
                                         float max_norm) {
  oribi::Check check(ctx, "oribi_clip_scale");
  check.pointer("grad_scale", grad_scale).pointer("norm", norm).pointer("sum_squares", sum_squares);
  if (!check.ok()) return check.status();
  *norm = static_cast<float>(std::sqrt(*sum_squares));
  const float ratio = max_norm / (*norm + 1e-6f);
  *grad_scale = !(max_norm > 0) || ratio > 1 ? 1.0f : ratio; /* a NaN norm gives a NaN scale, as in PyTorch */
  return ORIBI_OK;
}
