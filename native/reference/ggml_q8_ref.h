/*
 * x in 8 bits as oribi_ggml_matmul_q8 rounds it. It repeats the fp32 operations of the definition, max / 127, 127 / max and x times
 * that; all else is double.
 */
#ifndef ORIBI_REFERENCE_GGML_Q8_REF_H
#define ORIBI_REFERENCE_GGML_Q8_REF_H

#include <cmath>
#include <limits>
#include <vector>

#include "ggml_ref.h" /* single */

namespace reference {

/* The values that x is rounded to, a whole number of groups of `group` elements. */
inline std::vector<double> ggml_round_x(const std::vector<double>& x, size_t group) {
  std::vector<double> rounded(x.size());
  for (size_t first = 0; first < x.size(); first += group) {
    double most = 0;
    bool finite = true;
    for (size_t i = first; i < first + group; i++) {
      finite = finite && std::isfinite(x[i]);
      most = std::fmax(most, std::fabs(x[i]));
    }
    const double inverse = single(127 / most), scale = single(most / 127);
    for (size_t i = first; i < first + group; i++) {
      const double code = most < 0x1p-100 ? 0 : std::nearbyint(static_cast<double>(single(x[i] * inverse)));
      rounded[i] = finite ? code * scale : std::numeric_limits<double>::quiet_NaN();
    }
  }
  return rounded;
}

}  // namespace reference
#endif
