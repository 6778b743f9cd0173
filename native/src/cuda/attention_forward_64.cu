/* Attention forward for heads of at most 64 elements. */
#include "cuda/attention_forward.cuh"

namespace oribi::attention {

/* 32 KB of shared memory. Three blocks a multiprocessor would fit, but their 168 registers spill: 264 TFLOP/s on an H100 (1x8192,
   32/8 heads) against 304 of two. */
using Tile = ForwardTile<64, 4, 2, 64, 2>;

template <class T>
cudaError_t launch_forward_64(cudaStream_t stream, const ForwardArguments<T>& x) {
  return launch_forward_tile<T, Tile>(stream, x);
}

template cudaError_t launch_forward_64<__nv_bfloat16>(cudaStream_t, const ForwardArguments<__nv_bfloat16>&);
template cudaError_t launch_forward_64<__half>(cudaStream_t, const ForwardArguments<__half>&);

}  // namespace oribi::attention
