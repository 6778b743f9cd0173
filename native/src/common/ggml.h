/*
 * ggml's blocks: their sizes, their fields, and the checks that every device shares.
 *
 *   Q8_0         d, 32 int8                        w = d q
 *   Q4_0, Q5_0   d, [fifth bits], 16 bytes         w = d (q - 8),  d (q - 16)
 *   Q4_1, Q5_1   d, m, [fifth bits], 16 bytes      w = d q + m
 *   Q4_K, Q5_K   d, dmin, 12 B scales, [32 B fifth bits], 128 B    w = (d sc) q - (dmin m)      sc, m of 6 bits for each 32
 *   Q6_K         128 B low bits, 64 B high bits, 16 int8 sc, d     w = (d sc) (q - 32)          sc for each 16
 *
 * Each operation is rounded to fp32 in the order of the brackets and none is fused, so that every device finds ggml's bits.
 */
#ifndef ORIBI_COMMON_GGML_H
#define ORIBI_COMMON_GGML_H

#include <cstdint>

#include "common/context.h"

namespace oribi {

struct GgmlLayout {
  int32_t elements, bytes; /* of a block; 0: no such type */
};

constexpr GgmlLayout ggml_layout(int32_t type) {
  switch (type) {
    case ORIBI_GGML_F32: return {1, 4};
    case ORIBI_GGML_F16: return {1, 2};
    case ORIBI_GGML_BF16: return {1, 2};
    case ORIBI_GGML_Q4_0: return {32, 18};
    case ORIBI_GGML_Q4_1: return {32, 20};
    case ORIBI_GGML_Q5_0: return {32, 22};
    case ORIBI_GGML_Q5_1: return {32, 24};
    case ORIBI_GGML_Q8_0: return {32, 34};
    case ORIBI_GGML_Q4_K: return {256, 144};
    case ORIBI_GGML_Q5_K: return {256, 176};
    case ORIBI_GGML_Q6_K: return {256, 210};
    default: return {0, 0};
  }
}

/* The type is known and rows of cols elements are whole blocks. */
inline Check& check_ggml(Check& check, oribi_ggml_type type, const char* name, int64_t cols) {
  const GgmlLayout layout = ggml_layout(type);
  check.that(layout.elements != 0, "type is %d, which is none of oribi_ggml_type", static_cast<int>(type));
  if (!check.ok()) return check;
  return check.that(cols % layout.elements == 0, "%s must be a multiple of %d for this type, found %lld", name, layout.elements,
                    static_cast<long long>(cols));
}

inline Check& check_ggml_dequantize(Check& check, const void* w, const void* blocks, int64_t rows, int64_t cols, int64_t ld,
                                    oribi_ggml_type type, oribi_dtype t) {
  check.size("rows", rows).size("cols", cols).elements("w", rows, ld).dtype("t", t);
  check.that(ld >= cols, "ld must be at least cols = %lld, found %lld", static_cast<long long>(cols), static_cast<long long>(ld));
  if (!check.ok()) return check;
  return check_ggml(check, type, "cols", cols).pointer("w", w, rows * cols).pointer("blocks", blocks, rows * cols);
}

inline Check& check_ggml_embedding(Check& check, const void* y, const void* table, const int32_t* ids, int64_t n, int64_t c,
                                   int64_t v, oribi_ggml_type type, oribi_dtype t) {
  check.size("n", n).size("c", c, 1).size("v", v, 1).elements("y", n, c).elements("table", v, c).dtype("t", t);
  if (!check.ok()) return check;
  check_ggml(check, type, "c", c);
  return check.pointer("y", y, n * c).pointer("table", table, n * c).pointer("ids", ids, n);
}

inline Check& check_ggml_matmul(Check& check, const float* y, const float* x, const void* w, int64_t n, int64_t in, int64_t out,
                                int64_t ld_x, int64_t ld_y, oribi_ggml_type type, int64_t most_in) {
  check.size("n", n).size("in", in, 1).size("out", out).elements("x", n, ld_x).elements("y", n, ld_y).elements("w", out, in);
  check.that(ld_x >= in && ld_y >= out, "ld_x and ld_y must be at least in = %lld and out = %lld", static_cast<long long>(in),
             static_cast<long long>(out));
  check.that(in <= most_in, "in is %lld, expected at most %lld", static_cast<long long>(in), static_cast<long long>(most_in));
  if (!check.ok()) return check;
  return check_ggml(check, type, "in", in).pointer("y", y, n * out).pointer("x", x, n * in).pointer("w", w, n * out);
}

}  // namespace oribi
#endif
