/*
 * What a token may be drawn from, after Hugging Face's logits processors, with a full sort of the vocabulary.
 */
#ifndef ORIBI_REFERENCE_SAMPLE_H
#define ORIBI_REFERENCE_SAMPLE_H

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "oribi.h"

namespace reference {

/* Tokens by falling probability; among equals the lower index first. */
inline std::vector<int32_t> ranked(const std::vector<double>& score) {
  std::vector<int32_t> order(score.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return score[a] > score[b]; });
  return order;
}

inline std::vector<double> softmax(const std::vector<double>& score) {
  const double max = *std::max_element(score.begin(), score.end());
  std::vector<double> p(score.size());
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) sum += p[i] = std::exp(score[i] - max);
  for (double& x : p) x /= sum;
  return p;
}

/* The probability of every token; 0 for those that the options exclude. temperature > 0. */
inline std::vector<double> sample_distribution(const float* logits, int64_t v, const std::vector<int32_t>& seen,
                                               const oribi_sample_options& options) {
  std::vector<double> score(logits, logits + v);
  for (int32_t id : seen)
    score[id] = logits[id] > 0 ? logits[id] / options.repetition_penalty : logits[id] * options.repetition_penalty;
  for (double& x : score) x /= options.temperature;
  const std::vector<int32_t> order = ranked(score);
  if (options.top_k > 0 && options.top_k < v) {
    const double least = score[order[options.top_k - 1]];
    for (double& x : score)
      if (x < least) x = -INFINITY;
  }
  if (options.top_p < 1) {
    const std::vector<double> p = softmax(score);
    double before = 0;
    for (int32_t id : order) {
      if (before >= options.top_p && id != order[0]) score[id] = -INFINITY;
      before += p[id];
    }
  }
  std::vector<double> p = softmax(score);
  const double most = *std::max_element(p.begin(), p.end());
  for (int64_t i = 0; i < v; ++i)
    if (p[i] < options.min_p * most) score[i] = -INFINITY;
  return softmax(score);
}

}  /* namespace reference */
#endif
