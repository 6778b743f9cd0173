/* The LoRA product on mma.sync, for every card; lora_matmul.cu chooses between it and that of sm_90a. */
#ifndef ORIBI_CUDA_LORA_MATMUL_MMA_CUH
#define ORIBI_CUDA_LORA_MATMUL_MMA_CUH

#include "cuda/context.cuh"

namespace oribi {

/* dx false: y[n,out] = x·Wᵀ + h·Bᵀ. dx true: y is dx[n,in] = x·W + h·b with x = dy, h = g, b = A. w NULL: nf4.
   Arguments have been checked, and lora_supported says ORIBI_OK. */
oribi_status lora_matmul_mma(oribi_ctx* ctx, const char* function, void* y, const void* x, const void* w,
                             const oribi_nf4* nf4, const void* h, const void* b, const oribi_lora_shape& shape, bool dx);

}  // namespace oribi
#endif
