/* Attention backward for heads of at most 64 elements. */
#include "cuda/attention_backward.cuh"

namespace oribi::attention {

/* 64.5 KB. On an H100 at 1x8192, 32/8 heads, 220 TFLOP/s of its four products; one stage 208, 128 keys and eight warps 202. */
using Keys = KeyTile<64, 64, 64, 2, 2, 2, 2, 2, 2>;
/* sm_75 has 64 KB. */
using SmallKeys = KeyTile<64, 64, 64, 1, 2, 2, 2, 2, 1>;
/* 64 KB. 371 TFLOP/s of its three products; 32 keys a step 321. */
using Queries = QueryTile<64, 4, 2, 64, 2, 2>;

template <class T>
cudaError_t launch_backward_64(cudaStream_t stream, const BackwardArguments<T>& x, int32_t shared_bytes) {
  const cudaError_t error = launch_queries<T, Queries>(stream, x);
  if (error != cudaSuccess) return error;
  return shared_bytes < Keys::kBytes ? launch_keys<T, SmallKeys>(stream, x) : launch_keys<T, Keys>(stream, x);
}

template cudaError_t launch_backward_64<__nv_bfloat16>(cudaStream_t, const BackwardArguments<__nv_bfloat16>&, int32_t);
template cudaError_t launch_backward_64<__half>(cudaStream_t, const BackwardArguments<__half>&, int32_t);

}  // namespace oribi::attention
