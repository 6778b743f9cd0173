/*
 * AdamW (Loshchilov and Hutter 2019) in PyTorch's order, for one element.
 * Real = double is the reference, Real = float the plain implementation.
 */
#ifndef ORIBI_REFERENCE_OPTIMIZER_H
#define ORIBI_REFERENCE_OPTIMIZER_H

#include <cmath>

#include "oribi.h"

namespace reference {

template <class Real>
void adamw(Real& p, Real& m, Real& v, Real g, const oribi_adamw_hyper& hyper) {
  const double correction1 = 1 - std::pow(hyper.beta1, static_cast<double>(hyper.step));
  const double correction2 = 1 - std::pow(hyper.beta2, static_cast<double>(hyper.step));
  p *= static_cast<Real>(1 - hyper.learning_rate * hyper.weight_decay);
  m = static_cast<Real>(hyper.beta1) * m + static_cast<Real>(1 - hyper.beta1) * g;
  v = static_cast<Real>(hyper.beta2) * v + static_cast<Real>(1 - hyper.beta2) * g * g;
  const Real denominator = std::sqrt(v) / static_cast<Real>(std::sqrt(correction2)) + static_cast<Real>(hyper.epsilon);
  p -= static_cast<Real>(hyper.learning_rate / correction1) * m / denominator;
}

/* Whether `code` names a value of the map as near to x as any, within `slack`; x is relative to the block's maximum. */
inline bool is_nearest(const float* map, int code, double x, double slack) {
  double least = 2;
  for (int i = 0; i < 256; i++) least = std::fmin(least, std::fabs(map[i] - x));
  return std::fabs(map[code] - x) <= least + slack;
}

}  /* namespace reference */
#endif
