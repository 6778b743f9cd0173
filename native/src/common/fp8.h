/*
 * e4m3 with one scale a row: what every kernel of it shares.
 *
 *   x = code * scale,   scale = max |x| of the row / 448,   code = x * (1 / scale), rounded to e4m3
 *
 * The quotients, the product and the rounding to a code are each rounded to nearest even in fp32, so that every device finds the
 * same codes. Rounding 1 / scale may bring the largest above 448 by two roundings of fp32: codes saturate.
 */
#ifndef ORIBI_COMMON_FP8_H
#define ORIBI_COMMON_FP8_H

#include <cstdint>

#include "common/context.h"

namespace oribi {

/* The largest number of e4m3: 1.75 * 2^8. A mantissa of ones beside the highest exponent is NaN, not 480. */
constexpr float kFp8Most = 448.0f;

/* 2^-126: below it a scale would be subnormal and its inverse infinite. A row of zeros has this scale and codes of zero. */
constexpr float kFp8LeastScale = 0x1p-126f;

/* NaN, which is what a row that holds NaN or infinity becomes. */
constexpr uint32_t kFp8NanScale = 0x7fc00000u;

/* The checks of both entry points, the same on every device. */
inline Check& check_fp8(Check& check, const oribi_fp8* q, const void* x, int64_t rows, int64_t cols, int64_t ld) {
  check.size("rows", rows).size("cols", cols).elements("x", rows, ld);
  check.that(ld >= cols, "ld must be at least cols = %lld, found %lld", static_cast<long long>(cols), static_cast<long long>(ld));
  if (!check.ok()) return check;
  check.pointer("q", q, rows * cols).pointer("x", x, rows * cols);
  if (!check.ok() || rows * cols == 0) return check;
  return check.pointer("q.codes", q->codes).pointer("q.scale", q->scale);
}

}  // namespace oribi
#endif
