/*
 * ggml's blocks, one element at a time and in double, after the layouts of docs/derivations/ggml.md. A double holds every product
 * of the scales and codes exactly; `rounded` repeats the fp32 roundings that ggml's own expansion has.
 */
#ifndef ORIBI_REFERENCE_GGML_REF_H
#define ORIBI_REFERENCE_GGML_REF_H

#include <cmath>
#include <cstdint>

#include "oribi.h"

namespace reference {

struct GgmlSizes {
  int64_t elements, bytes;
};

inline GgmlSizes ggml_sizes(int type) {
  switch (type) {
    case ORIBI_GGML_Q4_0: return {32, 18};
    case ORIBI_GGML_Q4_1: return {32, 20};
    case ORIBI_GGML_Q5_0: return {32, 22};
    case ORIBI_GGML_Q5_1: return {32, 24};
    case ORIBI_GGML_Q8_0: return {32, 34};
    case ORIBI_GGML_Q4_K: return {256, 144};
    case ORIBI_GGML_Q5_K: return {256, 176};
    default: return {256, 210};
  }
}

/* An fp16 number of two bytes, finite. */
inline double ggml_half(const uint8_t* p) {
  const int bits = p[0] + 256 * p[1], exponent = bits / 1024 % 32, fraction = bits % 1024;
  const double size = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return bits >= 32768 ? -size : size;
}

inline float single(double x) { return static_cast<float>(x); }

/* Bit number i of the bytes from p on. */
inline int ggml_bit(const uint8_t* p, int i) { return p[i / 8] / (1 << i % 8) % 2; }

inline int ggml_nibble(const uint8_t* p, int byte, bool high) { return high ? p[byte] / 16 : p[byte] % 16; }

/* Element i of a block. */
inline float ggml_value(int type, const uint8_t* b, int i) {
  const double d = type == ORIBI_GGML_Q6_K ? ggml_half(b + 208) : ggml_half(b);
  switch (type) {
    case ORIBI_GGML_Q8_0: return single(d * static_cast<int8_t>(b[2 + i]));
    case ORIBI_GGML_Q4_0: return single(d * (ggml_nibble(b + 2, i % 16, i >= 16) - 8));
    case ORIBI_GGML_Q4_1: return single(single(d * ggml_nibble(b + 4, i % 16, i >= 16)) + ggml_half(b + 2));
    case ORIBI_GGML_Q5_0: return single(d * (ggml_nibble(b + 6, i % 16, i >= 16) + 16 * ggml_bit(b + 2, i) - 16));
    case ORIBI_GGML_Q5_1:
      return single(single(d * (ggml_nibble(b + 8, i % 16, i >= 16) + 16 * ggml_bit(b + 4, i))) + ggml_half(b + 2));
    case ORIBI_GGML_Q6_K: {
      const int half = i / 128, j = i % 128;
      const int low = ggml_nibble(b + 64 * half, j % 64, j >= 64);
      const int high = ggml_bit(b + 128 + 32 * half + j % 32, 2 * (j / 32)) + 2 * ggml_bit(b + 128 + 32 * half + j % 32, 2 * (j / 32) + 1);
      return single(single(d * static_cast<int8_t>(b[192 + i / 16])) * static_cast<double>(low + 16 * high - 32));
    }
    default: {
      const int g = i / 32, extra = type == ORIBI_GGML_Q5_K ? 32 : 0;
      const uint8_t* s = b + 4;
      const int sc = g < 4 ? s[g] % 64 : s[g + 4] % 16 + 16 * (s[g - 4] / 64);
      const int m = g < 4 ? s[g + 4] % 64 : s[g + 4] / 16 + 16 * (s[g] / 64);
      const int fifth = extra == 0 ? 0 : ggml_bit(b + 16 + i % 32, g);
      const int q = ggml_nibble(b + 16 + extra, 32 * (i / 64) + i % 32, g % 2 == 1) + 16 * fifth;
      return single(single(single(d * sc) * static_cast<double>(q)) - static_cast<double>(single(ggml_half(b + 2) * m)));
    }
  }
}

}  // namespace reference
#endif
