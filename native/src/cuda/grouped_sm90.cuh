/* The grouped products of grouped_sm90*.cu, for grouped.cu: by Hopper's warpgroups. */
#ifndef ORIBI_CUDA_GROUPED_SM90_CUH
#define ORIBI_CUDA_GROUPED_SM90_CUH

#include "cuda/grouped_tiles.cuh"

namespace oribi::grouped {

/* Whether these kernels take the product: a card of compute capability 9.0 and code built for it; bf16 or fp16 whose sizes,
   strides and beginnings are multiples of 8 elements, and neither side so thin that a tile would be mostly empty. */
bool sm90_takes(const oribi_ctx* ctx, const Arguments& at, int64_t n, Grouped form);

oribi_status launch_sm90(oribi_ctx* ctx, const char* function, const Arguments& at, int64_t n, Grouped form, oribi_dtype t);

/* Of them the gradient of the weights, which has a file of its own for the compiler's sake. */
oribi_status launch_sm90_dw(oribi_ctx* ctx, const char* function, const Arguments& at, int64_t n, oribi_dtype t);

}  // namespace oribi::grouped
#endif
