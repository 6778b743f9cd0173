/*
 * The parts that the forward and the backward pass of attention share: which rows and keys a tile holds, how tiles are
 * packed as fp32, and the one matrix product that all the arithmetic goes through.
 *
 * A "row" here is a pair (query, head of the group): row r of a group is query r / G and head r % G, so that the G
 * query heads that share a key head also share every packed tile of it. Rows lie along the vector lanes; a panel is two
 * vectors of rows, a block is kBlockRows rows. Scores are therefore kept as [key][row], and the softmax over keys is
 * made of plain vector maxima and sums, with no reduction across lanes.
 */
#ifndef ORIBI_CPU_ATTENTION_TILE_H
#define ORIBI_CPU_ATTENTION_TILE_H

#include <algorithm>
#include <cstdint>

#include "common/dtype.h"
#include "cpu/vec.h"
#include "oribi.h"

namespace oribi::attention {

constexpr int64_t kPanel = 2 * kLanes; /* rows in a panel */
constexpr int64_t kBlockRows = 128; /* rows that share one packing of a key tile */
constexpr int64_t kTileKeys = 64; /* 64 keys of D = 64 are 16 KiB, half of the smallest first-level cache */
/* Rows of the result in a register block: with two vectors a row, 16 of 32 registers on AVX-512, 8 of 16 else. */
constexpr int64_t kStep = kLanes == 16 ? 8 : 4;

inline int64_t round_up(int64_t x, int64_t multiple) { return (x + multiple - 1) / multiple * multiple; }

/* The head size as tiles hold it: a multiple of the vector's lanes and of kStep, padded with zeros. */
inline int64_t padded_head(int64_t d) { return round_up(d, std::max<int64_t>(kLanes, kStep)); }

/* c[kStep][Vectors*kLanes] (+)= sum over k of a(m,k) * b[k][:], where a(m,k) = a[m*a_m + k*a_k]. */
template <int Vectors>
inline void multiply_block(float* c, int64_t ldc, const float* a, int64_t a_m, int64_t a_k, const float* b, int64_t ldb,
                           int64_t count_k, bool accumulate) {
  vfloat sum[kStep][Vectors];
  for (int m = 0; m < kStep; m++)
    for (int i = 0; i < Vectors; i++) sum[m][i] = accumulate ? vload(c + m * ldc + i * kLanes) : vfloat{};
  for (int64_t k = 0; k < count_k; k++) {
    vfloat row[Vectors];
    for (int i = 0; i < Vectors; i++) row[i] = vload(b + k * ldb + i * kLanes);
    for (int m = 0; m < kStep; m++)
      for (int i = 0; i < Vectors; i++) sum[m][i] += a[m * a_m + k * a_k] * row[i];
  }
  for (int m = 0; m < kStep; m++)
    for (int i = 0; i < Vectors; i++) vstore(c + m * ldc + i * kLanes, sum[m][i]);
}

/* The same for count_m rows, a multiple of kStep. */
template <int Vectors>
inline void multiply(float* c, int64_t ldc, const float* a, int64_t a_m, int64_t a_k, const float* b, int64_t ldb,
                     int64_t count_m, int64_t count_k, bool accumulate) {
  for (int64_t m = 0; m < count_m; m += kStep)
    multiply_block<Vectors>(c + m * ldc, ldc, a + m * a_m, a_m, a_k, b, ldb, count_k, accumulate);
}

/* What one (sequence, key head) is: its queries, its keys, its heads. */
struct Group {
  int64_t query_begin, query_count;
  int64_t key_begin, key_count;
  int64_t kv_head, heads; /* heads = H / Hkv */
  int64_t window;         /* INT32_MAX: all */

  int64_t rows() const { return query_count * heads; }
  /* How many keys row r sees. */
  int64_t visible(int64_t r) const { return key_count - query_count + r / heads + 1; }
  int64_t query(int64_t r) const { return query_begin + r / heads; }
  int64_t head(int64_t r) const { return kv_head * heads + r % heads; }
};

/* A run of at most kBlockRows rows of a group. */
struct Block {
  int64_t first, count;
  int64_t window;
  int32_t visible[kBlockRows]; /* keys up to the row's own; rows beyond the last count as the last */

  int64_t panels() const { return (count + kPanel - 1) / kPanel; }
  int64_t last_visible() const { return visible[kBlockRows - 1]; }
  /* The first key that a row sees. */
  int64_t first_visible(int64_t row) const { return std::max<int64_t>(0, visible[row] - window); }
  /* Whether a row of the panel at `row` does not see the tile's first key. */
  bool behind(int64_t row, int64_t tile) const { return first_visible(row + kPanel - 1) > tile; }
  /* Whether no row of the panel sees any key of the tile, because all of them are behind the window. */
  bool past(int64_t row, int64_t tile) const { return first_visible(row) >= tile + kTileKeys; }
  /* Keys from `tile` on that the last row of the panel at `row` sees, at most a tile of them. */
  int64_t keys(int64_t row, int64_t tile) const {
    return std::min<int64_t>(kTileKeys, visible[row + kPanel - 1] - tile);
  }
};

inline Block block_of(const Group& group, int64_t index) {
  Block block;
  block.first = index * kBlockRows;
  block.window = group.window;
  block.count = std::min(kBlockRows, group.rows() - block.first);
  for (int64_t r = 0; r < kBlockRows; r++)
    block.visible[r] = static_cast<int32_t>(group.visible(block.first + std::min(r, block.count - 1)));
  return block;
}

/* tanh within 3 ulp: a polynomial near 0, from the exponential beyond. */
inline vfloat vtanh(vfloat x) {
  const vfloat z = x * x;
  vfloat p = z * -5.704988727e-3f + 2.063908880e-2f;
  p = p * z - 5.373971555e-2f;
  p = p * z + 1.333144220e-1f;
  p = p * z - 3.333328194e-1f;
  const vfloat near = x + x * z * p;
  const vfloat far = 1.0f - 2.0f / (1.0f + vexp(x + x));
  return vabs(x) < 0.625f ? near : far;
}

/* The scores of a panel become softcap * tanh(score / softcap). */
inline void cap_scores(float* s, int64_t keys, float softcap) {
  for (int64_t i = 0; i < keys * kPanel; i += kLanes) vstore(s + i, softcap * vtanh(vload(s + i) / softcap));
}

/* value of a vector of rows where a key lies behind the row's window; first: the first key each row sees, less the tile's. */
inline void hide_behind(float* s, vint first, int64_t keys, vfloat value) {
  for (int32_t j = 0; j < keys; j++) vstore(s + j * kPanel, j < first ? value : vload(s + j * kPanel));
}

/* The first key that each of kLanes rows sees, less the tile's first. */
inline vint first_seen(const Block& block, int64_t row, int64_t tile) {
  return vload(block.visible + row) - static_cast<int32_t>(block.window) - static_cast<int32_t>(tile);
}

/* tile[count][ld] = rows of x, converted; zeros up to ld and in the rows up to a multiple of kStep. */
template <class T>
void pack_keys(float* tile, int64_t ld, const T* x, int64_t ldx, int64_t count, int64_t d) {
  for (int64_t j = 0; j < count; j++) {
    for (int64_t i = 0; i < d; i++) tile[j * ld + i] = to_float(x[j * ldx + i]);
    std::fill(tile + j * ld + d, tile + (j + 1) * ld, 0.0f);
  }
  std::fill(tile + count * ld, tile + round_up(count, kStep) * ld, 0.0f);
}

/* tile[row][ld] = factor * x of the block's rows; zeros up to ld and in the rows up to a whole panel. */
template <class T>
void pack_rows(float* tile, int64_t ld, const T* x, int64_t ldx, const Group& group, const Block& block, int64_t d,
               float factor) {
  for (int64_t r = 0; r < block.count; r++) {
    const T* from = x + group.query(block.first + r) * ldx + group.head(block.first + r) * d;
    for (int64_t i = 0; i < d; i++) tile[r * ld + i] = to_float(from[i]) * factor;
    std::fill(tile + r * ld + d, tile + (r + 1) * ld, 0.0f);
  }
  std::fill(tile + block.count * ld, tile + block.panels() * kPanel * ld, 0.0f);
}

/* y[cols][ldy] = the transposed x[rows][ldx]; rows and cols are multiples of kLanes. */
inline void transpose(float* y, int64_t ldy, const float* x, int64_t ldx, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; r += kLanes)
    for (int64_t c = 0; c < cols; c += kLanes) {
      vfloat square[kLanes];
      for (int64_t i = 0; i < kLanes; i++) square[i] = vload(x + (r + i) * ldx + c);
      vtranspose(square);
      for (int64_t i = 0; i < kLanes; i++) vstore(y + (c + i) * ldy + r, square[i]);
    }
}

/* panels[panel][ld][kPanel] = the transposed tile[row][ld] */
inline void transpose_rows(float* panels, const float* tile, int64_t ld, int64_t panel_count) {
  for (int64_t row = 0; row < panel_count * kPanel; row += kPanel)
    transpose(panels + row * ld, kPanel, tile + row * ld, ld, kPanel, ld);
}

/* y of the block's rows = panels[panel][ld][kPanel] * factor[row]; tile: space for the rows. */
template <class T>
void unpack_rows(T* y, int64_t ldy, float* tile, const float* panels, int64_t ld, const float* factor,
                 const Group& group, const Block& block, int64_t d) {
  for (int64_t row = 0; row < block.panels() * kPanel; row += kPanel)
    transpose(tile + row * ld, ld, panels + row * ld, kPanel, ld, kPanel);
  for (int64_t r = 0; r < block.count; r++) {
    T* to = y + group.query(block.first + r) * ldy + group.head(block.first + r) * d;
    for (int64_t i = 0; i < d; i++) to[i] = from_float<T>(tile[r * ld + i] * factor[r]);
  }
}

}  // namespace oribi::attention
#endif
