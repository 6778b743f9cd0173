/* How the kernels of grouped_sm90*.cu are launched. */
#ifndef ORIBI_CUDA_GROUPED_SM90_LAUNCH_CUH
#define ORIBI_CUDA_GROUPED_SM90_LAUNCH_CUH

#include <algorithm>

#include "cuda/grouped_sm90.cuh"
#include "cuda/grouped_sm90_kernel.cuh"
#include "cuda/lora_support.cuh"
#include "cuda/tensor_map.cuh"

namespace oribi::grouped90 {

/* Code for other architectures is empty, and says so through its launch bounds. */
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define ORIBI_SM90_THREADS kThreads
#else
#define ORIBI_SM90_THREADS 32
#endif

template <class P>
__global__ void __launch_bounds__(ORIBI_SM90_THREADS, 1) grouped_sm90_kernel(const __grid_constant__ Arguments a) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ uint8_t memory[];
  run<P>(a, memory);
#endif
}

/* The tensors as TMA is to read them, and dW as it is to add to it. */
template <class P>
void describe(Arguments* a, sm90::Maps* maps, const grouped::Arguments& at, int64_t n) {
  if constexpr (P::kDw) {
    if (!P::kGathersLeft) maps->matrix(&a->left, at.left, n, at.rows, at.ld_left, kDepth);
    if (!P::kGathersRight) maps->matrix(&a->right, at.right, n, at.columns, at.ld_right, kDepth);
    maps->stack(&a->out, at.out, at.experts, at.rows, at.columns, at.ld_out, at.expert_w, 64, true);
  } else {
    const bool forward = P::kForm == Grouped::kForward;
    if (!P::kGathersLeft) maps->matrix(&a->left, at.left, n, at.inner, at.ld_left, 64);
    maps->stack(&a->right, at.right, at.experts, forward ? at.columns : at.inner, forward ? at.inner : at.columns, at.ld_right, at.expert_w,
                forward ? kColumns : kDepth);
  }
}

template <class P>
oribi_status launch(oribi_ctx* ctx, const char* function, const grouped::Arguments& at, int64_t n) {
  Arguments a{};
  a.at = at;
  a.at.column_tiles = static_cast<int>((at.columns + kColumns - 1) / kColumns);
  a.at.row_tiles = static_cast<int>((at.rows + kRows - 1) / kRows);
  sm90::Maps maps(std::is_same<typename P::T, __half>::value ? ORIBI_F16 : ORIBI_BF16);
  describe<P>(&a, &maps, at, n);
  const oribi_status described = maps.status(ctx, function);
  if (described != ORIBI_OK) return described;
  cudaError_t error = allow_shared_memory<grouped_sm90_kernel<P>>(ctx);
  if (error != cudaSuccess) return cuda_status(ctx, function, error);
  /* How many tiles there are is known on the card alone; blocks without one end at once. */
  const int64_t rows = P::kDw ? static_cast<int64_t>(at.experts) * a.at.row_tiles : grouped::most_row_tiles(n, at.experts, kRows);
  const int64_t blocks = std::min<int64_t>(rows * a.at.column_tiles, static_cast<const CudaContext*>(ctx)->processors);
  grouped_sm90_kernel<P><<<static_cast<unsigned>(blocks), kThreads, P::kSharedBytes, stream_of(ctx)>>>(a);
  return launch_status(ctx, function);
}

}  // namespace oribi::grouped90
#endif
