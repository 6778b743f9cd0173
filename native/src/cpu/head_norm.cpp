/*
 * Math        for each head: rstd = 1 / sqrt(mean(x^2) + eps);  y = round(x * rstd) * w, or x * rstd * (1 + w)
 *             g = dy * w or dy * (1 + w), xhat = x * rstd:  dx = rstd * (g - xhat * mean(g * xhat));  dw = sum over heads of dy * xhat
 * Shapes      x, y, dx, dy (N,H,D)  w, dw (D)  rstd (N,H)
 * Layout      rows of x and y may be strided, heads within a row lie side by side; any D
 * Precision   storage fp32, bf16 or fp16; sums fp32 over a head; the product x * rstd is rounded to the storage type
 *             before it meets w, as in Hugging Face's Qwen3; with 1 + w all is fp32 and rounded once, as in Gemma 3
 * Saved       rstd, fp32
 * Writes      y =, rstd =, dx =, dw +=; y may be x, dx may be dy
 * Determinism bit-exact for any number of threads: dw is summed over fixed chunks of heads, then chunk after chunk
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

/* Where head number i of all N*H begins. */
int64_t head_at(int64_t i, const oribi_head_norm_shape& s, int64_t ld) { return i / s.h * ld + i % s.h * s.d; }

template <class T>
void forward(const oribi_ctx* ctx, T* y, float* rstd, const T* x, const T* w, const oribi_head_norm_shape& s) {
  parallel_ranges(ctx, s.n * s.h, rows_per_chunk(s.d), [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      normalize_row(y + head_at(i, s, s.ld_y), rstd + i, x + head_at(i, s, s.ld_x), w, s.d, s.eps, s.weight);
    }
  });
}

template <class T>
void backward(const oribi_ctx* ctx, T* dx, float* dw, const float* rstd, const T* dy, const T* x, const T* w,
              float* partials, const oribi_head_norm_shape& s) {
  const int64_t heads = s.n * s.h, chunk = dw != nullptr ? rows_per_partial(heads) : rows_per_chunk(s.d);
  parallel_ranges(ctx, heads, chunk, [=](int64_t begin, int64_t end) {
    float* partial = dw != nullptr ? partials + begin / chunk * s.d : nullptr;
    if (partial != nullptr) std::memset(partial, 0, static_cast<size_t>(s.d) * sizeof(float));
    for (int64_t i = begin; i < end; i++) {
      const int64_t at = head_at(i, s, s.ld_y);
      backward_row(dx + head_at(i, s, stride_of_dx(s)), partial, rstd[i], dy + at, x + head_at(i, s, s.ld_x), w, s.d, false, s.weight);
    }
  });
  if (dw != nullptr) add_partials(ctx, dw, partials, partials_of(heads), s.d);
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_head_norm_forward(oribi_ctx* ctx, void* y, float* rstd, const void* x, const void* w,
                                                const oribi_head_norm_shape* shape) {
  Check check(ctx, "oribi_head_norm_forward");
  if (!check.pointer("shape", shape).ok()) return check.status();
  const oribi_head_norm_shape s = *shape;
  if (!check_head_norm(check, s).ok()) return check.status();
  const int64_t count = s.n * s.h * s.d;
  check.pointer("y", y, count).pointer("rstd", rstd, count).pointer("x", x, count).pointer("w", w, count > 0 ? s.d : 0);
  if (!check.ok()) return check.status();
  dispatch(s.t, [&](auto type) {
    using T = decltype(type);
    forward(ctx, static_cast<T*>(y), rstd, static_cast<const T*>(x), static_cast<const T*>(w), s);
  });
  return ORIBI_OK;
}

extern "C" oribi_status oribi_head_norm_backward(oribi_ctx* ctx, void* dx, float* dw, const float* rstd, const void* dy,
                                                 const void* x, const void* w, void* workspace,
                                                 const oribi_head_norm_shape* shape) {
  Check check(ctx, "oribi_head_norm_backward");
  if (!check.pointer("shape", shape).ok()) return check.status();
  const oribi_head_norm_shape s = *shape;
  if (!check_head_norm(check, s).ok()) return check.status();
  const int64_t count = s.n * s.h * s.d;
  check.pointer("dx", dx, count).pointer("rstd", rstd, count).pointer("dy", dy, count).pointer("x", x, count);
  check.pointer("w", w, count > 0 ? s.d : 0).pointer("workspace", workspace, dw != nullptr && count > 0 ? 1 : 0);
  if (!check.ok()) return check.status();
  dispatch(s.t, [&](auto type) {
    using T = decltype(type);
    backward(ctx, static_cast<T*>(dx), dw, rstd, static_cast<const T*>(dy), static_cast<const T*>(x),
             static_cast<const T*>(w), static_cast<float*>(workspace), s);
  });
  return ORIBI_OK;
}

extern "C" int64_t oribi_head_norm_backward_workspace(int64_t n, int64_t h, int64_t d) {
  return head_norm_backward_workspace(n, h, d);
}
