/*
 * Two kernels of which the second reads what the first writes, and is launched while the first still runs, so that its launch
 * costs nothing. The second may begin when every block of the first has called release_next; what it does before
 * wait_for_previous must not depend on the first, nor write what the first reads. Before sm_90 kernels follow each other, and
 * these do nothing.
 */
#ifndef ORIBI_CUDA_DEPENDENT_CUH
#define ORIBI_CUDA_DEPENDENT_CUH

#include "cuda/context.cuh"

namespace oribi {

__device__ inline void release_next() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
__device__ inline void wait_for_previous() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* Launches the second kernel of such a pair. Code for older cards has no wait in it, whatever card it runs on: with that the
   kernels must follow each other. */
template <class... Parameters>
cudaError_t launch_dependent(oribi_ctx* ctx, void (*kernel)(Parameters...), unsigned blocks, unsigned threads, Parameters... parameters) {
  cudaFuncAttributes attributes{};
  const cudaError_t error = cudaFuncGetAttributes(&attributes, kernel);
  if (error != cudaSuccess) return error;
  cudaLaunchAttribute early[1];
  early[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early[0].val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(threads);
  config.stream = stream_of(ctx);
  config.attrs = early;
  config.numAttrs = attributes.ptxVersion >= 90 ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, parameters...);
}

}  // namespace oribi
#endif
