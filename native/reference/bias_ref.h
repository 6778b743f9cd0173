/* A bias as its definition reads. Real is double for the exact result, float for a plain implementation. */
#ifndef ORIBI_REFERENCE_BIAS_H
#define ORIBI_REFERENCE_BIAS_H

#include <cstdint>
#include <vector>

namespace reference {

/* y holds rows of ld elements, the first cols of which get the bias. */
template <class Real>
void bias_add(std::vector<double>& y, const std::vector<double>& b, int64_t rows, int64_t cols, int64_t ld) {
  for (int64_t row = 0; row < rows; row++) {
    for (int64_t i = 0; i < cols; i++) y[row * ld + i] = Real(y[row * ld + i]) + Real(b[i]);
  }
}

/* db += */
template <class Real>
void bias_backward(std::vector<double>& db, const std::vector<double>& dy, int64_t rows, int64_t cols, int64_t ld) {
  for (int64_t i = 0; i < cols; i++) {
    Real sum = 0;
    for (int64_t row = 0; row < rows; row++) sum += Real(dy[row * ld + i]);
    db[i] = Real(db[i]) + sum;
  }
}

}  // namespace reference
#endif
