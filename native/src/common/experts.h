/* What every device's kernels for routed experts ask of their arguments. */
#ifndef ORIBI_COMMON_EXPERTS_H
#define ORIBI_COMMON_EXPERTS_H

#include <cmath>

#include "common/context.h"

namespace oribi {

constexpr int64_t kMaxExperts = 1024; /* a warp's lanes mark the experts that are taken, 32 a lane */
constexpr int64_t kMaxChosen = 32;    /* one a lane */
constexpr int64_t kMaxGroups = 32;
constexpr float kLeastWeightSum = 1e-20f; /* added to the sum that weights are divided by, as Hugging Face's DeepSeek V3 does */

inline bool check_router(Check& check, const oribi_router_shape* shape) {
  if (!check.pointer("shape", shape).ok()) return false;
  const oribi_router_shape& s = *shape;
  check.size("n", s.n).size("experts", s.experts, 1).size("k", s.k, 1).size("groups", s.groups, 1);
  check.size("top_groups", s.top_groups, 1).size("group_best", s.group_best, 1).dtype("t", s.t);
  if (!check.ok()) return false;
  const auto number = [](int64_t x) { return static_cast<long long>(x); };
  check.that(s.experts <= kMaxExperts, "experts must be at most 1024, found %lld", number(s.experts));
  check.that(s.groups <= kMaxGroups, "groups must be at most 32, found %lld", number(s.groups));
  check.that(s.experts % s.groups == 0, "experts must be a multiple of groups, found %lld and %lld", number(s.experts),
             number(s.groups));
  check.that(s.top_groups <= s.groups, "top_groups must be at most groups = %lld, found %lld", number(s.groups),
             number(s.top_groups));
  if (!check.ok()) return false;
  const int64_t of_group = s.experts / s.groups, most = of_group * s.top_groups < kMaxChosen ? of_group * s.top_groups : kMaxChosen;
  check.that(s.group_best <= of_group, "group_best must be at most the %lld experts of a group, found %lld", number(of_group),
             number(s.group_best));
  check.that(s.k <= most, "k must be at most 32 and the experts of the chosen groups, %lld here, found %lld", number(most),
             number(s.k));
  check.that(s.score == ORIBI_SOFTMAX || s.score == ORIBI_SIGMOID, "score is %d, expected ORIBI_SOFTMAX or ORIBI_SIGMOID",
             static_cast<int>(s.score));
  check.that(std::isfinite(s.scale), "scale must be finite, found %g", static_cast<double>(s.scale));
  check.elements("logits", s.n, s.experts);
  return check.ok();
}

/* Rows are counted in int32. */
inline bool check_route(Check& check, int64_t n, int64_t k, int64_t experts) {
  check.size("n", n).size("k", k, 1).size("experts", experts, 1).elements("row", n, k);
  if (!check.ok()) return false;
  check.that(experts <= kMaxExperts, "experts must be at most 1024, found %lld", static_cast<long long>(experts));
  check.that(n * k <= INT32_MAX, "n * k must be below 2^31, found %lld", static_cast<long long>(n * k));
  return check.ok();
}

/* Pairs that one warp of a card sorts: 128 warps have the 32768 pairs of 4096 tokens with 8 experts each, about one a
   multiprocessor of an H100. */
constexpr int64_t kRoutePairs = 256;

/* The counts of each such part and their totals. One size for every device, as it is asked for without one; the CPU needs
   none of it. */
inline int64_t route_workspace(int64_t n, int64_t k, int64_t experts) {
  if (n < 0 || k <= 0 || experts <= 0) return 0;
  return ((n * k + kRoutePairs - 1) / kRoutePairs + 1) * experts * static_cast<int64_t>(sizeof(int32_t));
}

/* Which of the three products asks. */
enum class Grouped { kForward, kDx, kDw };

inline bool check_grouped(Check& check, const oribi_grouped_shape* shape, Grouped form) {
  if (!check.pointer("shape", shape).ok()) return false;
  const oribi_grouped_shape& s = *shape;
  check.size("n", s.n).size("experts", s.experts, 1).size("in", s.in, 1).size("out", s.out, 1).dtype("t", s.t);
  check.size("ld_x", s.ld_x, s.in).size("ld_y", s.ld_y, s.out).size("ld_w", s.ld_w, s.in).size("expert_w", s.expert_w);
  check.elements("x", s.n, s.ld_x).elements("y", s.n, s.ld_y).elements("w", s.experts, s.expert_w);
  if (!check.ok()) return false;
  check.that(s.experts <= kMaxExperts, "experts must be at most 1024, found %lld", static_cast<long long>(s.experts));
  check.that(s.n <= INT32_MAX, "n must be below 2^31, found %lld", static_cast<long long>(s.n));
  check.that(form != Grouped::kForward || s.y_row == nullptr, "y_row must be NULL: rows of y are written where they stand");
  check.that(form != Grouped::kDx || s.x_row == nullptr, "x_row must be NULL: rows of dx are written where they stand");
  check.that(form != Grouped::kDw || s.accumulate != 0, "accumulate must be 1: a gradient of a weight is added to");
  check.that(form != Grouped::kDw || s.experts == 1 || s.expert_w >= s.in,
             "expert_w is %lld, expected at least in = %lld: two experts would add to the same elements",
             static_cast<long long>(s.expert_w), static_cast<long long>(s.in));
  check.that(std::isfinite(s.scale), "scale must be finite, found %g", static_cast<double>(s.scale));
  check.pointer("offsets", s.offsets);
  return check.ok();
}

inline bool check_weighted_glu(Check& check, int64_t n, int64_t f_size, oribi_activation act, oribi_dtype t) {
  check.size("n", n).size("f_size", f_size, 1).dtype("t", t);
  check.that(act == ORIBI_SILU || act == ORIBI_GELU_TANH || act == ORIBI_GELU_ERF,
             "act is %d, expected ORIBI_SILU, ORIBI_GELU_TANH or ORIBI_GELU_ERF", static_cast<int>(act));
  check.that(n <= INT32_MAX, "n must be below 2^31, found %lld", static_cast<long long>(n));
  return check.elements("half of gu", n, f_size).ok();
}

}  // namespace oribi
#endif
