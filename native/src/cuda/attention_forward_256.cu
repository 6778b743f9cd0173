/* Attention forward for heads of at most 256 elements. */
#include "cuda/attention_forward.cuh"

namespace oribi::attention {

/* 64 KB, all that sm_75 has; 16 rows of o are 128 registers. */
using Tile = ForwardTile<256, 4, 1, 32, 2>;

template <class T>
cudaError_t launch_forward_256(cudaStream_t stream, const ForwardArguments<T>& x) {
  return launch_forward_tile<T, Tile>(stream, x);
}

template cudaError_t launch_forward_256<__nv_bfloat16>(cudaStream_t, const ForwardArguments<__nv_bfloat16>&);
template cudaError_t launch_forward_256<__half>(cudaStream_t, const ForwardArguments<__half>&);

}  // namespace oribi::attention
