/* Attention backward for heads of 130 to 256 elements. */
#include "cuda/attention_backward.cuh"

namespace oribi::attention {

/* 16 keys of dk or dv are 128 registers, so that they take a kernel each: eight products instead of five. At most 97 KB. */
using Values = KeyTile<256, 4, 32, 1, kDvOnly>;
using Keys = KeyTile<256, 4, 32, 1, kDkOnly>;
/* sm_75 has 64 KB. */
using SmallValues = KeyTile<256, 2, 16, 1, kDvOnly>;
using SmallKeys = KeyTile<256, 2, 16, 1, kDkOnly>;
using Queries = QueryTile<256, 4, 1, 32, 1, 2>;
using SmallQueries = QueryTile<256, 2, 1, 16, 1, 1>;

template <class T>
cudaError_t launch_backward_256(cudaStream_t stream, const BackwardArguments<T>& x, int32_t shared_bytes) {
  const bool small = shared_bytes < Keys::kBytes;
  cudaError_t error = small ? launch_queries<T, SmallQueries>(stream, x) : launch_queries<T, Queries>(stream, x);
  if (error == cudaSuccess) error = small ? launch_keys<T, SmallValues>(stream, x) : launch_keys<T, Values>(stream, x);
  if (error == cudaSuccess) error = small ? launch_keys<T, SmallKeys>(stream, x) : launch_keys<T, Keys>(stream, x);
  return error;
}

template cudaError_t launch_backward_256<__nv_bfloat16>(cudaStream_t, const BackwardArguments<__nv_bfloat16>&, int32_t);
template cudaError_t launch_backward_256<__half>(cudaStream_t, const BackwardArguments<__half>&, int32_t);

}  // namespace oribi::attention
