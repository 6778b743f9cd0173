/* Attention forward for heads of at most 128 elements. */
#include "cuda/attention_forward.cuh"

namespace oribi::attention {

/* 64 KB, all that sm_75 has; o is 128 registers and S 64, so that two blocks fill the register file. */
using Tile = ForwardTile<128, 4, 2, 64, 2>;

template <class T>
cudaError_t launch_forward_128(cudaStream_t stream, const ForwardArguments<T>& x) {
  return launch_forward_tile<T, Tile>(stream, x);
}

template cudaError_t launch_forward_128<__nv_bfloat16>(cudaStream_t, const ForwardArguments<__nv_bfloat16>&);
template cudaError_t launch_forward_128<__half>(cudaStream_t, const ForwardArguments<__half>&);

}  // namespace oribi::attention
