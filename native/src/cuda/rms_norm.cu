/*
 * Math        rstd = 1 / sqrt(mean(x^2) + eps);  y = round(x * rstd) * w, or x * rstd * (1 + w)
 * Shapes      x, y, r, delta (N,C)  w (C)  rstd (N)
 * Layout      row-major, 16-byte aligned; C a multiple of 16 bytes' worth of elements is read 16 bytes at a time. A row of
 *             up to 2048 packs of 16 bytes is read once and stays in registers, a longer or odd one is read twice
 * Precision   storage fp32, bf16 or fp16; sums fp32 over a row; the product x * rstd is rounded to the storage type
 *             before it meets w, as in Hugging Face's Llama; with 1 + w all is fp32 and rounded once, as in Gemma
 * Saved       rstd, fp32
 * Writes      y =, r =, rstd =; r may be x
 * Determinism bit-exact on one GPU
 * Limits      N up to 2^31 - 1; more returns UNSUPPORTED
 */
#include "common/rms_norm.h"
#include "cuda/norm.cuh"

namespace oribi {
namespace {

template <class T>
struct Forward {
  T *r, *y;
  float* rstd;
  const T *x, *delta, *w; /* delta NULL: r is not written, x is normalised. Otherwise r = x + delta is */
  int64_t n, c;
  float eps, offset;
};

/* kThreads threads a row, which they hold in registers between its sum and its result: one read and one barrier. */
template <class T, int kThreads>
__global__ void __launch_bounds__(kThreads < kLeastThreads ? kLeastThreads : kThreads) forward_kernel(const Forward<T> f) {
  constexpr int kWidth = kWide<T>;
  __shared__ float warps[kThreads / 32];
  const int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  const int packs = static_cast<int>(f.c / kWidth);
  if (kThreads == 32 && row >= f.n) return; /* wider rows have a block of their own */
  Pack<T, kWidth> x[kPacks], w[kPacks];
#pragma unroll
  for (int j = 0; j < kPacks; j++) {
    const int i = static_cast<int>(threadIdx.x) + j * kThreads;
    if (i < packs) x[j] = pack_of<kWidth>(f.x, row, f.c, i);
  }
#pragma unroll
  for (int j = 0; j < kPacks; j++) {
    const int i = static_cast<int>(threadIdx.x) + j * kThreads;
    if (i < packs) w[j] = pack_of<kWidth>(f.w, 0, f.c, i); /* here, so that it comes while the sum is taken */
  }
  float sum = 0;
#pragma unroll
  for (int j = 0; j < kPacks; j++) {
    const int i = static_cast<int>(threadIdx.x) + j * kThreads;
    if (i >= packs) break;
    if (f.delta != nullptr) {
      x[j] = add(x[j], pack_of<kWidth>(f.delta, row, f.c, i));
      pack_of<kWidth>(f.r, row, f.c, i) = x[j];
    }
    sum += squares(x[j]);
  }
  const float scale = 1.0f / sqrtf(row_sum<kThreads>(sum, warps) / static_cast<float>(f.c) + f.eps);
  if (threadIdx.x == 0) f.rstd[row] = scale;
#pragma unroll
  for (int j = 0; j < kPacks; j++) {
    const int i = static_cast<int>(threadIdx.x) + j * kThreads;
    if (i >= packs) break;
    stay_packed(x[j]);
    pack_of<kWidth>(f.y, row, f.c, i) = normalized(x[j], w[j], scale, f.offset);
  }
}

/* Rows of any length. */
template <class T, int kWidth>
__global__ void __launch_bounds__(kLoopThreads) forward_loop_kernel(const Forward<T> f) {
  __shared__ float warps[kLoopThreads / 32];
  const int64_t row = blockIdx.x, packs = f.c / kWidth;
  float sum = 0;
  for (int64_t i = threadIdx.x; i < packs; i += kLoopThreads) {
    Pack<T, kWidth> x = pack_of<kWidth>(f.x, row, f.c, i);
    if (f.delta != nullptr) {
      x = add(x, pack_of<kWidth>(f.delta, row, f.c, i));
      pack_of<kWidth>(f.r, row, f.c, i) = x;
    }
    sum += squares(x);
  }
  const float scale = 1.0f / sqrtf(row_sum<kLoopThreads>(sum, warps) / static_cast<float>(f.c) + f.eps);
  if (threadIdx.x == 0) f.rstd[row] = scale;
  /* Each thread reads again what it wrote itself, so that no barrier is needed in between. */
  const T* in = f.delta != nullptr ? f.r : f.x;
  for (int64_t i = threadIdx.x; i < packs; i += kLoopThreads) {
    pack_of<kWidth>(f.y, row, f.c, i) =
        normalized(pack_of<kWidth>(in, row, f.c, i), pack_of<kWidth>(f.w, 0, f.c, i), scale, f.offset);
  }
}

template <class T>
void launch_forward(cudaStream_t stream, const Forward<T>& f) {
  const bool wide = f.c % kWide<T> == 0 && aligned({f.r, f.y, f.x, f.delta, f.w});
  const unsigned rows = static_cast<unsigned>(f.n);
  if (!wide) {
    forward_loop_kernel<T, 1><<<rows, kLoopThreads, 0, stream>>>(f);
    return;
  }
  const bool held = with_row_threads(f.c / kWide<T>, [&](auto threads) {
    constexpr int kThreads = decltype(threads)::value;
    launch_rows<kThreads>(f.n, [&](unsigned grid, dim3 block) { forward_kernel<T, kThreads><<<grid, block, 0, stream>>>(f); });
  });
  if (!held) forward_loop_kernel<T, kWide<T>><<<rows, kLoopThreads, 0, stream>>>(f);
}

oribi_status forward(oribi_ctx* ctx, const char* function, void* r, void* y, float* rstd, const void* x, const void* delta,
                     const void* w, int64_t n, int64_t c, float eps, oribi_norm_weight weight, oribi_dtype t) {
  if (n == 0) return ORIBI_OK;
  if (!fits_grid(n)) return too_large(ctx, function, n);
  const oribi_status status = select_device(ctx, function);
  if (status != ORIBI_OK) return status;
  dispatch_pack(t, 1, [&](auto type, auto) {
    using T = decltype(type);
    launch_forward<T>(stream_of(ctx), {static_cast<T*>(r), static_cast<T*>(y), rstd, static_cast<const T*>(x),
                                       static_cast<const T*>(delta), static_cast<const T*>(w), n, c, eps, offset_of(weight)});
  });
  return launch_status(ctx, function);
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
  return forward(ctx, "oribi_rms_norm_forward", nullptr, y, rstd, x, nullptr, w, n, c, eps, weight, t);
}

extern "C" oribi_status oribi_add_rms_norm_forward(oribi_ctx* ctx, void* r, void* y, float* rstd, const void* x,
                                                   const void* delta, const void* w, int64_t n, int64_t c, float eps,
                                                   oribi_norm_weight weight, oribi_dtype t) {
  Check check(ctx, "oribi_add_rms_norm_forward");
  check.size("n", n).size("c", c, 1).elements("x", n, c).dtype("t", t).pointer("r", r, n * c).pointer("y", y, n * c);
  check.pointer("rstd", rstd, n).pointer("x", x, n * c).pointer("delta", delta, n * c).pointer("w", w, n > 0 ? c : 0);
  if (!check_weight(check, weight).ok()) return check.status();
  return forward(ctx, "oribi_add_rms_norm_forward", r, y, rstd, x, delta, w, n, c, eps, weight, t);
}
