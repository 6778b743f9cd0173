/* Rotary position embedding, half-split, as its definition reads. Real as in the other references. */
#ifndef ORIBI_REFERENCE_ROPE_H
#define ORIBI_REFERENCE_ROPE_H

#include <cstdint>
#include <vector>

namespace reference {

/* x holds n rows of `stride` elements, the first heads * d of which are heads: the first `rotated` channels of each turn. */
template <class Real>
void rope(std::vector<double>& x, const std::vector<double>& cos, const std::vector<double>& sin,
          const std::vector<int32_t>& positions, int64_t n, int64_t heads, int64_t d, int64_t rotated,
          int64_t stride, bool inverse) {
  const int64_t half = rotated / 2;
  for (int64_t row = 0; row < n; row++) {
    for (int64_t head = 0; head < heads; head++) {
      for (int64_t i = 0; i < half; i++) {
        double& low = x[row * stride + head * d + i];
        double& high = x[row * stride + head * d + half + i];
        const Real c = Real(cos[positions[row] * half + i]);
        const Real s = inverse ? -Real(sin[positions[row] * half + i]) : Real(sin[positions[row] * half + i]);
        const Real a = Real(low), b = Real(high);
        low = a * c - b * s;
        high = b * c + a * s;
      }
    }
  }
}

}  // namespace reference
#endif
