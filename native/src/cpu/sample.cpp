/*
 * Math        x' = x / penalty or x * penalty of seen tokens;  w = exp((x' - max) / temperature);  token drawn with
 *             probability w / sum(w) among those that top_k, top_p and min_p leave, in Hugging Face's order
 * Shapes      logits (N,V)  token (N)  seen (seen_count)
 * Layout      row-major, any V
 * Precision   fp32 weights, sums double
 * Saved       nothing; row i uses element i of the stream of random numbers
 * Writes      token =
 * Determinism bit-exact for any number of threads; the draw goes through the tokens in the order of their ids
 * Limits      V below 2^31. Tokens as likely as the last of top_k stay as well, as in Hugging Face; among equals at the
 *             edge of top_p the lower id stays
 */
#include <cmath>

#include "common/context.h"
#include "common/philox.h"
#include "common/sample.h"
#include "cpu/parallel.h"
#include "cpu/vec.h"

namespace oribi {
namespace {

struct Candidate {
  float logit, weight;
  int32_t id;
};
static_assert(sizeof(Candidate) == kSampleBytes, "the workspace holds one for each token");

bool more_likely(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

bool less_likely(const Candidate& a, const Candidate& b) { return more_likely(b, a); }

bool lower_id(const Candidate& a, const Candidate& b) { return a.id < b.id; }

/* The row's candidates with the penalty applied, each once however often it was seen. Returns the most likely, or
   kNoToken where a logit is NaN or +infinity or none is finite. */
int32_t fill_candidates(Candidate* all, const float* logits, int64_t v, const int32_t* seen, int64_t seen_count,
                        float penalty) {
  for (int64_t i = 0; i < v; i++) all[i] = {logits[i], 0, static_cast<int32_t>(i)};
  for (int64_t i = 0; i < seen_count; i++) {
    const float x = logits[seen[i]];
    all[seen[i]].logit = x > 0 ? x / penalty : x * penalty;
  }
  int32_t best = 0;
  bool broken = false;
  for (int64_t i = 0; i < v; i++) {
    broken |= !(all[i].logit < INFINITY);
    if (all[i].logit > all[best].logit) best = static_cast<int32_t>(i);
  }
  return broken || all[best].logit == -INFINITY ? kNoToken : best;
}

/* Each keep_ function moves those that stay to the front and returns their number, at least 1. */

int64_t keep_top_k(Candidate* all, int64_t count, int64_t k) {
  if (k == 0 || k >= count) return count;
  std::nth_element(all, all + k - 1, all + count, more_likely);
  const float least = all[k - 1].logit;
  return std::partition(all, all + count, [least](const Candidate& c) { return c.logit >= least; }) - all;
}

/* The smallest set of the most likely whose probability reaches p: they leave a heap one by one, so that the usual few
   cost no sort of the vocabulary. */
int64_t keep_top_p(Candidate* all, int64_t count, float p) {
  if (p >= 1) return count;
  double total = 0;
  for (int64_t i = 0; i < count; i++) total += all[i].weight;
  std::make_heap(all, all + count, less_likely);
  double sum = 0;
  int64_t left = count;
  do {
    std::pop_heap(all, all + left, less_likely);
    sum += all[--left].weight;
  } while (left > 0 && sum < p * total);
  std::rotate(all, all + left, all + count);
  return count - left;
}

int64_t keep_min_p(Candidate* all, int64_t count, float min_p) {
  if (min_p <= 0) return count;
  return std::partition(all, all + count, [min_p](const Candidate& c) { return c.weight >= min_p; }) - all;
}

int32_t draw(const Candidate* all, int64_t count, double uniform) {
  double total = 0, sum = 0;
  for (int64_t i = 0; i < count; i++) total += all[i].weight;
  int32_t last = kNoToken;
  for (int64_t i = 0; i < count; i++) {
    if (!(all[i].weight > 0)) continue;
    last = all[i].id;
    sum += all[i].weight;
    if (sum > uniform * total) break;
  }
  return last;
}

int32_t sample_row(Candidate* all, const float* logits, int64_t v, const int32_t* seen, int64_t seen_count,
                   const oribi_sample_options& options, int64_t row) {
  const int32_t best = fill_candidates(all, logits, v, seen, seen_count, options.repetition_penalty);
  if (best == kNoToken || options.temperature == 0) return best;
  const float max = all[best].logit;
  int64_t count = keep_top_k(all, v, options.top_k);
  for (int64_t i = 0; i < count; i++) all[i].weight = vexp((all[i].logit - max) / options.temperature);
  count = keep_top_p(all, count, options.top_p);
  count = keep_min_p(all, count, options.min_p);
  if (count < v) std::sort(all, all + count, lower_id);
  const PhiloxWords words = philox(options.seed, options.stream, static_cast<uint64_t>(row) / 4);
  return draw(all, count, philox_uniform(words.word[row % 4]));
}

}  // namespace
}  // namespace oribi

extern "C" oribi_status oribi_sample(oribi_ctx* ctx, int32_t* token, const float* logits, const int32_t* seen,
                                     void* workspace, int64_t n, int64_t v, int64_t seen_count,
                                     const oribi_sample_options* options) {
  oribi::Check check(ctx, "oribi_sample");
  oribi::check_sample(check, token, logits, seen, workspace, n, v, seen_count, options);
  if (!check.ok()) return check.status();
  const int64_t penalized = oribi::penalized(*options, seen_count);
  for (int64_t i = 0; i < penalized && check.ok(); i++)
    check.that(seen[i] >= 0 && seen[i] < v, "seen[%lld] must be in [0, %lld), found %d", static_cast<long long>(i),
               static_cast<long long>(v), seen[i]);
  if (!check.ok()) return check.status();
  oribi::Candidate* candidates = static_cast<oribi::Candidate*>(workspace);
  oribi::parallel_for(ctx, n, [&](int64_t i) {
    token[i] = oribi::sample_row(candidates + i * v, logits + i * v, v, seen, penalized, *options, i);
  });
  for (int64_t i = 0; i < n; i++)
    check.that(token[i] != oribi::kNoToken,
               "the logits of row %lld hold a NaN or +infinity, or nothing finite: there is no token to draw",
               static_cast<long long>(i));
  return check.status();
}

extern "C" int64_t oribi_sample_workspace(int64_t n, int64_t v) {
  return oribi::sample_workspace(n, v);
}
