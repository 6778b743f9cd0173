/* Attention backward for heads of 66 to 128 elements. */
#include "cuda/attention_backward.cuh"

namespace oribi::attention {

/* 80 KB, two blocks a multiprocessor. On an H100 at 1x8192, 32/8 heads, 290 TFLOP/s of its four products; a second stage 292,
   32 queries a step 231, 128 keys and eight warps 263. */
using Keys = KeyTile<128, 64, 64, 1, 2, 2, 2, 2, 2>;
/* sm_75 has 64 KB. */
using SmallKeys = KeyTile<128, 64, 32, 1, 2, 2, 2, 2, 1>;
/* 96 KB: dq is 128 registers, S and dP 64. On an H100 413 TFLOP/s of its three products; one stage 382, 16 rows a warp 302. */
using Queries = QueryTile<128, 4, 2, 32, 2, 2>;
using SmallQueries = QueryTile<128, 4, 1, 32, 1, 1>;

template <class T>
cudaError_t launch_backward_128(cudaStream_t stream, const BackwardArguments<T>& x, int32_t shared_bytes) {
  const bool small = shared_bytes < Queries::kBytes;
  const cudaError_t error = small ? launch_queries<T, SmallQueries>(stream, x) : launch_queries<T, Queries>(stream, x);
  if (error != cudaSuccess) return error;
  return small ? launch_keys<T, SmallKeys>(stream, x) : launch_keys<T, Keys>(stream, x);
}

template cudaError_t launch_backward_128<__nv_bfloat16>(cudaStream_t, const BackwardArguments<__nv_bfloat16>&, int32_t);
template cudaError_t launch_backward_128<__half>(cudaStream_t, const BackwardArguments<__half>&, int32_t);

}  // namespace oribi::attention
