/* What attention_rows.cu offers: attention without tensor cores, a query row at a time. */
#ifndef ORIBI_CUDA_ATTENTION_ROWS_CUH
#define ORIBI_CUDA_ATTENTION_ROWS_CUH

#include "cuda/attention_layout.cuh"

namespace oribi::attention {

/* Parts that the keys of a row are divided into; their results wait in split_floats of the workspace. */
int32_t splits_of(const Layout& at, int32_t processors);
/* An upper bound for every n, so that a workspace serves all smaller shapes. */
int64_t split_floats(const Shape& shape, int32_t processors);

template <class T>
cudaError_t launch_forward_rows(cudaStream_t stream, const ForwardArguments<T>& x, int32_t splits);

cudaError_t launch_backward_rows(cudaStream_t stream, const BackwardArguments<float>& x);

/* delta and lse2 of every row and head. */
template <class T>
cudaError_t launch_delta(cudaStream_t stream, const BackwardArguments<T>& x);

}  // namespace oribi::attention
#endif
