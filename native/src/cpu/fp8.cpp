/*
 * Math        scale = max |x| of a row / 448;  code = e4m3 nearest to x / scale;  x = code * scale
 * Shapes      x (rows, cols) with stride ld  codes (rows, cols)  scale (rows); transposed: codes (cols, rows)  scale (cols)
 * Layout      row-major; codes without gaps
 * Precision   fp32, each operation rounded to nearest even; codes saturate at 448
 * Saved       nothing
 * Writes      all of q =
 * Determinism bit-exact for any number of threads; codes and scale are the same bits on every device
 * Limits      none. A row of zeros stays zeros. One that holds NaN or infinity decodes to NaN, all of it: it is not hidden.
 *             One whose largest magnitude is below 448 * 2^-126 keeps the scale 2^-126
 */
#include "common/fp8.h"

#include <algorithm>
#include <cfloat>
#include <cmath>

#include "common/context.h"
#include "common/dtype.h"
#include "cpu/parallel.h"

namespace oribi {
namespace {

/* Columns that are transposed together: their codes of one row of x lie in so many rows of q. */
constexpr int64_t kColumns = 64;

/* A number as e4m3, without branches, so that a loop over it vectorises. */
inline uint8_t to_e4m3(float x) {
  constexpr uint32_t kLeastNormal = 0x3c800000u; /* 2^-6 */
  const uint32_t bits = float_bits(x), magnitude = bits & 0x7fffffffu;
  const uint32_t normal = (magnitude - 0x3c000000u + 0x7ffffu + ((magnitude >> 20) & 1u)) >> 20; /* exponent bias 7, not 127 */
  /* Subnormal numbers are 2^-9 apart, as fp32 is from 2^14 on: the addition rounds to them. */
  const uint32_t subnormal = float_bits(bits_float(magnitude) + 16384.0f) - 0x46800000u;
  const uint32_t finite = std::min(magnitude < kLeastNormal ? subnormal : normal, 0x7eu);
  const uint32_t code = magnitude > 0x7f800000u ? 0x7fu : finite;
  return static_cast<uint8_t>(code | ((bits >> 24) & 0x80u));
}

/* NaN has no sign here: 0x7f, as the card writes it. */
inline uint8_t encode(float x, float inverse) {
  const uint8_t code = to_e4m3(x * inverse);
  return (code & 0x7fu) == 0x7fu ? 0x7fu : code;
}

/* most: the largest magnitude as bits, among which NaN is the largest and infinity the next. */
inline float scale_of(uint32_t most) {
  if (most >= 0x7f800000u) return bits_float(kFp8NanScale);
  return std::max(bits_float(most) / kFp8Most, kFp8LeastScale);
}

template <class T>
void quantize(const oribi_ctx* ctx, const oribi_fp8& q, const T* x, int64_t rows, int64_t cols, int64_t ld) {
  parallel_ranges(ctx, rows, rows_per_chunk(cols), [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      const T* row = x + r * ld;
      uint32_t most = 0;
#pragma omp simd reduction(max : most)
      for (int64_t i = 0; i < cols; i++) most = std::max(most, float_bits(to_float(row[i])) & 0x7fffffffu);
      const float scale = scale_of(most), inverse = 1.0f / scale;
      uint8_t* codes = q.codes + r * cols;
#pragma omp simd
      for (int64_t i = 0; i < cols; i++) codes[i] = encode(to_float(row[i]), inverse);
      q.scale[r] = scale;
    }
  });
}

template <class T>
void quantize_transposed(const oribi_ctx* ctx, const oribi_fp8& q, const T* x, int64_t rows, int64_t cols, int64_t ld) {
  parallel_ranges(ctx, cols, kColumns, [=](int64_t begin, int64_t end) {
    const int64_t width = end - begin;
    uint32_t most[kColumns] = {};
    for (int64_t r = 0; r < rows; r++) {
      const T* row = x + r * ld + begin;
#pragma omp simd
      for (int64_t i = 0; i < width; i++) most[i] = std::max(most[i], float_bits(to_float(row[i])) & 0x7fffffffu);
    }
    float inverse[kColumns];
    for (int64_t i = 0; i < width; i++) {
      q.scale[begin + i] = scale_of(most[i]);
      inverse[i] = 1.0f / q.scale[begin + i];
    }
    for (int64_t r = 0; r < rows; r++) {
      const T* row = x + r * ld + begin;
      for (int64_t i = 0; i < width; i++) q.codes[(begin + i) * rows + r] = encode(to_float(row[i]), inverse[i]);
    }
  });
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_fp8_quantize(oribi_ctx* ctx, const oribi_fp8* q, const void* x, int64_t rows, int64_t cols,
                                           int64_t ld, oribi_dtype t) {
  Check check(ctx, "oribi_fp8_quantize");
  check_fp8(check, q, x, rows, cols, ld).dtype("t", t);
  if (!check.ok() || rows == 0 || cols == 0) return check.status();
  dispatch(t, [&](auto type) { quantize(ctx, *q, static_cast<const decltype(type)*>(x), rows, cols, ld); });
  return ORIBI_OK;
}

extern "C" oribi_status oribi_fp8_quantize_transposed(oribi_ctx* ctx, const oribi_fp8* q, const void* x, int64_t rows,
                                                      int64_t cols, int64_t ld, oribi_dtype t) {
  Check check(ctx, "oribi_fp8_quantize_transposed");
  check_fp8(check, q, x, rows, cols, ld).dtype("t", t);
  if (!check.ok() || rows == 0 || cols == 0) return check.status();
  dispatch(t, [&](auto type) { quantize_transposed(ctx, *q, static_cast<const decltype(type)*>(x), rows, cols, ld); });
  return ORIBI_OK;
}
