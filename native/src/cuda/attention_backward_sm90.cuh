/* Attention backward by Hopper's wgmma (attention_backward_sm90.cu), for the entry points of attention.cu. */
#ifndef ORIBI_CUDA_ATTENTION_BACKWARD_SM90_CUH
#define ORIBI_CUDA_ATTENTION_BACKWARD_SM90_CUH

#include "cuda/attention_layout.cuh"

namespace oribi::attention {

/* Whether these kernels take the shape: a card of compute capability 9.0 and code built for it; heads of 66 to 128 elements;
   rows as TMA can describe them, which at.wide says. */
bool backward_sm90_takes(const oribi_ctx* ctx, const Layout& at);

/* dq, dk and dv, after launch_delta. */
template <class T>
cudaError_t launch_backward_sm90(cudaStream_t stream, const BackwardArguments<T>& x);

}  // namespace oribi::attention
#endif
