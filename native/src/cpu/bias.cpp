/*
 * Math        y += b;  db += sum over rows of dy
 * Shapes      y, dy (rows,cols)  b, db (cols)
 * Layout      rows may be strided; any cols
 * Precision   storage fp32, bf16 or fp16; the sum y + b fp32, rounded once; db summed in fp32
 * Saved       nothing
 * Writes      y +=, db +=
 * Determinism bit-exact for any number of threads: db is summed over fixed chunks of rows, then chunk after chunk
 * Limits      none
 */
#include <cstring>

#include "common/context.h"
#include "common/dtype.h"
#include "common/rms_norm.h"
#include "cpu/norm_row.h"
#include "cpu/parallel.h"

namespace oribi {
namespace {

template <class T>
void add_bias(const oribi_ctx* ctx, T* y, const T* b, int64_t rows, int64_t cols, int64_t ld) {
  parallel_ranges(ctx, rows, rows_per_chunk(cols), [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      T* out = y + row * ld;
#pragma omp simd
      for (int64_t i = 0; i < cols; i++) out[i] = from_float<T>(to_float(out[i]) + to_float(b[i]));
    }
  });
}

template <class T>
void backward(const oribi_ctx* ctx, float* db, const T* dy, float* partials, int64_t rows, int64_t cols, int64_t ld) {
  const int64_t chunk = rows_per_partial(rows);
  parallel_ranges(ctx, rows, chunk, [=](int64_t begin, int64_t end) {
    float* partial = partials + begin / chunk * cols;
    std::memset(partial, 0, static_cast<size_t>(cols) * sizeof(float));
    for (int64_t row = begin; row < end; row++) {
      const T* in = dy + row * ld;
#pragma omp simd
      for (int64_t i = 0; i < cols; i++) partial[i] += to_float(in[i]);
    }
  });
  add_partials(ctx, db, partials, partials_of(rows), cols);
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_bias_add(oribi_ctx* ctx, void* y, const void* b, int64_t rows, int64_t cols, int64_t ld,
                                       oribi_dtype t) {
  Check check(ctx, "oribi_bias_add");
  check_bias(check, rows, cols, ld, t).pointer("y", y, rows * cols).pointer("b", b, rows > 0 ? cols : 0);
  if (!check.ok()) return check.status();
  dispatch(t, [&](auto type) {
    using T = decltype(type);
    add_bias(ctx, static_cast<T*>(y), static_cast<const T*>(b), rows, cols, ld);
  });
  return ORIBI_OK;
}

extern "C" oribi_status oribi_bias_backward(oribi_ctx* ctx, float* db, const void* dy, void* workspace, int64_t rows,
                                            int64_t cols, int64_t ld, oribi_dtype t) {
  Check check(ctx, "oribi_bias_backward");
  check_bias(check, rows, cols, ld, t).pointer("db", db, rows > 0 ? cols : 0).pointer("dy", dy, rows * cols);
  check.pointer("workspace", workspace, rows > 0 ? 1 : 0);
  if (!check.ok() || rows == 0) return check.status();
  dispatch(t, [&](auto type) {
    backward(ctx, db, static_cast<const decltype(type)*>(dy), static_cast<float*>(workspace), rows, cols, ld);
  });
  return ORIBI_OK;
}

extern "C" int64_t oribi_bias_backward_workspace(int64_t rows, int64_t cols) {
  return rms_norm_backward_workspace(rows, cols);
}
