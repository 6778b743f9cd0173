/*
 * Math        rstd = 1 / sqrt(mean(x^2) + eps);  y = round(x * rstd) * w
 *             g = dy * w, xhat = x * rstd:  dx = rstd * (g - xhat * mean(g * xhat));  dw = sum over rows of dy * xhat
 * Shapes      x, y, r, delta, dx, dy (N,C)  w, dw (C)  rstd (N)
 * Layout      row-major, 16-byte aligned; C a multiple of 16 bytes' worth of elements is read 16 bytes at a time
 * Precision   storage fp32, bf16 or fp16; sums fp32 over a row; the product x * rstd is rounded to the storage type
 *             before it meets w, as in Hugging Face's Llama
 * Saved       rstd, fp32
 * Writes      y =, r =, rstd =, dx = or +=, dw +=
 * Determinism bit-exact on one GPU: no atomics; dw is summed over fixed chunks of rows, then chunk after chunk
 * Limits      N up to 2^31 - 1; more returns UNSUPPORTED
 */
#include "common/rms_norm.h"
#include "cuda/context.cuh"
#include "cuda/vector.cuh"

namespace oribi {
namespace {

/* A block takes a row; 256 threads with 16 bytes each cover 2048 bf16 elements in one step. Not yet tuned on any GPU. */
constexpr int kThreads = 256;

/* delta NULL: r is not written, x is normalised. Otherwise r = x + delta is. */
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads) forward_kernel(T* r, T* y, float* rstd, const T* x, const T* delta, const T* w,
                                                           int64_t c, float eps) {
  using P = Pack<T, kWidth>;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * c;
  const int64_t packs = c / kWidth;
  const P* in = reinterpret_cast<const P*>(x + row);
  float sum = 0;
  for (int64_t i = threadIdx.x; i < packs; i += kThreads) {
    P value = in[i];
    if (delta != nullptr) {
      const P other = reinterpret_cast<const P*>(delta + row)[i];
#pragma unroll
      for (int k = 0; k < kWidth; k++) {
        value.element[k] = from_float<T>(to_float(value.element[k]) + to_float(other.element[k]));
      }
      reinterpret_cast<P*>(r + row)[i] = value;
    }
#pragma unroll
    for (int k = 0; k < kWidth; k++) sum += to_float(value.element[k]) * to_float(value.element[k]);
  }
  const float scale = 1.0f / sqrtf(block_sum<kThreads>(sum) / static_cast<float>(c) + eps);
  if (threadIdx.x == 0) rstd[blockIdx.x] = scale;
  /* Each thread reads again what it wrote itself, so that no barrier is needed in between. */
  if (delta != nullptr) in = reinterpret_cast<const P*>(r + row);
  for (int64_t i = threadIdx.x; i < packs; i += kThreads) {
    P value = in[i];
    const P weight = reinterpret_cast<const P*>(w)[i];
#pragma unroll
    for (int k = 0; k < kWidth; k++) {
      value.element[k] = from_float<T>(round_to<T>(to_float(value.element[k]) * scale) * to_float(weight.element[k]));
    }
    reinterpret_cast<P*>(y + row)[i] = value;
  }
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads) dx_kernel(T* dx, const float* rstd, const T* dy, const T* x, const T* w,
                                                      int64_t c, bool accumulate) {
  using P = Pack<T, kWidth>;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * c;
  const int64_t packs = c / kWidth;
  const P* in_x = reinterpret_cast<const P*>(x + row);
  const P* in_dy = reinterpret_cast<const P*>(dy + row);
  const P* in_w = reinterpret_cast<const P*>(w);
  P* out = reinterpret_cast<P*>(dx + row);
  float dot = 0;
  for (int64_t i = threadIdx.x; i < packs; i += kThreads) {
    const P value = in_x[i], gradient = in_dy[i], weight = in_w[i];
#pragma unroll
    for (int k = 0; k < kWidth; k++) {
      dot += to_float(gradient.element[k]) * to_float(weight.element[k]) * to_float(value.element[k]);
    }
  }
  const float scale = rstd[blockIdx.x];
  const float mean = block_sum<kThreads>(dot) * scale / static_cast<float>(c);
  for (int64_t i = threadIdx.x; i < packs; i += kThreads) {
    const P value = in_x[i], gradient = in_dy[i], weight = in_w[i];
    P result{};
    if (accumulate) result = out[i];
#pragma unroll
    for (int k = 0; k < kWidth; k++) {
      const float g = to_float(gradient.element[k]) * to_float(weight.element[k]);
      const float d = scale * (g - to_float(value.element[k]) * scale * mean);
      result.element[k] = from_float<T>(accumulate ? to_float(result.element[k]) + d : d);
    }
    out[i] = result;
  }
}

/* The partial sum of one chunk of rows, a thread a column: neighbours read neighbours. */
template <class T>
__global__ void __launch_bounds__(kThreads) partial_kernel(float* partials, const float* rstd, const T* dy, const T* x,
                                                           int64_t n, int64_t c, int64_t chunk) {
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (column >= c) return;
  const int64_t begin = blockIdx.y * chunk, end = begin + chunk < n ? begin + chunk : n;
  float sum = 0;
  for (int64_t row = begin; row < end; row++) {
    sum += to_float(dy[row * c + column]) * (to_float(x[row * c + column]) * rstd[row]);
  }
  partials[blockIdx.y * c + column] = sum;
}

__global__ void __launch_bounds__(kThreads) add_partials_kernel(float* dw, const float* partials, int64_t count, int64_t c) {
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (column >= c) return;
  float sum = dw[column];
  for (int64_t p = 0; p < count; p++) sum += partials[p * c + column];
  dw[column] = sum;
}

oribi_status forward(oribi_ctx* ctx, const char* function, void* r, void* y, float* rstd, const void* x, const void* delta,
                     const void* w, int64_t n, int64_t c, float eps, oribi_dtype t) {
  if (n == 0) return ORIBI_OK;
  if (n > INT32_MAX) return fail(ctx, ORIBI_UNSUPPORTED, "%s: n is %lld, at most 2147483647 on a GPU", function, static_cast<long long>(n));
  const oribi_status status = select_device(ctx, function);
  if (status != ORIBI_OK) return status;
  dispatch_pack(t, c, [&](auto type, auto width) {
    using T = decltype(type);
    forward_kernel<T, decltype(width)::value><<<static_cast<unsigned>(n), kThreads, 0, stream_of(ctx)>>>(
        static_cast<T*>(r), static_cast<T*>(y), rstd, static_cast<const T*>(x), static_cast<const T*>(delta),
        static_cast<const T*>(w), c, eps);
  });
  return launch_status(ctx, function);
}

template <class T, int kWidth>
void launch_backward(cudaStream_t stream, T* dx, float* dw, const float* rstd, const T* dy, const T* x, const T* w,
                     float* partials, int64_t n, int64_t c, bool accumulate) {
  if (dw != nullptr) { /* first: dx may be written over dy */
    const unsigned columns = static_cast<unsigned>((c + kThreads - 1) / kThreads);
    const dim3 grid(columns, static_cast<unsigned>(partials_of(n)));
    partial_kernel<T><<<grid, kThreads, 0, stream>>>(partials, rstd, dy, x, n, c, rows_per_partial(n));
    add_partials_kernel<<<columns, kThreads, 0, stream>>>(dw, partials, partials_of(n), c);
  }
  dx_kernel<T, kWidth><<<static_cast<unsigned>(n), kThreads, 0, stream>>>(dx, rstd, dy, x, w, c, accumulate);
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_rms_norm_forward(oribi_ctx* ctx, void* y, float* rstd, const void* x, const void* w,
                                               int64_t n, int64_t c, float eps, oribi_dtype t) {
  Check check(ctx, "oribi_rms_norm_forward");
  check.size("n", n).size("c", c, 1).elements("x", n, c).dtype("t", t);
  check.pointer("y", y, n * c).pointer("rstd", rstd, n).pointer("x", x, n * c).pointer("w", w, n > 0 ? c : 0);
  if (!check.ok()) return check.status();
  return forward(ctx, "oribi_rms_norm_forward", nullptr, y, rstd, x, nullptr, w, n, c, eps, t);
}

extern "C" oribi_status oribi_add_rms_norm_forward(oribi_ctx* ctx, void* r, void* y, float* rstd, const void* x,
                                                   const void* delta, const void* w, int64_t n, int64_t c, float eps,
                                                   oribi_dtype t) {
  Check check(ctx, "oribi_add_rms_norm_forward");
  check.size("n", n).size("c", c, 1).elements("x", n, c).dtype("t", t).pointer("r", r, n * c).pointer("y", y, n * c);
  check.pointer("rstd", rstd, n).pointer("x", x, n * c).pointer("delta", delta, n * c).pointer("w", w, n > 0 ? c : 0);
  if (!check.ok()) return check.status();
  return forward(ctx, "oribi_add_rms_norm_forward", r, y, rstd, x, delta, w, n, c, eps, t);
}

extern "C" oribi_status oribi_rms_norm_backward(oribi_ctx* ctx, void* dx, float* dw, const float* rstd, const void* dy,
                                                const void* x, const void* w, void* workspace, int64_t n, int64_t c,
                                                int32_t accumulate, oribi_dtype t) {
  const char* const function = "oribi_rms_norm_backward";
  Check check(ctx, function);
  check.size("n", n).size("c", c, 1).elements("x", n, c).dtype("t", t).pointer("dx", dx, n * c);
  check.pointer("rstd", rstd, n).pointer("dy", dy, n * c).pointer("x", x, n * c).pointer("w", w, n > 0 ? c : 0);
  check.pointer("workspace", workspace, dw != nullptr && n > 0 ? 1 : 0);
  check.that(accumulate == 0 || n == 0 || dx != dy, "dx may be dy only when accumulate is 0");
  if (!check.ok() || n == 0) return check.status();
  if (n > INT32_MAX) return fail(ctx, ORIBI_UNSUPPORTED, "%s: n is %lld, at most 2147483647 on a GPU", function, static_cast<long long>(n));
  const oribi_status status = select_device(ctx, function);
  if (status != ORIBI_OK) return status;
  dispatch_pack(t, c, [&](auto type, auto width) {
    using T = decltype(type);
    launch_backward<T, decltype(width)::value>(stream_of(ctx), static_cast<T*>(dx), dw, rstd, static_cast<const T*>(dy),
                                               static_cast<const T*>(x), static_cast<const T*>(w),
                                               static_cast<float*>(workspace), n, c, accumulate != 0);
  });
  return launch_status(ctx, function);
}

extern "C" int64_t oribi_rms_norm_backward_workspace(int64_t n, int64_t c) { return rms_norm_backward_workspace(n, c); }
