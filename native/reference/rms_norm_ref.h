/*
 * RMSNorm as its definition reads. Real is double for the exact result, float for a plain implementation; round stands
 * where the model's reference stores to the storage type (the identity for the exact result).
 */
#ifndef ORIBI_REFERENCE_RMS_NORM_H
#define ORIBI_REFERENCE_RMS_NORM_H

#include <cmath>
#include <vector>

namespace reference {

template <class Real, class Round>
void rms_norm_forward(std::vector<double>& y, std::vector<double>& rstd, const std::vector<double>& x,
                      const std::vector<double>& w, int64_t n, int64_t c, double eps, Round round) {
  y.resize(n * c);
  rstd.resize(n);
  for (int64_t row = 0; row < n; row++) {
    Real sum = 0;
    for (int64_t i = 0; i < c; i++) sum += Real(x[row * c + i]) * Real(x[row * c + i]);
    const Real scale = Real(1) / std::sqrt(sum / Real(c) + Real(eps));
    rstd[row] = scale;
    for (int64_t i = 0; i < c; i++) y[row * c + i] = Real(round(Real(x[row * c + i]) * scale)) * Real(w[i]);
  }
}

/* dx =, dw += */
template <class Real>
void rms_norm_backward(std::vector<double>& dx, std::vector<double>& dw, const std::vector<double>& rstd,
                       const std::vector<double>& dy, const std::vector<double>& x, const std::vector<double>& w, int64_t n,
                       int64_t c) {
  dx.resize(n * c);
  for (int64_t row = 0; row < n; row++) {
    const Real scale = Real(rstd[row]);
    Real mean = 0;
    for (int64_t i = 0; i < c; i++) mean += Real(dy[row * c + i]) * Real(w[i]) * Real(x[row * c + i]) * scale;
    mean /= Real(c);
    for (int64_t i = 0; i < c; i++) {
      const Real g = Real(dy[row * c + i]) * Real(w[i]), xhat = Real(x[row * c + i]) * scale;
      dx[row * c + i] = scale * (g - xhat * mean);
      dw[i] = Real(dw[i]) + Real(dy[row * c + i]) * xhat;
    }
  }
}

}  // namespace reference
#endif
