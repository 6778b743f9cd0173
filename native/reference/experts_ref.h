/*
 * The router, the sort of its choices and the weighted glu as their definitions read. Real is double for the exact result,
 * float for a plain implementation.
 */
#ifndef ORIBI_REFERENCE_EXPERTS_H
#define ORIBI_REFERENCE_EXPERTS_H

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "glu_ref.h"
#include "oribi.h"

namespace reference {

using Numbers = std::vector<double>;

/* p[E] of one token's logits. */
template <class Real>
Numbers router_scores(const double* logits, const oribi_router_shape& s) {
  Numbers p(s.experts);
  if (s.score == ORIBI_SIGMOID) {
    for (int64_t i = 0; i < s.experts; i++) p[i] = Real(1) / (Real(1) + std::exp(-Real(logits[i])));
    return p;
  }
  Real most = Real(logits[0]), sum = 0;
  for (int64_t i = 1; i < s.experts; i++) most = std::max(most, Real(logits[i]));
  for (int64_t i = 0; i < s.experts; i++) sum += std::exp(Real(logits[i]) - most);
  for (int64_t i = 0; i < s.experts; i++) p[i] = std::exp(Real(logits[i]) - most) / sum;
  return p;
}

/* The indices of the k largest, the lower one among equals. */
inline std::vector<int64_t> largest_of(const Numbers& x, int64_t k) {
  std::vector<int64_t> order(x.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return x[a] > x[b]; });
  order.resize(k);
  return order;
}

/* choice[E] of one token: p + bias, minus infinity outside its groups. */
template <class Real>
Numbers router_choice(const double* logits, const double* bias, const oribi_router_shape& s) {
  Numbers choice = router_scores<Real>(logits, s);
  for (int64_t i = 0; bias != nullptr && i < s.experts; i++) choice[i] = Real(choice[i]) + Real(bias[i]);
  if (s.top_groups == s.groups) return choice;
  const int64_t of_group = s.experts / s.groups;
  Numbers worth(s.groups);
  for (int64_t g = 0; g < s.groups; g++) {
    const Numbers members(choice.begin() + g * of_group, choice.begin() + (g + 1) * of_group);
    for (int64_t i : largest_of(members, s.group_best)) worth[g] += members[i];
  }
  std::vector<bool> allowed(s.groups, false);
  for (int64_t g : largest_of(worth, s.top_groups)) allowed[g] = true;
  for (int64_t i = 0; i < s.experts; i++) {
    if (!allowed[i / of_group]) choice[i] = -INFINITY;
  }
  return choice;
}

/* The weights of experts that have been chosen. */
template <class Real>
Numbers router_weights(const Numbers& logits, const std::vector<int32_t>& expert, const oribi_router_shape& s) {
  Numbers weight(s.n * s.k);
  for (int64_t i = 0; i < s.n; i++) {
    const Numbers p = router_scores<Real>(logits.data() + i * s.experts, s);
    Real sum = Real(1e-20);
    for (int64_t j = 0; j < s.k; j++) sum += Real(p[expert[i * s.k + j]]);
    for (int64_t j = 0; j < s.k; j++) {
      weight[i * s.k + j] = Real(p[expert[i * s.k + j]]) / (s.normalize != 0 ? sum : Real(1)) * Real(s.scale);
    }
  }
  return weight;
}

/* dlogits by way of dp, first of the division by the sum and then of the scores. */
template <class Real>
Numbers router_backward(const Numbers& dweight, const Numbers& logits, const std::vector<int32_t>& expert,
                        const oribi_router_shape& s) {
  Numbers dlogits(s.n * s.experts);
  for (int64_t i = 0; i < s.n; i++) {
    const Numbers p = router_scores<Real>(logits.data() + i * s.experts, s);
    std::vector<Real> dp(s.experts, Real(0));
    Real sum = 0, dsum = 0;
    for (int64_t j = 0; j < s.k; j++) sum += Real(p[expert[i * s.k + j]]);
    if (s.normalize == 0) sum = 1;
    for (int64_t j = 0; j < s.k; j++) {
      const Real dw = Real(dweight[i * s.k + j]) * Real(s.scale);
      dp[expert[i * s.k + j]] += dw / sum;
      if (s.normalize != 0) dsum -= dw * Real(p[expert[i * s.k + j]]) / (sum * sum);
    }
    for (int64_t j = 0; j < s.k; j++) dp[expert[i * s.k + j]] += dsum;
    Real dot = 0;
    for (int64_t e = 0; e < s.experts; e++) dot += dp[e] * Real(p[e]);
    for (int64_t e = 0; e < s.experts; e++) {
      const Real q = Real(p[e]);
      dlogits[i * s.experts + e] = s.score == ORIBI_SIGMOID ? dp[e] * q * (1 - q) : q * (dp[e] - dot);
    }
  }
  return dlogits;
}

/* Pairs by expert, and by number within an expert. */
inline std::vector<int32_t> sorted_pairs(const std::vector<int32_t>& expert) {
  std::vector<int32_t> pair(expert.size());
  std::iota(pair.begin(), pair.end(), 0);
  std::stable_sort(pair.begin(), pair.end(), [&](int32_t a, int32_t b) { return expert[a] < expert[b]; });
  return pair;
}

template <class Real>
Numbers unroute(const Numbers& y, const Numbers& x, const std::vector<int32_t>& row, int64_t n, int64_t k, int64_t c, bool accumulate) {
  Numbers out(n * c);
  for (int64_t i = 0; i < n; i++) {
    for (int64_t m = 0; m < c; m++) {
      Real sum = 0;
      for (int64_t j = 0; j < k; j++) sum += Real(x[row[i * k + j] * c + m]);
      out[i * c + m] = (accumulate ? Real(y[i * c + m]) : Real(0)) + sum;
    }
  }
  return out;
}

template <class Real, class Round>
Numbers weighted_glu_forward(const Numbers& gu, const Numbers& weight, const std::vector<int32_t>& pair, int64_t n, int64_t f,
                             oribi_activation act, Round round) {
  Numbers out = glu_forward<Real>(gu, n, f, act, round);
  for (int64_t i = 0; i < n * f; i++) out[i] = Real(out[i]) * Real(weight[pair[i / f]]);
  return out;
}

/* dgu, and dweight by pair. */
template <class Real, class Round>
Numbers weighted_glu_backward(Numbers& dweight, const Numbers& df, const Numbers& gu, const Numbers& weight,
                              const std::vector<int32_t>& pair, int64_t n, int64_t f, oribi_activation act, Round round) {
  const Numbers unweighted = glu_forward<Real>(gu, n, f, act, round);
  Numbers scaled(df);
  dweight.assign(n, 0.0);
  for (int64_t i = 0; i < n; i++) {
    Real dot = 0;
    for (int64_t m = 0; m < f; m++) {
      dot += Real(df[i * f + m]) * Real(unweighted[i * f + m]);
      scaled[i * f + m] = Real(df[i * f + m]) * Real(weight[pair[i]]);
    }
    dweight[pair[i]] = dot;
  }
  return glu_backward<Real>(scaled, gu, n, f, act, round);
}

}  // namespace reference
#endif
