/*
 * Math        for the rows i of each expert e:  y[i] = scale * x[x_row[i]]·W_eᵀ;  dx[i] = scale * dy[y_row[i]]·W_e
 *             dW_e = scale * sum over i of dy[y_row[i]]ᵀ·x[x_row[i]]
 * Shapes      x, dx (n,in)  y, dy (n,out)  W, dW (E,out,in)  offsets (E+1)  x_row, y_row (n)
 * Layout      row-major with strides, any in and out; x_row or y_row NULL: rows are read where they stand
 * Precision   storage fp32, bf16 or fp16, dW fp32; sums fp32, with what is added to, rounded once
 * Saved       nothing
 * Writes      y = or +=, dx = or +=, dW +=
 * Determinism bit-exact for any number of threads: each sum is taken by one thread in the order of its index
 * Limits      none; offsets are checked, x_row and y_row are not: they come from oribi_route
 *
 * A piece of work is 16 rows of one expert and some columns, whose operands fit in the first cache as fp32; nothing is
 * allocated. Pieces are counted expert by expert, which a thread finds by a walk over the offsets.
 */
#include <algorithm>

#include "common/dtype.h"
#include "common/experts.h"
#include "cpu/parallel.h"

namespace oribi {
namespace {

constexpr int64_t kRows = 16;    /* of the output in a tile: so often a converted row of a weight is used */
constexpr int64_t kColumns = 32; /* of y in a tile */
constexpr int64_t kDepth = 512;  /* elements converted at a time: 16 rows of them are 32 KiB */

template <class T>
void read(float* to, const T* from, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; i++) to[i] = to_float(from[i]);
}

float dot(const float* a, const float* b, int64_t count) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < count; i++) sum += a[i] * b[i];
  return sum;
}

void add_multiple(float* y, float factor, const float* x, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; i++) y[i] += factor * x[i];
}

int64_t at(const int32_t* rows, int64_t i) { return rows != nullptr ? rows[i] : i; }

template <class T>
void write(T* y, const float* sum, int64_t count, float scale, bool accumulate) {
  for (int64_t j = 0; j < count; j++) y[j] = from_float<T>((accumulate ? to_float(y[j]) : 0.0f) + scale * sum[j]);
}

/* f(expert, first row, rows, first column, columns) for tiles of kRows rows of one expert and tile_columns columns. */
template <class F>
void tiles(const oribi_ctx* ctx, const oribi_grouped_shape& s, int64_t columns, int64_t tile_columns, F&& f) {
  const int64_t across = chunks_of(columns, tile_columns);
  int64_t down = 0;
  for (int64_t e = 0; e < s.experts; e++) down += chunks_of(s.offsets[e + 1] - s.offsets[e], kRows);
  parallel_for(ctx, down * across, [=, &s](int64_t tile) {
    int64_t e = 0, left = tile / across;
    while (left >= chunks_of(s.offsets[e + 1] - s.offsets[e], kRows)) left -= chunks_of(s.offsets[e + 1] - s.offsets[e], kRows), e++;
    const int64_t row = s.offsets[e] + left * kRows, column = tile % across * tile_columns;
    f(e, row, std::min<int64_t>(kRows, s.offsets[e + 1] - row), column, std::min(tile_columns, columns - column));
  });
}

template <class T>
void matmul(const oribi_ctx* ctx, T* y, const T* x, const T* w, const oribi_grouped_shape& s) {
  tiles(ctx, s, s.out, kColumns, [=, &s](int64_t e, int64_t row, int64_t rows, int64_t column, int64_t columns) {
    alignas(64) float left[kRows][kDepth], right[kDepth];
    float sum[kRows][kColumns] = {};
    for (int64_t k = 0; k < s.in; k += kDepth) {
      const int64_t count = std::min(kDepth, s.in - k);
      for (int64_t i = 0; i < rows; i++) read(left[i], x + at(s.x_row, row + i) * s.ld_x + k, count);
      for (int64_t j = 0; j < columns; j++) {
        read(right, w + e * s.expert_w + (column + j) * s.ld_w + k, count);
        for (int64_t i = 0; i < rows; i++) sum[i][j] += dot(left[i], right, count);
      }
    }
    for (int64_t i = 0; i < rows; i++) write(y + (row + i) * s.ld_y + column, sum[i], columns, s.scale, s.accumulate != 0);
  });
}

template <class T>
void matmul_dx(const oribi_ctx* ctx, T* dx, const T* dy, const T* w, const oribi_grouped_shape& s) {
  tiles(ctx, s, s.in, kDepth, [=, &s](int64_t e, int64_t row, int64_t rows, int64_t column, int64_t columns) {
    alignas(64) float sum[kRows][kDepth] = {}, right[kDepth];
    for (int64_t k = 0; k < s.out; k++) {
      read(right, w + e * s.expert_w + k * s.ld_w + column, columns);
      for (int64_t i = 0; i < rows; i++) add_multiple(sum[i], to_float(dy[at(s.y_row, row + i) * s.ld_y + k]), right, columns);
    }
    for (int64_t i = 0; i < rows; i++) write(dx + (row + i) * s.ld_x + column, sum[i], columns, s.scale, s.accumulate != 0);
  });
}

template <class T>
void matmul_dw(const oribi_ctx* ctx, float* dw, const T* dy, const T* x, const oribi_grouped_shape& s) {
  const int64_t across = chunks_of(s.in, kDepth), down = chunks_of(s.out, kRows);
  parallel_for(ctx, s.experts * down * across, [=, &s](int64_t tile) {
    const int64_t e = tile / across / down, out = tile / across % down * kRows, column = tile % across * kDepth;
    const int64_t outs = std::min(kRows, s.out - out), columns = std::min(kDepth, s.in - column);
    if (s.offsets[e] == s.offsets[e + 1]) return;
    alignas(64) float sum[kRows][kDepth] = {}, right[kDepth];
    for (int64_t i = s.offsets[e]; i < s.offsets[e + 1]; i++) {
      read(right, x + at(s.x_row, i) * s.ld_x + column, columns);
      const T* left = dy + at(s.y_row, i) * s.ld_y + out;
      for (int64_t o = 0; o < outs; o++) add_multiple(sum[o], to_float(left[o]), right, columns);
    }
    for (int64_t o = 0; o < outs; o++) add_multiple(dw + e * s.expert_w + (out + o) * s.ld_w + column, s.scale, sum[o], columns);
  });
}

bool check_offsets(Check& check, const oribi_grouped_shape& s) {
  if (!check.ok()) return false;
  check.that(s.offsets[0] == 0, "offsets[0] is %d, expected 0", s.offsets[0]);
  for (int64_t e = 0; check.ok() && e < s.experts; e++) {
    check.that(s.offsets[e] <= s.offsets[e + 1] && s.offsets[e + 1] <= s.n, "offsets[%lld] is %d, expected %d to %lld",
               static_cast<long long>(e) + 1, s.offsets[e + 1], s.offsets[e], static_cast<long long>(s.n));
  }
  return check.ok();
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_grouped_matmul(oribi_ctx* ctx, void* y, const void* x, const void* w,
                                             const oribi_grouped_shape* shape) {
  Check check(ctx, "oribi_grouped_matmul");
  if (!check_grouped(check, shape, Grouped::kForward)) return check.status();
  check.pointer("y", y, shape->n).pointer("x", x, shape->n).pointer("w", w, shape->n);
  if (!check_offsets(check, *shape)) return check.status();
  dispatch(shape->t, [&](auto type) {
    using T = decltype(type);
    matmul(ctx, static_cast<T*>(y), static_cast<const T*>(x), static_cast<const T*>(w), *shape);
  });
  return ORIBI_OK;
}

extern "C" oribi_status oribi_grouped_matmul_dx(oribi_ctx* ctx, void* dx, const void* dy, const void* w,
                                                const oribi_grouped_shape* shape) {
  Check check(ctx, "oribi_grouped_matmul_dx");
  if (!check_grouped(check, shape, Grouped::kDx)) return check.status();
  check.pointer("dx", dx, shape->n).pointer("dy", dy, shape->n).pointer("w", w, shape->n);
  if (!check_offsets(check, *shape)) return check.status();
  dispatch(shape->t, [&](auto type) {
    using T = decltype(type);
    matmul_dx(ctx, static_cast<T*>(dx), static_cast<const T*>(dy), static_cast<const T*>(w), *shape);
  });
  return ORIBI_OK;
}

extern "C" oribi_status oribi_grouped_matmul_dw(oribi_ctx* ctx, float* dw, const void* dy, const void* x,
                                                const oribi_grouped_shape* shape) {
  Check check(ctx, "oribi_grouped_matmul_dw");
  if (!check_grouped(check, shape, Grouped::kDw)) return check.status();
  check.pointer("dw", dw, shape->n).pointer("dy", dy, shape->n).pointer("x", x, shape->n);
  if (!check_offsets(check, *shape)) return check.status();
  dispatch(shape->t, [&](auto type) {
    using T = decltype(type);
    matmul_dw(ctx, dw, static_cast<const T*>(dy), static_cast<const T*>(x), *shape);
  });
  return ORIBI_OK;
}
