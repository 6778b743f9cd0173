/*
 * The grouped products of rows with the experts' matrices on sm_90a: a block for each processor, which goes from tile to tile of
 * 128 rows of one expert and 256 columns. TMA and wgmma, as the LoRA product has them (cuda/lora_matmul_sm90.cu).
 *
 * Math, Shapes, Layout, Precision, Saved, Writes, Determinism   as of grouped.cu
 * Limits      sm_90; tiles below 2^31
 *
 * A tile that begins among an expert's last rows reads on into the next one's and multiplies them too, but stores its own alone.
 * Rows that are read elsewhere than they stand come by copies of 16 bytes, for which the producers are a whole warpgroup.
 */
#include "cuda/grouped_sm90_launch.cuh"

namespace oribi::grouped {
namespace {

using grouped90::Gathered;
using grouped90::Policy;

template <class T>
oribi_status launch_form(oribi_ctx* ctx, const char* function, const Arguments& at, int64_t n, Grouped form) {
  const bool gathered = at.left_row != nullptr;
  if (form == Grouped::kForward) {
    return gathered ? grouped90::launch<Policy<T, Grouped::kForward, Gathered::left>>(ctx, function, at, n)
                    : grouped90::launch<Policy<T, Grouped::kForward, Gathered::none>>(ctx, function, at, n);
  }
  return gathered ? grouped90::launch<Policy<T, Grouped::kDx, Gathered::left>>(ctx, function, at, n)
                  : grouped90::launch<Policy<T, Grouped::kDx, Gathered::none>>(ctx, function, at, n);
}

/* Whether this library's code for the context's card, one of compute capability 9.0, is that for sm_90a. */
bool has_code(const oribi_ctx* ctx) {
  static const bool has = [ctx] {
    cudaFuncAttributes attributes{};
    cudaError_t error = cudaSetDevice(static_cast<const CudaContext*>(ctx)->index);
    if (error == cudaSuccess) {
      error = cudaFuncGetAttributes(&attributes, grouped90::grouped_sm90_kernel<Policy<__nv_bfloat16, Grouped::kForward, Gathered::none>>);
    }
    cudaGetLastError(); /* not the next launch's failure */
    return error == cudaSuccess && attributes.maxThreadsPerBlock > 32;
  }();
  return has;
}

}  // namespace

bool sm90_takes(const oribi_ctx* ctx, const Arguments& at, int64_t n, Grouped form) {
  if (static_cast<const CudaContext*>(ctx)->architecture != 90 || at.columns <= kMostThin || at.expert_w == 0) return false;
  const bool dw = form == Grouped::kDw;
  if (dw && (at.rows <= kMostThin || at.transposed || (at.left_row != nullptr && at.right_row != nullptr))) return false;
  const int64_t columns = (at.columns + grouped90::kColumns - 1) / grouped90::kColumns;
  const int64_t rows = dw ? at.experts * ((at.rows + grouped90::kRows - 1) / grouped90::kRows) : most_row_tiles(n, at.experts, grouped90::kRows);
  constexpr int64_t kMost = INT32_MAX - (1 << 16); /* coordinates and tiles, with a step beyond */
  return n <= kMost && at.columns <= kMost && at.inner <= kMost && at.rows <= kMost && rows <= kMost / columns && has_code(ctx);
}

oribi_status launch_sm90(oribi_ctx* ctx, const char* function, const Arguments& at, int64_t n, Grouped form, oribi_dtype t) {
  if (form == Grouped::kDw) return launch_sm90_dw(ctx, function, at, n, t);
  return t == ORIBI_BF16 ? launch_form<__nv_bfloat16>(ctx, function, at, n, form) : launch_form<__half>(ctx, function, at, n, form);
}

}  // namespace oribi::grouped
