/* What both AdamW kernels begin with. */
#ifndef ORIBI_CUDA_ADAMW_CUH
#define ORIBI_CUDA_ADAMW_CUH

#include "common/adamw.h"
#include "cuda/context.cuh"

namespace oribi {

/* The scalars of the step, worked out once a block, from a step that lies in device memory so that a captured launch can be
   replayed with another one. The two powers in fp64 take longest: a thread of its own warp for each. */
__device__ inline AdamwScalars block_scalars(const oribi_adamw_hyper* hyper) {
  __shared__ double corrections[2];
  __shared__ AdamwScalars scalars;
  if (threadIdx.x == 0) corrections[0] = adamw_correction(hyper->beta1, hyper->step);
  if (threadIdx.x == 32) corrections[1] = adamw_correction(hyper->beta2, hyper->step);
  __syncthreads();
  if (threadIdx.x == 0) scalars = adamw_scalars(*hyper, corrections[0], corrections[1]);
  __syncthreads();
  return scalars;
}

/* As many blocks of `threads` as run at once, for work of `needed` of them. */
template <class Kernel>
unsigned resident_blocks(oribi_ctx* ctx, Kernel kernel, int threads, int64_t needed) {
  int each = 1;
  cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, kernel, threads, 0);
  const int64_t most = static_cast<int64_t>(static_cast<CudaContext*>(ctx)->processors) * (each > 0 ? each : 1);
  return static_cast<unsigned>(needed < most ? needed : most);
}

}  // namespace oribi
#endif
