/*
 * Causal attention over packed sequences, as the textbook writes it: one row of scores at a time.
 * Real = double is the reference; Real = float is the plain implementation that the error policy compares with.
 */
#ifndef ORIBI_REFERENCE_ATTENTION_H
#define ORIBI_REFERENCE_ATTENTION_H

#include <cmath>
#include <cstdint>
#include <vector>

#include "oribi.h"

namespace reference {

/* One query row: where its keys begin, and how many of them it sees. */
struct VisibleKeys {
  int64_t first, count;
};

inline VisibleKeys visible_keys(const oribi_attention_shape& shape, int64_t sequence, int64_t row) {
  const int64_t begin = shape.cu_seqlens[sequence];
  const int64_t end = shape.cu_seqlens[sequence + 1];
  const int64_t first = shape.kv_start == nullptr ? begin : shape.kv_start[sequence];
  const int64_t count = (shape.kv_start == nullptr ? end - begin : shape.kv_len[sequence]) - (end - 1 - row);
  const int64_t behind = shape.window > 0 && count > shape.window ? count - shape.window : 0;
  return {first + behind, count - behind};
}

/* softcap * tanh(x / softcap), and its derivative from the value. */
template <class Real>
Real capped(Real x, const oribi_attention_shape& shape) {
  const Real cap = static_cast<Real>(shape.softcap);
  return cap == 0 ? x : cap * std::tanh(x / cap);
}
template <class Real>
Real capped_derivative(Real y, const oribi_attention_shape& shape) {
  const Real t = shape.softcap == 0 ? 0 : y / static_cast<Real>(shape.softcap);
  return 1 - t * t;
}

/* p[j] = softmax over the visible keys; returns the log of the sum of exp. slope[j]: the score's derivative by the scaled
   product. */
template <class Real>
Real attention_row(std::vector<Real>& p, std::vector<Real>& slope, const Real* q, const Real* k, const VisibleKeys& keys,
                   const oribi_attention_shape& shape) {
  p.resize(static_cast<size_t>(keys.count));
  slope.resize(p.size());
  Real max = -INFINITY;
  for (int64_t j = 0; j < keys.count; ++j) {
    Real dot = 0;
    for (int64_t d = 0; d < shape.d; ++d) dot += q[d] * k[(keys.first + j) * shape.ld_k + d];
    p[j] = capped(dot * static_cast<Real>(shape.scale), shape);
    slope[j] = capped_derivative(p[j], shape);
    if (p[j] > max) max = p[j];
  }
  Real sum = 0;
  for (Real& x : p) sum += x = std::exp(x - max);
  for (Real& x : p) x /= sum;
  return max + std::log(sum);
}

template <class Real>
void attention_forward(Real* o, Real* lse, const Real* q, const Real* k, const Real* v,
                       const oribi_attention_shape& shape) {
  const int64_t group = shape.h / shape.h_kv;
  std::vector<Real> p, slope;
  for (int64_t s = 0; s < shape.sequences; ++s)
    for (int64_t row = shape.cu_seqlens[s]; row < shape.cu_seqlens[s + 1]; ++row)
      for (int64_t h = 0; h < shape.h; ++h) {
        const VisibleKeys keys = visible_keys(shape, s, row);
        const int64_t kv = h / group * shape.d;
        lse[row * shape.h + h] = attention_row(p, slope, q + row * shape.ld_q + h * shape.d, k + kv, keys, shape);
        for (int64_t d = 0; d < shape.d; ++d) {
          Real sum = 0;
          for (int64_t j = 0; j < keys.count; ++j) sum += p[j] * v[(keys.first + j) * shape.ld_v + kv + d];
          o[row * shape.ld_o + h * shape.d + d] = sum;
        }
      }
}

/* Adds one row's share to dk and dv, which begin as zeros, and writes its dq. */
template <class Real>
void attention_row_backward(Real* dq, Real* dk, Real* dv, const Real* d_o, const Real* q, const Real* k, const Real* v,
                            const std::vector<Real>& p, const std::vector<Real>& slope, const VisibleKeys& keys,
                            const oribi_attention_shape& shape) {
  std::vector<Real> dp(p.size());
  Real delta = 0;  /* sum of p * dp, which the softmax's derivative subtracts */
  for (int64_t j = 0; j < keys.count; ++j) {
    for (int64_t d = 0; d < shape.d; ++d) dp[j] += d_o[d] * v[(keys.first + j) * shape.ld_v + d];
    delta += p[j] * dp[j];
  }
  for (int64_t d = 0; d < shape.d; ++d) dq[d] = 0;
  for (int64_t j = 0; j < keys.count; ++j) {
    const Real ds = p[j] * (dp[j] - delta) * slope[j] * static_cast<Real>(shape.scale);
    for (int64_t d = 0; d < shape.d; ++d) {
      dq[d] += ds * k[(keys.first + j) * shape.ld_k + d];
      dk[(keys.first + j) * shape.ld_k + d] += ds * q[d];
      dv[(keys.first + j) * shape.ld_v + d] += p[j] * d_o[d];
    }
  }
}

template <class Real>
void attention_backward(Real* dq, Real* dk, Real* dv, const Real* d_o, const Real* q, const Real* k, const Real* v,
                        const oribi_attention_shape& shape) {
  const int64_t group = shape.h / shape.h_kv;
  for (int64_t row = 0; row < shape.n; ++row)
    for (int64_t i = 0; i < shape.h_kv * shape.d; ++i) dk[row * shape.ld_k + i] = dv[row * shape.ld_v + i] = 0;
  std::vector<Real> p, slope;
  for (int64_t s = 0; s < shape.sequences; ++s)
    for (int64_t row = shape.cu_seqlens[s]; row < shape.cu_seqlens[s + 1]; ++row)
      for (int64_t h = 0; h < shape.h; ++h) {
        const VisibleKeys keys = visible_keys(shape, s, row);
        const int64_t at = row * shape.ld_q + h * shape.d;
        const int64_t kv = h / group * shape.d;
        attention_row(p, slope, q + at, k + kv, keys, shape);
        attention_row_backward(dq + at, dk + kv, dv + kv, d_o + row * shape.ld_o + h * shape.d, q + at, k + kv, v + kv,
                               p, slope, keys, shape);
      }
}

}  /* namespace reference */
#endif
