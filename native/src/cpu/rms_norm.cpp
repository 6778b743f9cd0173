/*
 * Math        rstd = 1 / sqrt(mean(x^2) + eps);  y = round(x * rstd) * w, or x * rstd * (1 + w)
 *             g = dy * w or dy * (1 + w), xhat = x * rstd:  dx = rstd * (g - xhat * mean(g * xhat));  dw = sum over rows of dy * xhat
 * Shapes      x, y, r, delta, dx, dy (N,C)  w, dw (C)  rstd (N)
 * Layout      row-major, any C
 * Precision   storage fp32, bf16 or fp16; sums fp32 over a row; the product x * rstd is rounded to the storage type
 *             before it meets w, as in Hugging Face's Llama; with 1 + w all is fp32 and rounded once, as in Gemma
 * Saved       rstd, fp32
 * Writes      y =, r =, rstd =, dx = or +=, dw +=
 * Determinism bit-exact for any number of threads: dw is summed over fixed chunks of rows, then chunk after chunk
 * Limits      none
 */
#include <cstring>

#include "common/context.h"
#include "common/dtype.h"
#include "common/rms_norm.h"
#include "cpu/norm_row.h"
#include "cpu/parallel.h"

namespace oribi {
namespace {

template <class T>
void add_row(T* r, const T* x, const T* delta, int64_t c) {
#pragma omp simd
  for (int64_t i = 0; i < c; i++) r[i] = from_float<T>(to_float(x[i]) + to_float(delta[i]));
}

template <class T>
void forward(const oribi_ctx* ctx, T* r, T* y, float* rstd, const T* x, const T* delta, const T* w, int64_t n, int64_t c,
             float eps, oribi_norm_weight weight) {
  parallel_ranges(ctx, n, rows_per_chunk(c), [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      const T* in = x + row * c;
      if (delta != nullptr) {
        add_row(r + row * c, in, delta + row * c, c);
        in = r + row * c;
      }
      normalize_row(y + row * c, rstd + row, in, w, c, eps, weight);
    }
  });
}

template <class T>
void backward(const oribi_ctx* ctx, T* dx, float* dw, const float* rstd, const T* dy, const T* x, const T* w,
              float* partials, int64_t n, int64_t c, bool accumulate, oribi_norm_weight weight) {
  const int64_t chunk = dw != nullptr ? rows_per_partial(n) : rows_per_chunk(c);
  parallel_ranges(ctx, n, chunk, [=](int64_t begin, int64_t end) {
    float* partial = dw != nullptr ? partials + begin / chunk * c : nullptr;
    if (partial != nullptr) std::memset(partial, 0, static_cast<size_t>(c) * sizeof(float));
    for (int64_t row = begin; row < end; row++) {
      backward_row(dx + row * c, partial, rstd[row], dy + row * c, x + row * c, w, c, accumulate, weight);
    }
  });
  if (dw != nullptr) add_partials(ctx, dw, partials, partials_of(n), c);
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_rms_norm_forward(oribi_ctx* ctx, void* y, float* rstd, const void* x, const void* w,
                                               int64_t n, int64_t c, float eps, oribi_norm_weight weight,
                                               oribi_dtype t) {
  Check check(ctx, "oribi_rms_norm_forward");
  check.size("n", n).size("c", c, 1).elements("x", n, c).dtype("t", t);
  check.pointer("y", y, n * c).pointer("rstd", rstd, n).pointer("x", x, n * c).pointer("w", w, n > 0 ? c : 0);
  if (!check_weight(check, weight).ok()) return check.status();
  dispatch(t, [&](auto type) {
    using T = decltype(type);
    forward<T>(ctx, nullptr, static_cast<T*>(y), rstd, static_cast<const T*>(x), nullptr, static_cast<const T*>(w), n, c,
               eps, weight);
  });
  return ORIBI_OK;
}

extern "C" oribi_status oribi_add_rms_norm_forward(oribi_ctx* ctx, void* r, void* y, float* rstd, const void* x,
                                                   const void* delta, const void* w, int64_t n, int64_t c, float eps,
                                                   oribi_norm_weight weight, oribi_dtype t) {
  Check check(ctx, "oribi_add_rms_norm_forward");
  check.size("n", n).size("c", c, 1).elements("x", n, c).dtype("t", t).pointer("r", r, n * c).pointer("y", y, n * c);
  check.pointer("rstd", rstd, n).pointer("x", x, n * c).pointer("delta", delta, n * c).pointer("w", w, n > 0 ? c : 0);
  if (!check_weight(check, weight).ok()) return check.status();
  dispatch(t, [&](auto type) {
    using T = decltype(type);
    forward<T>(ctx, static_cast<T*>(r), static_cast<T*>(y), rstd, static_cast<const T*>(x), static_cast<const T*>(delta),
               static_cast<const T*>(w), n, c, eps, weight);
  });
  return ORIBI_OK;
}

extern "C" oribi_status oribi_rms_norm_backward(oribi_ctx* ctx, void* dx, float* dw, const float* rstd, const void* dy,
                                                const void* x, const void* w, void* workspace, int64_t n, int64_t c,
                                                int32_t accumulate, oribi_norm_weight weight, oribi_dtype t) {
  Check check(ctx, "oribi_rms_norm_backward");
  check.size("n", n).size("c", c, 1).elements("x", n, c).dtype("t", t).pointer("dx", dx, n * c);
  check.pointer("rstd", rstd, n).pointer("dy", dy, n * c).pointer("x", x, n * c).pointer("w", w, n > 0 ? c : 0);
  check.pointer("workspace", workspace, dw != nullptr && n > 0 ? 1 : 0);
  check.that(accumulate == 0 || n == 0 || dx != dy, "dx may be dy only when accumulate is 0");
  if (!check_weight(check, weight).ok()) return check.status();
  dispatch(t, [&](auto type) {
    using T = decltype(type);
    backward<T>(ctx, static_cast<T*>(dx), dw, rstd, static_cast<const T*>(dy), static_cast<const T*>(x),
                static_cast<const T*>(w), static_cast<float*>(workspace), n, c, accumulate != 0, weight);
  });
  return ORIBI_OK;
}

extern "C" int64_t oribi_rms_norm_backward_workspace(int64_t n, int64_t c) {
  return rms_norm_backward_workspace(n, c);
}
