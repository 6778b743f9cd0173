/* Attention forward for heads of at most 128 elements. */
#include "cuda/attention_forward.cuh"

namespace oribi::attention {

/* 64 KB, all that sm_75 has; o is 128 registers and S 64, so that two blocks fill the register file. Measured on an H100 at 1x8192,
   32/8 heads: 343 TFLOP/s; 16 rows a warp and three blocks 322 (but 268 against 257 at 2x2048); eight warps of 16 rows 304. */
using Tile = ForwardTile<128, 4, 2, 64, 2>;

template <class T>
cudaError_t launch_forward_128(cudaStream_t stream, const ForwardArguments<T>& x) {
  return launch_forward_tile<T, Tile>(stream, x);
}

template cudaError_t launch_forward_128<__nv_bfloat16>(cudaStream_t, const ForwardArguments<__nv_bfloat16>&);
template cudaError_t launch_forward_128<__half>(cudaStream_t, const ForwardArguments<__half>&);

}  // namespace oribi::attention
