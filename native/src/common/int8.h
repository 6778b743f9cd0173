/*
 * Weights in 8 bits, in blocks of 64 along each row: what every kernel of them shares.
 *
 *   w = code * scale,   code in [-127, 127],   scale = max |w| of the block / 127
 *
 * The quotient, the product and the rounding to a code are each rounded to nearest even in fp32, so that every device finds the
 * same codes and the same weights.
 */
#ifndef ORIBI_COMMON_INT8_H
#define ORIBI_COMMON_INT8_H

#include <cstdint>

#include "common/context.h"

namespace oribi {

/* Elements that share a scale. Against one scale a row of 4096, normal weights keep two thirds of the error, and real rows, whose
   largest weight is further out, less; the scales cost half a bit a weight. See docs/derivations/int8.md. */
constexpr int64_t kInt8Block = 64;

/* -128 is not used: a block's range is as wide on either side. */
constexpr int kInt8Most = 127;

/* The checks of both entry points, the same on every device. */
inline Check& check_int8(Check& check, const void* w, const oribi_int8* q, int64_t rows, int64_t cols, int64_t ld) {
  check.size("rows", rows).size("cols", cols).elements("w", rows, ld);
  check.that(cols % kInt8Block == 0, "cols must be a multiple of 64, found %lld", static_cast<long long>(cols));
  check.that(ld >= cols, "ld must be at least cols = %lld, found %lld", static_cast<long long>(cols), static_cast<long long>(ld));
  if (!check.ok()) return check;
  check.pointer("q", q, rows * cols).pointer("w", w, rows * cols);
  if (!check.ok() || rows * cols == 0) return check;
  return check.pointer("q.codes", q->codes).pointer("q.scale", q->scale);
}

}  // namespace oribi
#endif
