/*
 * Gated linear units as their definition reads. Real is double for the exact result, float for a plain implementation;
 * round stands where the model's reference stores to the storage type.
 */
#ifndef ORIBI_REFERENCE_GLU_H
#define ORIBI_REFERENCE_GLU_H

#include <cmath>
#include <vector>

#include "oribi.h"

namespace reference {

template <class Real>
Real activation(Real x, oribi_activation act) {
  const Real k = std::sqrt(Real(2) / Real(M_PI));
  switch (act) {
    case ORIBI_GELU_TANH:
      return Real(0.5) * x * (1 + std::tanh(k * (x + Real(0.044715) * x * x * x)));
    case ORIBI_GELU_ERF:
      return Real(0.5) * x * (1 + std::erf(x / std::sqrt(Real(2))));
    default:
      return x / (1 + std::exp(-x));
  }
}

template <class Real>
Real activation_derivative(Real x, oribi_activation act) {
  const Real k = std::sqrt(Real(2) / Real(M_PI));
  switch (act) {
    case ORIBI_GELU_TANH: {
      const Real cosh = std::cosh(k * (x + Real(0.044715) * x * x * x));
      return activation(x, act) / x + Real(0.5) * x * k * (1 + 3 * Real(0.044715) * x * x) / (cosh * cosh);
    }
    case ORIBI_GELU_ERF:
      return activation(x, act) / x + x * std::exp(-x * x / 2) / std::sqrt(2 * Real(M_PI));
    default:
      return 1 / (1 + std::exp(-x)) + x * std::exp(-x) / ((1 + std::exp(-x)) * (1 + std::exp(-x)));
  }
}

template <class Real, class Round>
std::vector<double> glu_forward(const std::vector<double>& gu, int64_t n, int64_t f, oribi_activation act, Round round) {
  std::vector<double> out(n * f);
  for (int64_t row = 0; row < n; row++) {
    for (int64_t i = 0; i < f; i++) {
      const Real gate = Real(gu[row * 2 * f + i]), up = Real(gu[row * 2 * f + f + i]);
      out[row * f + i] = Real(round(activation<Real>(gate, act))) * up;
    }
  }
  return out;
}

template <class Real, class Round>
std::vector<double> glu_backward(const std::vector<double>& df, const std::vector<double>& gu, int64_t n, int64_t f,
                                 oribi_activation act, Round round) {
  std::vector<double> dgu(2 * n * f);
  for (int64_t row = 0; row < n; row++) {
    for (int64_t i = 0; i < f; i++) {
      const Real gate = Real(gu[row * 2 * f + i]), up = Real(gu[row * 2 * f + f + i]), d = Real(df[row * f + i]);
      dgu[row * 2 * f + i] = d * up * activation_derivative<Real>(gate, act);
      dgu[row * 2 * f + f + i] = d * Real(round(activation<Real>(gate, act)));
    }
  }
  return dgu;
}

}  // namespace reference
#endif
