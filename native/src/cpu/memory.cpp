/*
 * Math        cast: y = x;  cast_rows: y = (accumulate ? y : 0) + x;  add: y = a + b;  fill: y = value
 *             scale: y = x * scale, then softcap * tanh(y / softcap)
 *             gather_rows: y[i,:] = x[index[i],:];  scatter_rows: y[index[i],:] = x[i,:]
 * Shapes      x, y, a, b (count), or (rows, cols) with row strides; index (n)
 * Layout      any size; rows may be strided
 * Precision   storage fp32, bf16 or fp16; sums in fp32, rounded once; gather and scatter copy bits
 * Saved       nothing
 * Writes      y = ; cast_rows may y +=
 * Determinism bit-exact for any number of threads: every element is written once
 * Limits      none; the rows named by index are checked before anything is written
 */
#include <cmath>
#include <cstring>

#include "common/context.h"
#include "common/dtype.h"
#include "cpu/parallel.h"

namespace oribi {
namespace {

template <class Y, class X>
void cast(const oribi_ctx* ctx, Y* y, const X* x, int64_t count) {
  parallel_ranges(ctx, count, kChunkElements, [=](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; i++) y[i] = from_float<Y>(to_float(x[i]));
  });
}

template <class Y, class X>
void cast_row(Y* y, const X* x, int64_t cols, bool accumulate) {
  if (accumulate) {
#pragma omp simd
    for (int64_t i = 0; i < cols; i++) y[i] = from_float<Y>(to_float(y[i]) + to_float(x[i]));
  } else {
#pragma omp simd
    for (int64_t i = 0; i < cols; i++) y[i] = from_float<Y>(to_float(x[i]));
  }
}

template <class Y, class X>
void cast_rows(const oribi_ctx* ctx, Y* y, const X* x, int64_t rows, int64_t cols, int64_t ldy, int64_t ldx,
               bool accumulate) {
  parallel_ranges(ctx, rows, rows_per_chunk(cols), [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) cast_row(y + row * ldy, x + row * ldx, cols, accumulate);
  });
}

template <class T>
void add(const oribi_ctx* ctx, T* y, const T* a, const T* b, int64_t count) {
  parallel_ranges(ctx, count, kChunkElements, [=](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; i++) y[i] = from_float<T>(to_float(a[i]) + to_float(b[i]));
  });
}

template <class T>
void scale(const oribi_ctx* ctx, T* y, const T* x, int64_t count, float factor, float softcap) {
  parallel_ranges(ctx, count, kChunkElements, [=](int64_t begin, int64_t end) {
    if (softcap != 0) {
      for (int64_t i = begin; i < end; i++) y[i] = from_float<T>(softcap * std::tanh(to_float(x[i]) * factor / softcap));
    } else {
#pragma omp simd
      for (int64_t i = begin; i < end; i++) y[i] = from_float<T>(to_float(x[i]) * factor);
    }
  });
}

template <class T>
void fill(const oribi_ctx* ctx, T* y, int64_t count, T value) {
  parallel_ranges(ctx, count, kChunkElements, [=](int64_t begin, int64_t end) { std::fill(y + begin, y + end, value); });
}

/* What gather and scatter check alike. */
oribi_status check_rows(oribi_ctx* ctx, const char* function, const void* y, const void* x, const int32_t* index, int64_t n,
                        int64_t rows, int64_t c, int64_t ldy, int64_t ldx, oribi_dtype t) {
  Check check(ctx, function);
  check.size("n", n).size("rows", rows).size("c", c).size("ldy", ldy, c).size("ldx", ldx, c).dtype("t", t);
  check.elements("y", std::max(n, rows), ldy).elements("x", std::max(n, rows), ldx);
  check.pointer("y", y, n * c).pointer("x", x, n * c).pointer("index", index, n);
  for (int64_t i = 0; check.ok() && i < n; i++) {
    check.that(index[i] >= 0 && index[i] < rows, "index[%lld] is %d, expected 0 to %lld", static_cast<long long>(i),
               index[i], static_cast<long long>(rows) - 1);
  }
  return check.status();
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_cast(oribi_ctx* ctx, void* y, const void* x, int64_t count, oribi_dtype ty, oribi_dtype tx) {
  Check check(ctx, "oribi_cast");
  check.size("count", count).elements("x", count, 1).dtype("ty", ty).dtype("tx", tx);
  check.pointer("y", y, count).pointer("x", x, count);
  if (!check.ok()) return check.status();
  dispatch(ty, [&](auto to) {
    dispatch(tx, [&](auto from) {
      cast(ctx, static_cast<decltype(to)*>(y), static_cast<const decltype(from)*>(x), count);
    });
  });
  return ORIBI_OK;
}

extern "C" oribi_status oribi_cast_rows(oribi_ctx* ctx, void* y, const void* x, int64_t rows, int64_t cols, int64_t ldy,
                                        int64_t ldx, oribi_dtype ty, oribi_dtype tx, int32_t accumulate) {
  Check check(ctx, "oribi_cast_rows");
  check.size("rows", rows).size("cols", cols).size("ldy", ldy, cols).size("ldx", ldx, cols).dtype("ty", ty).dtype("tx", tx);
  check.elements("y", rows, ldy).elements("x", rows, ldx).pointer("y", y, rows * cols).pointer("x", x, rows * cols);
  if (!check.ok()) return check.status();
  dispatch(ty, [&](auto to) {
    dispatch(tx, [&](auto from) {
      cast_rows(ctx, static_cast<decltype(to)*>(y), static_cast<const decltype(from)*>(x), rows, cols, ldy, ldx,
                accumulate != 0);
    });
  });
  return ORIBI_OK;
}

extern "C" oribi_status oribi_add(oribi_ctx* ctx, void* y, const void* a, const void* b, int64_t count, oribi_dtype t) {
  Check check(ctx, "oribi_add");
  check.size("count", count).elements("y", count, 1).dtype("t", t);
  check.pointer("y", y, count).pointer("a", a, count).pointer("b", b, count);
  if (!check.ok()) return check.status();
  dispatch(t, [&](auto type) {
    using T = decltype(type);
    add(ctx, static_cast<T*>(y), static_cast<const T*>(a), static_cast<const T*>(b), count);
  });
  return ORIBI_OK;
}

extern "C" oribi_status oribi_scale(oribi_ctx* ctx, void* y, const void* x, int64_t count, float factor, float softcap,
                                    oribi_dtype t) {
  Check check(ctx, "oribi_scale");
  check.size("count", count).elements("y", count, 1).dtype("t", t).pointer("y", y, count).pointer("x", x, count);
  check.that(softcap >= 0, "softcap must not be negative, found %g", static_cast<double>(softcap));
  if (!check.ok()) return check.status();
  dispatch(t, [&](auto type) {
    using T = decltype(type);
    scale(ctx, static_cast<T*>(y), static_cast<const T*>(x), count, factor, softcap);
  });
  return ORIBI_OK;
}

extern "C" oribi_status oribi_fill(oribi_ctx* ctx, void* y, int64_t count, float value, oribi_dtype t) {
  Check check(ctx, "oribi_fill");
  check.size("count", count).elements("y", count, 1).dtype("t", t).pointer("y", y, count);
  if (!check.ok()) return check.status();
  dispatch(t, [&](auto type) {
    using T = decltype(type);
    fill(ctx, static_cast<T*>(y), count, from_float<T>(value));
  });
  return ORIBI_OK;
}

extern "C" oribi_status oribi_gather_rows(oribi_ctx* ctx, void* y, const void* x, const int32_t* index, int64_t n,
                                          int64_t rows, int64_t c, int64_t ldy, int64_t ldx, oribi_dtype t) {
  const oribi_status status = check_rows(ctx, "oribi_gather_rows", y, x, index, n, rows, c, ldy, ldx, t);
  if (status != ORIBI_OK) return status;
  const int64_t element = size_of(t);
  parallel_ranges(ctx, n, rows_per_chunk(c), [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      std::memcpy(static_cast<char*>(y) + i * ldy * element, static_cast<const char*>(x) + index[i] * ldx * element,
                  static_cast<size_t>(c * element));
    }
  });
  return ORIBI_OK;
}

extern "C" oribi_status oribi_scatter_rows(oribi_ctx* ctx, void* y, const void* x, const int32_t* index, int64_t n,
                                           int64_t rows, int64_t c, int64_t ldy, int64_t ldx, oribi_dtype t) {
  const oribi_status status = check_rows(ctx, "oribi_scatter_rows", y, x, index, n, rows, c, ldy, ldx, t);
  if (status != ORIBI_OK) return status;
  const int64_t element = size_of(t);
  parallel_ranges(ctx, n, rows_per_chunk(c), [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      std::memcpy(static_cast<char*>(y) + index[i] * ldy * element, static_cast<const char*>(x) + i * ldx * element,
                  static_cast<size_t>(c * element));
    }
  });
  return ORIBI_OK;
}
