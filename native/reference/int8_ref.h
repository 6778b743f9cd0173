/*
 * Weights in 8 bits by their definition, one number at a time. Which code a number gets is decided by roundings to fp32, which
 * are part of the format, so that Real is float here; the errors are sums in double.
 */
#ifndef ORIBI_REFERENCE_INT8_H
#define ORIBI_REFERENCE_INT8_H

#include <cmath>
#include <cstdint>
#include <vector>

namespace reference {

struct Int8 {
  std::vector<int8_t> codes;
  std::vector<float> scale;
};

/* NaN and infinity: the scale is no finite number, and all codes are 0. */
inline Int8 int8_quantize(const std::vector<double>& w) {
  Int8 q;
  for (size_t begin = 0; begin < w.size(); begin += 64) {
    float most = 0;
    for (size_t i = begin; i < begin + 64; i++) {
      const float magnitude = std::fabs(static_cast<float>(w[i]));
      if (std::isnan(magnitude) || magnitude > most) most = magnitude;
      if (std::isnan(most)) break;
    }
    const float scale = most / 127;
    q.scale.push_back(scale);
    for (size_t i = begin; i < begin + 64; i++) {
      const double code = scale == 0 || !std::isfinite(scale) ? 0 : std::nearbyint(static_cast<float>(w[i]) / scale);
      q.codes.push_back(static_cast<int8_t>(std::fmax(-127, std::fmin(127, code))));
    }
  }
  return q;
}

/* Element i, before it is rounded to its storage type. */
inline float int8_value(const Int8& q, size_t i) { return static_cast<float>(q.codes[i]) * q.scale[i / 64]; }

}  /* namespace reference */
#endif
