/*
 * Softmax cross-entropy, row by row. Real = double is the reference, Real = float the plain implementation.
 */
#ifndef ORIBI_REFERENCE_CROSS_ENTROPY_H
#define ORIBI_REFERENCE_CROSS_ENTROPY_H

#include <cmath>
#include <cstdint>
#include <vector>

namespace reference {

/* z = logits * logit_scale, then softcap * tanh(z / softcap) unless softcap is 0. */
template <class Real>
void cross_entropy(Real* dlogits, Real* loss, const Real* logits, const int32_t* labels, Real grad_scale, int64_t n,
                   int64_t v, Real logit_scale = 1, Real softcap = 0) {
  std::vector<Real> x(v), slope(v);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < v; ++j) {
      x[j] = logits[i * v + j] * logit_scale;
      slope[j] = logit_scale;
      if (softcap == 0) continue;
      const Real t = std::tanh(x[j] / softcap);
      x[j] = softcap * t;
      slope[j] *= 1 - t * t;
    }
    Real* dx = dlogits + i * v;
    loss[i] = 0;
    for (int64_t j = 0; j < v; ++j) dx[j] = 0;
    if (labels[i] < 0) continue;
    Real max = -INFINITY;
    for (int64_t j = 0; j < v; ++j)
      if (x[j] > max) max = x[j];
    Real sum = 0;
    for (int64_t j = 0; j < v; ++j) sum += std::exp(x[j] - max);
    loss[i] = max + std::log(sum) - x[labels[i]];
    for (int64_t j = 0; j < v; ++j) {
      const Real softmax = std::exp(x[j] - max) / sum;
      dx[j] = (softmax - (j == labels[i] ? Real(1) : Real(0))) * grad_scale * slope[j];
    }
  }
}

}  /* namespace reference */
#endif
