/*
 * e4m3 by its definition: the code of a number is found by looking at all of them. The scale and the product with its inverse
 * are roundings to fp32 that are part of the format, so they are float here.
 */
#ifndef ORIBI_REFERENCE_FP8_H
#define ORIBI_REFERENCE_FP8_H

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace reference {

struct Fp8 {
  std::vector<uint8_t> codes;
  std::vector<float> scale;
};

inline double fp8_value(uint8_t code) {
  const int exponent = code >> 3 & 15, fraction = code & 7;
  double magnitude = exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(8 + fraction, exponent - 10);
  if (exponent == 15 && fraction == 7) magnitude = std::numeric_limits<double>::quiet_NaN();
  return (code & 0x80) != 0 ? -magnitude : magnitude;
}

/* The nearest number; of two that are as near the one with the even code; beyond 448, 448. */
inline uint8_t fp8_code(double x) {
  if (std::isnan(x)) return 0x7f;
  uint8_t best = 0;
  for (int code = 1; code < 0x7f; code++) {
    const double distance = std::fabs(fp8_value(static_cast<uint8_t>(code)) - std::fabs(x));
    const double least = std::fabs(fp8_value(best) - std::fabs(x));
    if (distance < least || (distance == least && code % 2 == 0)) best = static_cast<uint8_t>(code);
  }
  return std::signbit(x) ? static_cast<uint8_t>(best | 0x80) : best;
}

/* x[rows,cols] without gaps. */
inline Fp8 fp8_quantize(const std::vector<double>& x, int64_t rows, int64_t cols) {
  Fp8 q;
  for (int64_t r = 0; r < rows; r++) {
    float most = 0;
    bool finite = true;
    for (int64_t i = r * cols; i < (r + 1) * cols; i++) {
      finite = finite && std::isfinite(x[i]);
      most = std::fmax(most, std::fabs(static_cast<float>(x[i])));
    }
    const float least = std::ldexp(1.0f, -126), quotient = most / 448;
    const float scale = !finite ? std::numeric_limits<float>::quiet_NaN() : quotient < least ? least : quotient;
    const float inverse = 1 / scale;
    q.scale.push_back(scale);
    for (int64_t i = r * cols; i < (r + 1) * cols; i++) {
      const float scaled = static_cast<float>(x[i]) * inverse;
      q.codes.push_back(fp8_code(scaled));
    }
  }
  return q;
}

inline std::vector<double> transposed(const std::vector<double>& x, int64_t rows, int64_t cols) {
  std::vector<double> y(x.size());
  for (int64_t r = 0; r < rows; r++) {
    for (int64_t c = 0; c < cols; c++) y[c * rows + r] = x[r * cols + c];
  }
  return y;
}

}  /* namespace reference */
#endif
