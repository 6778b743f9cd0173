/*
 * dW_e += scale * dyᵀ·x over the rows of each expert on sm_90a: tiles of 128 x 256 of dW_e, both operands as they lie, rows
 * summed over (wgmma's transposed operands).
 *
 * Precision   fp32 sums, added to dW by TMA in the cache: one rounding, and sums below 2^-126 become 0
 * Determinism bit-exact on one GPU: one tile, and one addition, for each element of dW
 * Limits      sm_90; not both operands gathered
 *
 * The last step of an expert reaches into the next one's rows; the consumers overwrite those with zeros before they multiply.
 */
#include "cuda/grouped_sm90_launch.cuh"

namespace oribi::grouped {
namespace {

using grouped90::Gathered;
using grouped90::Policy;

template <class T>
oribi_status launch_gathered(oribi_ctx* ctx, const char* function, const Arguments& at, int64_t n) {
  if (at.left_row != nullptr) return grouped90::launch<Policy<T, Grouped::kDw, Gathered::left>>(ctx, function, at, n);
  if (at.right_row != nullptr) return grouped90::launch<Policy<T, Grouped::kDw, Gathered::right>>(ctx, function, at, n);
  return grouped90::launch<Policy<T, Grouped::kDw, Gathered::none>>(ctx, function, at, n);
}

}  // namespace

oribi_status launch_sm90_dw(oribi_ctx* ctx, const char* function, const Arguments& at, int64_t n, oribi_dtype t) {
  return t == ORIBI_BF16 ? launch_gathered<__nv_bfloat16>(ctx, function, at, n) : launch_gathered<__half>(ctx, function, at, n);
}

}  // namespace oribi::grouped
