/* What sampling checks and needs on every device. */
#ifndef ORIBI_COMMON_SAMPLE_H
#define ORIBI_COMMON_SAMPLE_H

#include <cmath>
#include <cstdint>

#include "common/context.h"

namespace oribi {

constexpr int32_t kNoToken = -1; /* of a row that has no distribution */

/* Workspace of one token of the vocabulary: its logit, its weight, its id. */
constexpr int64_t kSampleBytes = 12;

inline int64_t sample_workspace(int64_t n, int64_t v) { return n <= 0 || v <= 0 ? 0 : n * v * kSampleBytes; }

/* How many of `seen` a penalty is applied to. */
inline int64_t penalized(const oribi_sample_options& options, int64_t seen_count) {
  return options.repetition_penalty == 1 ? 0 : seen_count;
}

inline void check_options(Check& check, const oribi_sample_options* o) {
  check.pointer("options", o);
  if (!check.ok()) return;
  check.that(o->temperature >= 0 && o->temperature < INFINITY,
             "temperature must be 0 or more, found %g", o->temperature);
  check.that(o->top_k >= 0, "top_k must be 0 (off) or more, found %d", o->top_k);
  check.that(o->top_p >= 0 && o->top_p <= 1, "top_p must be in [0, 1], found %g", o->top_p);
  check.that(o->min_p >= 0 && o->min_p <= 1, "min_p must be in [0, 1], found %g", o->min_p);
  check.that(o->repetition_penalty > 0 && o->repetition_penalty < INFINITY,
             "repetition_penalty must be above 0, found %g", o->repetition_penalty);
}

/* All that can be checked without reading the arrays. */
inline void check_sample(Check& check, const int32_t* token, const float* logits, const int32_t* seen, const void* workspace,
                         int64_t n, int64_t v, int64_t seen_count, const oribi_sample_options* options) {
  check.size("n", n).size("v", v, 1).elements("logits", n, v).size("seen_count", seen_count);
  check.that(v <= INT32_MAX, "v must be below 2^31, found %lld", static_cast<long long>(v));
  check_options(check, options);
  if (!check.ok()) return;
  check.pointer("token", token, n).pointer("logits", logits, n).pointer("workspace", workspace, n);
  check.pointer("seen", seen, penalized(*options, seen_count));
  check.that(n <= 1 || options->repetition_penalty == 1,
             "n must be 1 with a repetition_penalty, found %lld: seen belongs to row 0", static_cast<long long>(n));
}

}  // namespace oribi
#endif
