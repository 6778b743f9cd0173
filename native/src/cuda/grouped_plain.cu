/*
 * The grouped products without tensor cores: fp32, sizes that are no multiples of 8, and bf16 where there is none. A block has
 * a tile of 64 x 64, a thread 4 x 4 of it; operands are read element by element and kept as fp32 in shared memory.
 */
#include "cuda/grouped_tiles.cuh"
#include "cuda/vector.cuh"

namespace oribi::grouped {
namespace {

constexpr int kTile = 64, kDepth = 16, kThreads = 256, kEach = 4, kLoads = kTile * kDepth / kThreads;

/* A tile of an operand, the summed index outermost; a row of 65 keeps a column's elements in different banks. */
struct Operand {
  float value[kDepth][kTile + 1];
};

/* from[first + i][k + depth], rows given by `rows` or where they stand, as value[depth][i]: the summed index is innermost. */
template <class T>
__device__ void read_along(Operand& to, const T* from, const int32_t* rows, int64_t ld, int64_t first, int64_t end, int64_t k, int64_t inner) {
#pragma unroll
  for (int j = 0; j < kLoads; j++) {
    const int i = threadIdx.x / kDepth + j * (kThreads / kDepth), depth = threadIdx.x % kDepth;
    const bool inside = first + i < end && k + depth < inner;
    const int64_t r = inside && rows != nullptr ? rows[first + i] : first + i;
    to.value[depth][i] = inside ? to_float(from[r * ld + k + depth]) : 0.0f;
  }
}

/* from[k + depth][first + i] as value[depth][i]: the summed index is outermost, and `rows` says where its rows are. */
template <class T>
__device__ void read_across(Operand& to, const T* from, const int32_t* rows, int64_t ld, int64_t first, int64_t end, int64_t k, int64_t inner) {
#pragma unroll
  for (int j = 0; j < kLoads; j++) {
    const int i = threadIdx.x % kTile, depth = threadIdx.x / kTile + j * (kThreads / kTile);
    const bool inside = first + i < end && k + depth < inner;
    const int64_t r = inside && rows != nullptr ? rows[k + depth] : k + depth;
    to.value[depth][i] = inside ? to_float(from[r * ld + first + i]) : 0.0f;
  }
}

__device__ void multiply(float (&c)[kEach][kEach], const Operand& left, const Operand& right) {
  const int down = threadIdx.x / 16 * kEach, along = threadIdx.x % 16;
#pragma unroll
  for (int k = 0; k < kDepth; k++) {
#pragma unroll
    for (int i = 0; i < kEach; i++)
#pragma unroll
      for (int j = 0; j < kEach; j++) c[i][j] += left.value[k][down + i] * right.value[k][along + 16 * j];
  }
}

template <class T, Grouped kForm>
__global__ void __launch_bounds__(kThreads) plain_kernel(const __grid_constant__ Arguments at) {
  __shared__ Operand left, right;
  const T *left_data = static_cast<const T*>(at.left), *right_data = static_cast<const T*>(at.right);
  const int slot = blockIdx.x / at.column_tiles;
  const int64_t column = static_cast<int64_t>(blockIdx.x % at.column_tiles) * kTile;
  int64_t row, end, k = 0, inner = at.inner, expert;
  if constexpr (kForm == Grouped::kDw) {
    expert = slot / at.row_tiles;
    row = static_cast<int64_t>(slot % at.row_tiles) * kTile;
    end = at.rows;
    k = at.offsets[expert];
    inner = at.offsets[expert + 1];
    if (k == inner) return;
  } else {
    const RowTile found = find_row_tile<kTile>(at.offsets, at.experts, slot);
    if (found.expert < 0) return;
    expert = found.expert;
    row = found.first;
    end = found.end;
  }
  float c[kEach][kEach] = {};
  for (; k < inner; k += kDepth) {
    if constexpr (kForm == Grouped::kDw) {
      read_across(left, left_data, at.left_row, at.ld_left, row, end, k, inner);
      read_across(right, right_data, at.right_row, at.ld_right, column, at.columns, k, inner);
    } else {
      read_along(left, left_data, at.left_row, at.ld_left, row, end, k, inner);
      const T* w = right_data + expert * at.expert_w;
      if constexpr (kForm == Grouped::kForward) read_along(right, w, nullptr, at.ld_right, column, at.columns, k, inner);
      if constexpr (kForm == Grouped::kDx) read_across(right, w, nullptr, at.ld_right, column, at.columns, k, inner);
    }
    __syncthreads();
    multiply(c, left, right);
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < kEach; i++)
#pragma unroll
    for (int j = 0; j < kEach; j++) {
      const int64_t r = row + threadIdx.x / 16 * kEach + i, along = column + threadIdx.x % 16 + 16 * j;
      if (r >= end || along >= at.columns) continue;
      const float value = at.scale * c[i][j];
      if constexpr (kForm == Grouped::kDw) {
        static_cast<float*>(at.out)[expert * at.expert_w + (at.transposed ? along * at.ld_out + r : r * at.ld_out + along)] += value;
      } else {
        T* to = static_cast<T*>(at.out) + r * at.ld_out + along;
        *to = from_float<T>((at.accumulate ? to_float(*to) : 0.0f) + value);
      }
    }
}

template <class T>
oribi_status launch(oribi_ctx* ctx, const char* function, Arguments at, int64_t n, Grouped form) {
  const auto tiles = [](int64_t size) { return (size + kTile - 1) / kTile; };
  const int64_t columns = tiles(at.columns), rows = tiles(at.rows);
  const int64_t slots = form == Grouped::kDw ? at.experts * rows : most_row_tiles(n, at.experts, kTile);
  if (slots > INT32_MAX / columns) {
    return fail(ctx, ORIBI_UNSUPPORTED, "%s: %lld rows of %lld columns are more tiles than a launch can have", function,
                static_cast<long long>(n), static_cast<long long>(at.columns));
  }
  at.column_tiles = static_cast<int>(columns);
  at.row_tiles = static_cast<int>(rows);
  const auto kernel = form == Grouped::kForward ? plain_kernel<T, Grouped::kForward> : form == Grouped::kDx ? plain_kernel<T, Grouped::kDx>
                                                                                                          : plain_kernel<T, Grouped::kDw>;
  kernel<<<static_cast<unsigned>(slots * columns), kThreads, 0, stream_of(ctx)>>>(at);
  return launch_status(ctx, function);
}

}  // namespace

oribi_status launch_plain(oribi_ctx* ctx, const char* function, const Arguments& at, int64_t n, Grouped form, oribi_dtype t) {
  switch (t) {
    case ORIBI_BF16:
      return launch<__nv_bfloat16>(ctx, function, at, n, form);
    case ORIBI_F16:
      return launch<__half>(ctx, function, at, n, form);
    default:
      return launch<float>(ctx, function, at, n, form);
  }
}

}  // namespace oribi::grouped
