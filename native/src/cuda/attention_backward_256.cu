/* Attention backward for heads of 130 to 256 elements. */
#include "cuda/attention_backward.cuh"

namespace oribi::attention {

/* 144 KB: eight warps with 128 registers of dk and dv each. */
using Keys = KeyTile<256, 64, 64, 1, 2, 4, 2, 4, 1>;
/* sm_86 and sm_89 have 99 KB: 68 KB. */
using MiddleKeys = KeyTile<256, 32, 32, 1, 2, 2, 1, 4, 1>;
/* sm_75 has 64 KB: 50 KB, and scores for two of four warps. */
using SmallKeys = KeyTile<256, 32, 16, 1, 2, 1, 2, 2, 1>;
using Queries = QueryTile<256, 4, 1, 32, 1, 2>;
using SmallQueries = QueryTile<256, 2, 1, 16, 1, 1>;

template <class T>
cudaError_t launch_backward_256(cudaStream_t stream, const BackwardArguments<T>& x, int32_t shared_bytes) {
  const bool small = shared_bytes < Queries::kBytes;
  const cudaError_t error = small ? launch_queries<T, SmallQueries>(stream, x) : launch_queries<T, Queries>(stream, x);
  if (error != cudaSuccess) return error;
  if (small) return launch_keys<T, SmallKeys>(stream, x);
  return shared_bytes < Keys::kBytes ? launch_keys<T, MiddleKeys>(stream, x) : launch_keys<T, Keys>(stream, x);
}

template cudaError_t launch_backward_256<__nv_bfloat16>(cudaStream_t, const BackwardArguments<__nv_bfloat16>&, int32_t);
template cudaError_t launch_backward_256<__half>(cudaStream_t, const BackwardArguments<__half>&, int32_t);

}  // namespace oribi::attention
