/* Storage types on the device, loads and stores of several elements at once, and sums over a block. */
#ifndef ORIBI_CUDA_VECTOR_CUH
#define ORIBI_CUDA_VECTOR_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "oribi.h"

namespace oribi {

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline float to_float(__half x) { return __half2float(x); }

template <class T>
__device__ T from_float(float x);
template <>
__device__ inline float from_float<float>(float x) {
  return x;
}
template <>
__device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}
template <>
__device__ inline __half from_float<__half>(float x) {
  return __float2half_rn(x);
}

template <class T>
__device__ inline float round_to(float x) {
  return to_float(from_float<T>(x));
}

/* kWidth elements that move as one: 16 bytes where the row length allows it, one element where it does not. */
template <class T, int kWidth>
struct alignas(sizeof(T) * kWidth) Pack {
  T element[kWidth];
};

/* Calls f with a value of the storage type and an integral constant, the width of its packs for rows of c elements. */
template <int kWidth>
struct Width {
  static constexpr int value = kWidth;
};

template <class T, class F>
void dispatch_width(int64_t c, F&& f) {
  constexpr int kWide = 16 / sizeof(T);
  if (c % kWide == 0) {
    f(T{}, Width<kWide>{});
  } else {
    f(T{}, Width<1>{});
  }
}

template <class F>
void dispatch_pack(oribi_dtype t, int64_t c, F&& f) {
  switch (t) {
    case ORIBI_BF16:
      return dispatch_width<__nv_bfloat16>(c, f);
    case ORIBI_F16:
      return dispatch_width<__half>(c, f);
    default:
      return dispatch_width<float>(c, f);
  }
}

/* The sum over the block, the same in every thread and in every run. kThreads is a multiple of 32. */
template <int kThreads>
__device__ float block_sum(float x) {
  __shared__ float warps[kThreads / 32];
  for (int lane = 16; lane > 0; lane /= 2) x += __shfl_xor_sync(0xffffffffu, x, lane);
  __syncthreads(); /* the sum before this one has been read */
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = x;
  __syncthreads();
  float sum = 0;
  for (int i = 0; i < kThreads / 32; i++) sum += warps[i];
  return sum;
}

}  // namespace oribi
#endif
