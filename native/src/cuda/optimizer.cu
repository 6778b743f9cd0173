/*
 * Math        p *= 1 - lr * wd;  m += (1 - beta1) * (g - m);  v = beta2 * v + (1 - beta2) * g^2
 *             p -= lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)          (PyTorch's order)
 *             sums: x and x^2; clip: grad_scale = min(1, max_norm / (norm + 1e-6))
 * Shapes      p, p16, m, v, g, x (count)
 * Layout      any count; 16-byte aligned, the last count % 4 elements one by one
 * Precision   AdamW fp32, its scalars worked out in double; sums double; p16 is p rounded to its storage type
 * Saved       m, v from step to step
 * Writes      p, m, v in place; p16, grad_scale, norm =; out = or +=
 * Determinism bit-exact on one GPU: sums over fixed chunks in a fixed order, no atomics
 * Limits      count below 2^46. hyper, grad_scale and sum_squares are read on the device: their ranges are not checked here
 */
#include "common/adamw.h"
#include "common/sum.h"
#include "cuda/adamw.cuh"
#include "cuda/context.cuh"
#include "cuda/vector.cuh"

namespace oribi {
namespace {

constexpr int kThreads = 256;
constexpr int kWide = 4; /* floats in 16 bytes */
using Four = Pack<float, kWide>;

__device__ inline void update(float& p, float& m, float& v, float gradient, const AdamwScalars& s) {
  m += s.rest1 * (gradient - m);
  v = s.beta2 * v + s.rest2 * gradient * gradient;
  p = p * s.decay - s.step_size * (m / (sqrtf(v) / s.correction2_root + s.epsilon));
}

/* As many blocks as run at once: each works out the scalars once. A thread has 64 bytes under way. */
template <class T>
__global__ void __launch_bounds__(kThreads) adamw_kernel(float* p, T* p16, float* m, float* v, const float* g,
                                                         const float* grad_scale, const oribi_adamw_hyper* hyper, int64_t count) {
  const AdamwScalars s = block_scalars(hyper);
  const float scale = grad_scale == nullptr ? 1.0f : *grad_scale;
  const int64_t packs = count / kWide, threads = static_cast<int64_t>(gridDim.x) * kThreads;
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  for (int64_t i = thread; i < packs; i += threads) {
    Four a = reinterpret_cast<Four*>(p)[i], b = reinterpret_cast<Four*>(m)[i], c = reinterpret_cast<Four*>(v)[i];
    const Four d = reinterpret_cast<const Four*>(g)[i];
    Pack<T, kWide> rounded;
#pragma unroll
    for (int k = 0; k < kWide; k++) {
      update(a.element[k], b.element[k], c.element[k], d.element[k] * scale, s);
      rounded.element[k] = from_float<T>(a.element[k]);
    }
    reinterpret_cast<Four*>(p)[i] = a;
    reinterpret_cast<Four*>(m)[i] = b;
    reinterpret_cast<Four*>(v)[i] = c;
    if (p16 != nullptr) reinterpret_cast<Pack<T, kWide>*>(p16)[i] = rounded;
  }
  const int64_t last = packs * kWide + thread;
  if (last < count) {
    update(p[last], m[last], v[last], g[last] * scale, s);
    if (p16 != nullptr) p16[last] = from_float<T>(p[last]);
  }
}

/* --------------------------------------------------------------------------------------------------------------- sums */

/* The sum over the block of fp64 numbers, in thread 0. */
template <int kCount>
__device__ double block_sum_of(double x) {
  __shared__ double warps[kCount / 32];
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = x;
  __syncthreads();
  double sum = 0;
  for (double warp : warps) sum += warp;
  return sum;
}

template <bool kSquares>
__device__ inline double term(float x) {
  return kSquares ? static_cast<double>(x) * static_cast<double>(x) : static_cast<double>(x);
}

/* A block sums one chunk, all of which its threads load at once: two blocks fill a multiprocessor with 256 KiB under way. Four
   running sums a thread, so that an addition need not wait for the one before. */
constexpr int kSumThreads = 1024;
template <bool kSquares>
__global__ void __launch_bounds__(kSumThreads) chunk_kernel(double* sums, const float* x, int64_t count) {
  const int64_t begin = blockIdx.x * kSumChunk;
  const int64_t packs = (min(count, begin + kSumChunk) - begin) / kWide;
  double sum[kWide] = {};
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < packs; i += kSumThreads) {
    const Four four = reinterpret_cast<const Four*>(x + begin)[i];
#pragma unroll
    for (int k = 0; k < kWide; k++) sum[k] += term<kSquares>(four.element[k]);
  }
  const int64_t last = begin + packs * kWide + threadIdx.x;
  if (last < min(count, begin + kSumChunk)) sum[0] += term<kSquares>(x[last]);
  const double total = block_sum_of<kSumThreads>(sum[0] + sum[1] + (sum[2] + sum[3]));
  if (threadIdx.x == 0) sums[blockIdx.x] = total;
}

constexpr int kFinalThreads = 1024;
__global__ void __launch_bounds__(kFinalThreads) final_kernel(double* out, const double* sums, int64_t chunks, bool accumulate) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < chunks; i += kFinalThreads) sum += sums[i];
  const double total = block_sum_of<kFinalThreads>(sum);
  if (threadIdx.x == 0) *out = (accumulate ? *out : 0) + total;
}

template <bool kSquares>
oribi_status sum_terms(oribi_ctx* ctx, const char* function, double* out, const float* x, void* workspace, int64_t count,
                       bool accumulate) {
  Check check(ctx, function);
  check.size("count", count).pointer("out", out).pointer("x", x, count).pointer("workspace", workspace, count);
  if (!check.ok()) return check.status();
  const int64_t chunks = sum_chunks(count);
  if (chunks > INT32_MAX) {
    return fail(ctx, ORIBI_UNSUPPORTED, "%s: count is %lld, it must be below 2^46 on a GPU", function, static_cast<long long>(count));
  }
  const oribi_status status = select_device(ctx, function);
  if (status != ORIBI_OK) return status;
  double* sums = static_cast<double*>(workspace);
  if (chunks > 0) chunk_kernel<kSquares><<<static_cast<unsigned>(chunks), kSumThreads, 0, stream_of(ctx)>>>(sums, x, count);
  final_kernel<<<1, kFinalThreads, 0, stream_of(ctx)>>>(out, sums, chunks, accumulate);
  return launch_status(ctx, function);
}

/* A NaN norm gives a NaN scale, as in PyTorch. */
__global__ void clip_kernel(float* grad_scale, float* norm, const double* sum_squares, float max_norm) {
  *norm = static_cast<float>(sqrt(*sum_squares));
  const float ratio = max_norm / (*norm + 1e-6f);
  *grad_scale = !(max_norm > 0) || ratio > 1 ? 1.0f : ratio;
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_adamw(oribi_ctx* ctx, float* p, void* p16, float* m, float* v, const float* g,
                                    const float* grad_scale, const oribi_adamw_hyper* hyper, int64_t count,
                                    oribi_dtype t16) {
  const char* const function = "oribi_adamw";
  Check check(ctx, function);
  check_adamw(check, p, m, v, g, hyper, count, t16);
  if (!check.ok() || count == 0) return check.status();
  const oribi_status status = select_device(ctx, function);
  if (status != ORIBI_OK) return status;
  dispatch_pack(t16, 1, [&](auto type, auto) {
    using T = decltype(type);
    const unsigned blocks = resident_blocks(ctx, adamw_kernel<T>, kThreads, (count + kThreads * kWide - 1) / (kThreads * kWide));
    adamw_kernel<<<blocks, kThreads, 0, stream_of(ctx)>>>(p, static_cast<T*>(p16), m, v, g, grad_scale, hyper, count);
  });
  return launch_status(ctx, function);
}

extern "C" oribi_status oribi_sum_squares(oribi_ctx* ctx, double* out, const float* x, void* workspace, int64_t count,
                                          int32_t accumulate) {
  return sum_terms<true>(ctx, "oribi_sum_squares", out, x, workspace, count, accumulate != 0);
}

extern "C" oribi_status oribi_sum(oribi_ctx* ctx, double* out, const float* x, void* workspace, int64_t count,
                                  int32_t accumulate) {
  return sum_terms<false>(ctx, "oribi_sum", out, x, workspace, count, accumulate != 0);
}

extern "C" int64_t oribi_sum_workspace(int64_t count) { return sum_workspace(count); }

extern "C" oribi_status oribi_clip_scale(oribi_ctx* ctx, float* grad_scale, float* norm, const double* sum_squares,
                                         float max_norm) {
  const char* const function = "oribi_clip_scale";
  Check check(ctx, function);
  check.pointer("grad_scale", grad_scale).pointer("norm", norm).pointer("sum_squares", sum_squares);
  if (!check.ok()) return check.status();
  const oribi_status status = select_device(ctx, function);
  if (status != ORIBI_OK) return status;
  clip_kernel<<<1, 1, 0, stream_of(ctx)>>>(grad_scale, norm, sum_squares, max_norm);
  return launch_status(ctx, function);
}
