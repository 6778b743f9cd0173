/*
 * Math        y = x·Wᵀ + h·Bᵀ, h·Bᵀ on the columns of each adapter;  dx = dy·W + g·A
 *             h = scale * x·Aᵀ;  g = scale * dy·B;  dB += dyᵀ·h;  dA += gᵀ·x
 * Shapes      x, dx (N,in)  y, dy (N,out)  W (out,in)  h, g (N,R)  A, dA (R,in)  B, dB (sum of outs, rank)
 * Layout      row-major, row strides ld_x and ld_y; any in and out, in a multiple of 64 for NF4
 * Precision   storage fp32, bf16 or fp16, dA and dB fp32; sums fp32, one sum over the inner dimension and the rank, rounded
 *             once; an NF4 weight is rounded to the storage type before the product, as dequantization would
 * Saved       nothing; h is kept by the caller
 * Writes      y =, dx =, h =, g =, dA +=, dB +=
 * Determinism bit-exact for any number of threads: each sum is taken by one thread in the order of its index
 * Limits      none
 *
 * Two loops do all of it: sums of products of rows (dot), and sums of multiples of rows (add_multiple). A piece of work is
 * a tile whose operands, converted to fp32, fit in the first cache; nothing is allocated.
 */
#include "common/lora.h"

#include <algorithm>

#include "common/dtype.h"
#include "common/dynamic_map.h"
#include "common/nf4.h"
#include "cpu/parallel.h"

namespace oribi {
namespace {

constexpr int64_t kRows = 16;   /* of the output in a tile: so often a converted weight is used */
constexpr int64_t kColumns = 32; /* of the output in a tile of `by_rows` */
constexpr int64_t kDepth = 512; /* elements converted at a time: 16 rows of them are 32 KiB; a multiple of NF4's 64 */

constexpr DynamicMap kMap = make_dynamic_map(true);

/* A matrix of type T, in rows. */
template <class T>
struct Matrix {
  const T* data;
  int64_t ld;

  void read(float* to, int64_t row, int64_t column, int64_t count) const {
    const T* from = data + row * ld + column;
#pragma omp simd
    for (int64_t i = 0; i < count; i++) to[i] = to_float(from[i]);
  }
};

/* The same in NF4; columns are asked for in whole blocks of 64. */
template <class T>
struct Nf4Matrix {
  oribi_nf4 q;
  int64_t ld;

  void read(float* to, int64_t row, int64_t column, int64_t count) const {
    for (int64_t i = 0; i < count; i += kNf4Block) {
      const int64_t block = (row * ld + column + i) / kNf4Block;
      /* volatile: the product is rounded before the sum, as in dequantization, where the compiler would fuse them. */
      const volatile float scaled = kMap.value[q.absmax[block]] * q.absmax2[block / kNf4Group];
      const float scale = scaled + q.offset[0];
      const uint8_t* codes = q.codes + block * (kNf4Block / 2);
      for (int64_t j = 0; j < kNf4Block / 2; j++) {
        to[i + 2 * j] = round_to<T>(kNf4Values[codes[j] >> 4] * scale);
        to[i + 2 * j + 1] = round_to<T>(kNf4Values[codes[j] & 15] * scale);
      }
    }
  }
};

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

/* sum[i][j] += row i of x times row j of w, for a tile of `rows` x `columns` at (row, column) and `depth` elements. */
template <class X, class W>
void by_rows(float (&sum)[kRows][kColumns], const X& x, int64_t row, int64_t rows, const W& w, int64_t column,
             int64_t columns, int64_t depth) {
  alignas(64) float left[kRows][kDepth], right[kDepth];
  for (int64_t k = 0; k < depth; k += kDepth) {
    const int64_t count = std::min(kDepth, depth - k);
    for (int64_t i = 0; i < rows; i++) x.read(left[i], row + i, k, count);
    for (int64_t j = 0; j < columns; j++) {
      w.read(right, column + j, k, count);
      for (int64_t i = 0; i < rows; i++) sum[i][j] += dot(left[i], right, count);
    }
  }
}

/* sum[i] += sum over k of left(i, k) times row k of w, from `column` on. */
template <class Left, class W>
void by_multiples(float (&sum)[kRows][kDepth], Left&& left, int64_t rows, const W& w, int64_t depth, int64_t column,
                  int64_t count) {
  alignas(64) float right[kDepth];
  for (int64_t k = 0; k < depth; k++) {
    w.read(right, k, column, count);
    for (int64_t i = 0; i < rows; i++) add_multiple(sum[i], left(i, k), right, count);
  }
}

/* f(row, rows, column, columns) for the tiles of an output. */
template <class F>
void tiles(const oribi_ctx* ctx, int64_t n, int64_t columns, int64_t tile_columns, F&& f) {
  const int64_t across = chunks_of(columns, tile_columns);
  parallel_for(ctx, chunks_of(n, kRows) * across, [=](int64_t tile) {
    const int64_t row = tile / across * kRows, column = tile % across * tile_columns;
    f(row, std::min(kRows, n - row), column, std::min(tile_columns, columns - column));
  });
}

template <class T, class W>
void matmul(const oribi_ctx* ctx, T* y, const Matrix<T>& x, const W& w, const T* h, const T* b, const oribi_lora_shape& s) {
  const int64_t width = lora_width(s);
  tiles(ctx, s.n, s.out, kColumns, [=, &s](int64_t row, int64_t rows, int64_t column, int64_t columns) {
    float sum[kRows][kColumns] = {};
    by_rows(sum, x, row, rows, w, column, columns, s.in);
    for (int32_t p = 0; p < s.adapters; p++) {
      const int64_t begin = std::max(column, s.first_out[p]), end = std::min(column + columns, s.first_out[p] + s.outs[p]);
      if (begin >= end) continue;
      float part[kRows][kColumns] = {};
      by_rows(part, Matrix<T>{h + p * s.rank, width}, row, rows, Matrix<T>{b + lora_b_row(s, p) * s.rank, s.rank},
              begin - s.first_out[p], end - begin, s.rank);
      for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = begin; j < end; j++) sum[i][j - column] += part[i][j - begin];
      }
    }
    for (int64_t i = 0; i < rows; i++) {
      for (int64_t j = 0; j < columns; j++) y[(row + i) * s.ld_y + column + j] = from_float<T>(sum[i][j]);
    }
  });
}

template <class T, class W>
void matmul_dx(const oribi_ctx* ctx, T* dx, const T* dy, const W& w, const T* g, const T* a, const oribi_lora_shape& s) {
  const int64_t width = lora_width(s);
  tiles(ctx, s.n, s.in, kDepth, [=, &s](int64_t row, int64_t rows, int64_t column, int64_t columns) {
    alignas(64) float sum[kRows][kDepth] = {};
    by_multiples(sum, [=, &s](int64_t i, int64_t k) { return to_float(dy[(row + i) * s.ld_y + k]); }, rows, w, s.out,
                 column, columns);
    by_multiples(sum, [=](int64_t i, int64_t k) { return to_float(g[(row + i) * width + k]); }, rows,
                 Matrix<T>{a, s.in}, width, column, columns);
    for (int64_t i = 0; i < rows; i++) {
      for (int64_t j = 0; j < columns; j++) dx[(row + i) * s.ld_x + column + j] = from_float<T>(sum[i][j]);
    }
  });
}

template <class T>
void lora_h(const oribi_ctx* ctx, T* h, const T* x, const T* a, const oribi_lora_shape& s) {
  const int64_t width = lora_width(s);
  tiles(ctx, s.n, width, kColumns, [=, &s](int64_t row, int64_t rows, int64_t column, int64_t columns) {
    float sum[kRows][kColumns] = {};
    by_rows(sum, Matrix<T>{x, s.ld_x}, row, rows, Matrix<T>{a, s.in}, column, columns, s.in);
    for (int64_t i = 0; i < rows; i++) {
      for (int64_t j = 0; j < columns; j++) {
        h[(row + i) * width + column + j] = from_float<T>(s.scale[(column + j) / s.rank] * sum[i][j]);
      }
    }
  });
}

template <class T>
void lora_g(const oribi_ctx* ctx, T* g, const T* dy, const T* b, const oribi_lora_shape& s) {
  const int64_t width = lora_width(s);
  for (int32_t p = 0; p < s.adapters; p++) {
    const T* gradient = dy + s.first_out[p];
    const Matrix<T> rows_of_b{b + lora_b_row(s, p) * s.rank, s.rank};
    tiles(ctx, s.n, s.rank, kDepth, [=, &s](int64_t row, int64_t rows, int64_t column, int64_t columns) {
      alignas(64) float sum[kRows][kDepth] = {};
      by_multiples(sum, [=, &s](int64_t i, int64_t k) { return to_float(gradient[(row + i) * s.ld_y + k]); }, rows,
                   rows_of_b, s.outs[p], column, columns);
      for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < columns; j++) {
          g[(row + i) * width + p * s.rank + column + j] = from_float<T>(s.scale[p] * sum[i][j]);
        }
      }
    });
  }
}

/* d[rows, columns] += leftᵀ·right, both in rows of tokens. */
template <class T>
void add_gradient(const oribi_ctx* ctx, float* d, int64_t rows, int64_t columns, const Matrix<T>& left,
                  const Matrix<T>& right, int64_t n) {
  tiles(ctx, rows, columns, kDepth, [=](int64_t row, int64_t count, int64_t column, int64_t width) {
    alignas(64) float sum[kRows][kDepth] = {};
    by_multiples(sum, [=](int64_t i, int64_t k) { return to_float(left.data[k * left.ld + row + i]); }, count, right, n,
                 column, width);
    for (int64_t i = 0; i < count; i++) add_multiple(d + (row + i) * columns + column, 1, sum[i], width);
  });
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_lora_matmul(oribi_ctx* ctx, void* y, const void* x, const void* w, const oribi_nf4* nf4,
                                          const void* h, const void* b, const oribi_lora_shape* shape) {
  Check check(ctx, "oribi_lora_matmul");
  if (!check_lora_shape(check, shape) || !check_lora_weight(check, w, nf4, *shape)) return check.status();
  const oribi_lora_shape& s = *shape;
  const int64_t adapted = s.n * lora_width(s);
  check.pointer("y", y, s.n * s.out).pointer("x", x, s.n * s.in).pointer("h", h, adapted).pointer("b", b, adapted);
  if (!check.ok()) return check.status();
  dispatch(s.t, [&](auto type) {
    using T = decltype(type);
    const Matrix<T> input{static_cast<const T*>(x), s.ld_x};
    const T *h_of_t = static_cast<const T*>(h), *b_of_t = static_cast<const T*>(b);
    if (w != nullptr) {
      matmul(ctx, static_cast<T*>(y), input, Matrix<T>{static_cast<const T*>(w), s.in}, h_of_t, b_of_t, s);
    } else {
      matmul(ctx, static_cast<T*>(y), input, Nf4Matrix<T>{*nf4, s.in}, h_of_t, b_of_t, s);
    }
  });
  return ORIBI_OK;
}

extern "C" oribi_status oribi_lora_matmul_dx(oribi_ctx* ctx, void* dx, const void* dy, const void* w, const oribi_nf4* nf4,
                                             const void* g, const void* a, const oribi_lora_shape* shape) {
  Check check(ctx, "oribi_lora_matmul_dx");
  if (!check_lora_shape(check, shape) || !check_lora_weight(check, w, nf4, *shape)) return check.status();
  const oribi_lora_shape& s = *shape;
  const int64_t adapted = s.n * lora_width(s);
  check.pointer("dx", dx, s.n * s.in).pointer("dy", dy, s.n * s.out).pointer("g", g, adapted).pointer("a", a, adapted);
  if (!check.ok()) return check.status();
  dispatch(s.t, [&](auto type) {
    using T = decltype(type);
    const T *gradient = static_cast<const T*>(dy), *g_of_t = static_cast<const T*>(g), *a_of_t = static_cast<const T*>(a);
    if (w != nullptr) {
      matmul_dx(ctx, static_cast<T*>(dx), gradient, Matrix<T>{static_cast<const T*>(w), s.in}, g_of_t, a_of_t, s);
    } else {
      matmul_dx(ctx, static_cast<T*>(dx), gradient, Nf4Matrix<T>{*nf4, s.in}, g_of_t, a_of_t, s);
    }
  });
  return ORIBI_OK;
}

extern "C" oribi_status oribi_lora_h(oribi_ctx* ctx, void* h, const void* x, const void* a, void*,
                                     const oribi_lora_shape* shape) {
  Check check(ctx, "oribi_lora_h");
  if (!check_lora_shape(check, shape)) return check.status();
  const int64_t adapted = shape->n * lora_width(*shape);
  check.pointer("h", h, adapted).pointer("x", x, adapted).pointer("a", a, adapted);
  if (!check.ok() || adapted == 0) return check.status();
  dispatch(shape->t, [&](auto type) {
    using T = decltype(type);
    lora_h(ctx, static_cast<T*>(h), static_cast<const T*>(x), static_cast<const T*>(a), *shape);
  });
  return ORIBI_OK;
}

extern "C" oribi_status oribi_lora_forward(oribi_ctx* ctx, void* y, void* h, const void* x, const void* w, const oribi_nf4* nf4,
                                           const void* a, const void* b, void* workspace, const oribi_lora_shape* shape) {
  const oribi_status status = oribi_lora_h(ctx, h, x, a, workspace, shape);
  return status != ORIBI_OK ? status : oribi_lora_matmul(ctx, y, x, w, nf4, h, b, shape);
}

extern "C" oribi_status oribi_lora_g_db(oribi_ctx* ctx, void* g, float* db, const void* dy, const void* b, const void* h,
                                        void*, const oribi_lora_shape* shape) {
  Check check(ctx, "oribi_lora_g_db");
  if (!check_lora_shape(check, shape)) return check.status();
  const oribi_lora_shape& s = *shape;
  const int64_t adapted = s.n * lora_width(s);
  check.pointer("g", g, adapted).pointer("db", db, adapted).pointer("dy", dy, adapted);
  check.pointer("b", b, adapted).pointer("h", h, adapted);
  if (!check.ok() || adapted == 0) return check.status();
  dispatch(s.t, [&](auto type) {
    using T = decltype(type);
    const T *gradient = static_cast<const T*>(dy), *h_of_t = static_cast<const T*>(h);
    lora_g(ctx, static_cast<T*>(g), gradient, static_cast<const T*>(b), s);
    for (int32_t p = 0; p < s.adapters; p++) {
      add_gradient(ctx, db + lora_b_row(s, p) * s.rank, s.outs[p], s.rank, Matrix<T>{gradient + s.first_out[p], s.ld_y},
                   Matrix<T>{h_of_t + p * s.rank, lora_width(s)}, s.n);
    }
  });
  return ORIBI_OK;
}

extern "C" oribi_status oribi_lora_da(oribi_ctx* ctx, float* da, const void* g, const void* x, void*,
                                      const oribi_lora_shape* shape) {
  Check check(ctx, "oribi_lora_da");
  if (!check_lora_shape(check, shape)) return check.status();
  const oribi_lora_shape& s = *shape;
  const int64_t adapted = s.n * lora_width(s);
  check.pointer("da", da, adapted).pointer("g", g, adapted).pointer("x", x, adapted);
  if (!check.ok() || adapted == 0) return check.status();
  dispatch(s.t, [&](auto type) {
    using T = decltype(type);
    add_gradient(ctx, da, lora_width(s), s.in, Matrix<T>{static_cast<const T*>(g), lora_width(s)},
                 Matrix<T>{static_cast<const T*>(x), s.ld_x}, s.n);
  });
  return ORIBI_OK;
}

extern "C" int64_t oribi_lora_workspace(const oribi_ctx*, const oribi_lora_shape*) { return 0; }

extern "C" const char* oribi_lora_unsupported(oribi_ctx* ctx, const oribi_lora_shape* shape, int32_t nf4) {
  Check check(ctx, "oribi_lora_unsupported");
  if (!check_lora_shape(check, shape)) return oribi_ctx_message(ctx);
  check.that(nf4 == 0 || shape->in % 64 == 0, "in is %lld, expected a multiple of 64, the block of NF4",
             static_cast<long long>(shape->in));
  return check.ok() ? nullptr : oribi_ctx_message(ctx);
}
