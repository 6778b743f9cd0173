/*
 * What the grouped products of every kind share: their arguments, and which rows a block has.
 *
 * How many rows an expert has is known on the card alone. A launch has as many blocks as the worst division of the rows
 * needs, and each finds its expert by a walk over the offsets; those beyond the last tile end at once.
 */
#ifndef ORIBI_CUDA_GROUPED_TILES_CUH
#define ORIBI_CUDA_GROUPED_TILES_CUH

#include "common/experts.h"
#include "cuda/context.cuh"

namespace oribi::grouped {

/* out[rows, columns] = left · right, of each expert. Forward: x and Wᵀ; dx: dy and W; dw: dyᵀ and x, or, transposed, xᵀ and dy. */
struct Arguments {
  void* out;
  const void *left, *right;
  const int32_t *offsets, *left_row, *right_row; /* the last two NULL: rows are read where they stand */
  int64_t ld_left, ld_right, ld_out, expert_w;
  int64_t columns, inner;  /* of out, and summed over but for dw */
  int64_t rows;            /* of out, for dw */
  float scale;
  int experts, column_tiles, row_tiles; /* row_tiles for dw */
  int stages;
  bool accumulate, transposed;
};

/* Up to two thin tiles, of 32 columns, beat one wide one, of 128, of which they would use half. */
constexpr int64_t kMostThin = 64;

/* Tiles of kRows rows that the experts' rows make at most. */
inline int64_t most_row_tiles(int64_t n, int64_t experts, int64_t rows) {
  const int64_t partial = n < experts ? n : experts;
  return (n + partial * (rows - 1)) / rows;
}

/* The rows first .. end of one expert, of which a tile has kRows; expert -1: there is no such tile. */
struct RowTile {
  int expert, first, end;
};

/* Tile number `slot`, the same in every thread. Each lane of the first warp counts the tiles of some neighbouring experts. */
template <int kRows>
__device__ RowTile find_row_tile(const int32_t* offsets, int experts, int slot) {
  __shared__ RowTile found;
  if (threadIdx.x < 32) {
    const int lane = threadIdx.x, each = (experts + 31) / 32, begin = min(lane * each, experts), end = min(begin + each, experts);
    int own = 0;
    for (int e = begin; e < end; e++) own += (offsets[e + 1] - offsets[e] + kRows - 1) / kRows;
    int before = own;
    for (int step = 1; step < 32; step *= 2) {
      const int other = __shfl_up_sync(0xffffffffu, before, step);
      if (lane >= step) before += other;
    }
    before -= own;
    if (lane == 0) found.expert = -1;
    __syncwarp();
    if (slot >= before && slot < before + own) {
      int e = begin, left = slot - before;
      for (int tiles; left >= (tiles = (offsets[e + 1] - offsets[e] + kRows - 1) / kRows); e++) left -= tiles;
      found = {e, offsets[e] + left * kRows, offsets[e + 1]};
    }
  }
  __syncthreads();
  return found;
}

/* On tensor cores: T is bf16 or fp16, in and out and every stride a multiple of 8, every pointer of 16 bytes. */
oribi_status launch_mma(oribi_ctx* ctx, const char* function, const Arguments& at, int64_t n, Grouped form, oribi_dtype t);
/* Anything. */
oribi_status launch_plain(oribi_ctx* ctx, const char* function, const Arguments& at, int64_t n, Grouped form, oribi_dtype t);

}  // namespace oribi::grouped
#endif
