/*
 * Math        p = softmax(logits) or sigmoid(logits);  choice = p + bias, among the experts of the top_groups groups with the
 *             largest sums of their group_best largest choices;  expert = the k largest choices;  q = p of the chosen
 *             weight = scale * q / (sum of q + 1e-20) where normalized, scale * q where not
 *             backward, S = sum of q + 1e-20:  dq_j = scale / S * (dweight_j - sum over l of dweight_l q_l / S), or scale * dweight_j
 *             softmax  dlogits_i = p_i * (dq_i - sum over l of dq_l q_l)      sigmoid  dlogits_i = dq_i * p_i (1 - p_i)
 *             with dq_i = 0 for an expert that was not chosen
 * Shapes      logits, dlogits (N,E)  expert, weight, dweight (N,k)  bias (E)
 * Layout      row-major, any E
 * Precision   logits fp32, bf16 or fp16; all else fp32, as in Hugging Face's Mixtral, Qwen3-MoE and DeepSeek
 * Saved       logits and expert; p is computed again
 * Writes      expert =, weight =, dlogits =
 * Determinism bit-exact for any number of threads; among equal choices the lower index wins
 * Limits      E <= 1024, k <= 32, groups <= 32; others are INVALID_ARGUMENT
 */
#include <algorithm>
#include <cmath>
#include <limits>

#include "common/dtype.h"
#include "common/experts.h"
#include "cpu/parallel.h"

namespace oribi {
namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity();

/* p[E] of one token. */
template <class T>
void scores(float* p, const T* logits, const oribi_router_shape& s) {
  for (int64_t i = 0; i < s.experts; i++) p[i] = to_float(logits[i]);
  if (s.score == ORIBI_SIGMOID) {
    for (int64_t i = 0; i < s.experts; i++) p[i] = 1.0f / (1.0f + std::exp(-p[i]));
    return;
  }
  const float most = *std::max_element(p, p + s.experts);
  float sum = 0;
  for (int64_t i = 0; i < s.experts; i++) sum += p[i] = std::exp(p[i] - most);
  for (int64_t i = 0; i < s.experts; i++) p[i] /= sum;
}

/* The index of the largest of x that is not taken, which it then is. */
int64_t take_largest(const float* x, bool* taken, int64_t begin, int64_t end) {
  int64_t best = -1;
  for (int64_t i = begin; i < end; i++) {
    if (!taken[i] && (best < 0 || x[i] > x[best])) best = i;
  }
  taken[best] = true;
  return best;
}

/* taken = true for every expert outside the chosen groups. */
void take_other_groups(bool* taken, const float* choice, const oribi_router_shape& s) {
  const int64_t of_group = s.experts / s.groups;
  float worth[kMaxGroups];
  bool chosen[kMaxGroups] = {};
  for (int64_t g = 0; g < s.groups; g++) {
    bool counted[kMaxExperts] = {};
    worth[g] = 0;
    for (int64_t j = 0; j < s.group_best; j++) worth[g] += choice[take_largest(choice, counted, g * of_group, (g + 1) * of_group)];
    if (std::isnan(worth[g])) worth[g] = kNone; /* the sum of both infinities */
  }
  for (int64_t j = 0; j < s.top_groups; j++) take_largest(worth, chosen, 0, s.groups);
  for (int64_t i = 0; i < s.experts; i++) taken[i] = !chosen[i / of_group];
}

template <class T>
void forward_row(int32_t* expert, float* weight, const T* logits, const float* bias, const oribi_router_shape& s) {
  float p[kMaxExperts], choice[kMaxExperts];
  bool taken[kMaxExperts] = {};
  scores(p, logits, s);
  for (int64_t i = 0; i < s.experts; i++) {
    choice[i] = bias != nullptr ? p[i] + bias[i] : p[i];
    if (std::isnan(choice[i])) choice[i] = kNone;
  }
  if (s.top_groups < s.groups) take_other_groups(taken, choice, s);
  float sum = kLeastWeightSum;
  for (int64_t j = 0; j < s.k; j++) {
    expert[j] = static_cast<int32_t>(take_largest(choice, taken, 0, s.experts));
    sum += weight[j] = p[expert[j]];
  }
  for (int64_t j = 0; j < s.k; j++) weight[j] = (s.normalize != 0 ? weight[j] / sum : weight[j]) * s.scale;
}

template <class T>
void backward_row(T* dlogits, const int32_t* expert, const float* dweight, const T* logits, const oribi_router_shape& s) {
  float p[kMaxExperts], dp[kMaxExperts] = {};
  scores(p, logits, s);
  float sum = kLeastWeightSum, mean = 0;
  for (int64_t j = 0; j < s.k; j++) sum += p[expert[j]];
  for (int64_t j = 0; j < s.k; j++) mean += dweight[j] * p[expert[j]];
  mean = s.normalize != 0 ? mean / sum : 0;
  if (s.normalize == 0) sum = 1;
  float through = 0;
  for (int64_t j = 0; j < s.k; j++) {
    dp[expert[j]] = s.scale / sum * (dweight[j] - mean);
    through += dp[expert[j]] * p[expert[j]];
  }
  for (int64_t i = 0; i < s.experts; i++) {
    dlogits[i] = from_float<T>(s.score == ORIBI_SIGMOID ? dp[i] * p[i] * (1.0f - p[i]) : p[i] * (dp[i] - through));
  }
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_router_forward(oribi_ctx* ctx, int32_t* expert, float* weight, const void* logits,
                                             const float* bias, const oribi_router_shape* shape) {
  Check check(ctx, "oribi_router_forward");
  if (!check_router(check, shape)) return check.status();
  const oribi_router_shape s = *shape;
  check.pointer("expert", expert, s.n).pointer("weight", weight, s.n).pointer("logits", logits, s.n);
  if (!check.ok()) return check.status();
  dispatch(s.t, [&](auto type) {
    const auto* in = static_cast<const decltype(type)*>(logits);
    parallel_ranges(ctx, s.n, rows_per_chunk(s.experts * s.k), [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) forward_row(expert + i * s.k, weight + i * s.k, in + i * s.experts, bias, s);
    });
  });
  return ORIBI_OK;
}

extern "C" oribi_status oribi_router_backward(oribi_ctx* ctx, void* dlogits, const int32_t* expert, const float* dweight,
                                              const void* logits, const oribi_router_shape* shape) {
  Check check(ctx, "oribi_router_backward");
  if (!check_router(check, shape)) return check.status();
  const oribi_router_shape s = *shape;
  check.pointer("dlogits", dlogits, s.n).pointer("expert", expert, s.n).pointer("dweight", dweight, s.n);
  if (!check.pointer("logits", logits, s.n).ok()) return check.status();
  for (int64_t i = 0; check.ok() && i < s.n * s.k; i++) {
    check.that(expert[i] >= 0 && expert[i] < s.experts, "expert[%lld] is %d, expected 0 to %lld", static_cast<long long>(i),
               expert[i], static_cast<long long>(s.experts) - 1);
  }
  if (!check.ok()) return check.status();
  dispatch(s.t, [&](auto type) {
    using T = decltype(type);
    parallel_ranges(ctx, s.n, rows_per_chunk(s.experts), [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) {
        backward_row(static_cast<T*>(dlogits) + i * s.experts, expert + i * s.k, dweight + i * s.k,
                     static_cast<const T*>(logits) + i * s.experts, s);
      }
    });
  });
  return ORIBI_OK;
}
