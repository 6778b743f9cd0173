/* Attention forward for heads of at most 64 elements. */
#include "cuda/attention_forward.cuh"

namespace oribi::attention {

/* 32 KB of shared memory and 160 registers a thread: three blocks a multiprocessor. */
using Tile = ForwardTile<64, 4, 2, 64, 3>;

template <class T>
cudaError_t launch_forward_64(cudaStream_t stream, const ForwardArguments<T>& x) {
  return launch_forward_tile<T, Tile>(stream, x);
}

template cudaError_t launch_forward_64<__nv_bfloat16>(cudaStream_t, const ForwardArguments<__nv_bfloat16>&);
template cudaError_t launch_forward_64<__half>(cudaStream_t, const ForwardArguments<__half>&);

}  // namespace oribi::attention
