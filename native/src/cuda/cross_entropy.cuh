/* What both kernels of cross_entropy do with a logit, and how they add up a row. */
#ifndef ORIBI_CUDA_CROSS_ENTROPY_CUH
#define ORIBI_CUDA_CROSS_ENTROPY_CUH

#include <cfloat>

#include "cuda/context.cuh"
#include "cuda/vector.cuh"

namespace oribi {

/* What every row has in common. */
struct LogitTransform {
  float scale, softcap;
};

/* z, and in slope dz/dlogit where it is wanted. */
template <bool kSoftcap>
__device__ inline float transformed(float logit, LogitTransform f, float* slope = nullptr) {
  const float z = logit * f.scale;
  if constexpr (!kSoftcap) {
    if (slope != nullptr) *slope = f.scale;
    return z;
  }
  const float t = tanhf(z / f.softcap);
  if (slope != nullptr) *slope = f.scale * (1 - t * t);
  return f.softcap * t;
}

/* The running maximum and the sum of exp(z - max). */
struct Running {
  float max, sum;

  /* Of nothing. The maximum begins finite, so that -infinity - max is no NaN. */
  __device__ static Running none() { return {-FLT_MAX, 0}; }

  /* NaN is passed over by the maximum: it turns up in the sum. */
  template <int kCount>
  __device__ void add(const float (&z)[kCount]) {
    float most = max;
#pragma unroll
    for (int k = 0; k < kCount; k++) most = fmaxf(most, z[k]);
    float terms = sum * __expf(max - most);
#pragma unroll
    for (int k = 0; k < kCount; k++) terms += __expf(z[k] - most);
    max = most;
    sum = terms;
  }
};

__device__ inline Running warp_total(Running r) {
  float most = r.max;
#pragma unroll
  for (int step = 16; step > 0; step /= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, step));
  r.sum *= __expf(r.max - most);
#pragma unroll
  for (int step = 16; step > 0; step /= 2) r.sum += __shfl_xor_sync(0xffffffffu, r.sum, step);
  r.max = most;
  return r;
}

/* Over all threads of the block, the same in each. */
template <int kThreads>
__device__ Running block_total(Running mine) {
  __shared__ Running warps[kThreads / 32];
  mine = warp_total(mine);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = mine;
  __syncthreads();
  return warp_total(threadIdx.x % 32 < kThreads / 32 ? warps[threadIdx.x % 32] : Running::none());
}

/* The gradient of one logit. inverse: 1 / sum. */
template <bool kSoftcap>
__device__ inline float gradient(float logit, LogitTransform f, float max, float inverse, float grad_scale, bool is_label) {
  float slope;
  const float softmax = __expf(transformed<kSoftcap>(logit, f, &slope) - max) * inverse;
  return (softmax - (is_label ? 1.0f : 0.0f)) * (grad_scale * slope);
}

/* The rows of a call, as the kernels take them. */
template <class T>
struct LogitRows {
  T* dlogits; /* or NULL */
  float* loss;
  const T* logits;
  const int32_t* labels;
  const float* grad_scale;
  int64_t n;
  int v;
  LogitTransform transform;
  int* fault;
};

/* Launches the kernel for GPUs with thread block clusters; false where it cannot run: the GPU has none, this library has no
   code for it, or rows do not begin at multiples of 16 bytes. */
bool launch_clusters(oribi_ctx* ctx, const LogitRows<float>& rows);
bool launch_clusters(oribi_ctx* ctx, const LogitRows<__nv_bfloat16>& rows);
bool launch_clusters(oribi_ctx* ctx, const LogitRows<__half>& rows);

}  // namespace oribi
#endif
