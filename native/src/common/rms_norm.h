/* How the backward passes of rms_norm, head_norm and bias cut their rows for dw, and what head_norm and bias check. One workspace size serves every device: it is
   the larger of what the CPU and a GPU need. */
#ifndef ORIBI_COMMON_RMS_NORM_H
#define ORIBI_COMMON_RMS_NORM_H

#include <cstdint>

#include "common/context.h"

namespace oribi {

/* On a CPU dw is summed in at most this many partial sums: enough for the threads of a large machine, and at C = 4096
   they take 1 MiB, little beside the activations. */
constexpr int64_t kMaxPartials = 64;
constexpr int64_t kMinRowsPerPartial = 16;

inline int64_t rows_per_partial(int64_t n) {
  const int64_t rows = (n + kMaxPartials - 1) / kMaxPartials;
  return rows < kMinRowsPerPartial ? kMinRowsPerPartial : rows;
}

inline int64_t partials_of(int64_t n) { return (n + rows_per_partial(n) - 1) / rows_per_partial(n); }

/* On a GPU a block makes a partial sum: two blocks for each of an H100's 132 multiprocessors, and up to eight where rows
   are short, which is as many as run at once. A few rows a block, so that 512 rows still occupy the card. */
constexpr int64_t kLeastBlocks = 2 * 132, kMostBlocks = 8 * 132, kPartialElements = int64_t{1} << 20;
constexpr int64_t kMinRowsPerBlock = 2;

inline int64_t rows_per_block(int64_t n, int64_t c) {
  int64_t most = kPartialElements / c;
  most = most < kLeastBlocks ? kLeastBlocks : most > kMostBlocks ? kMostBlocks : most;
  const int64_t rows = (n + most - 1) / most;
  return rows < kMinRowsPerBlock ? kMinRowsPerBlock : rows;
}

inline int64_t blocks_of(int64_t n, int64_t c) { return (n + rows_per_block(n, c) - 1) / rows_per_block(n, c); }

inline int64_t rms_norm_backward_workspace(int64_t n, int64_t c) {
  if (n <= 0 || c <= 0) return 0;
  const int64_t cpu = partials_of(n), gpu = blocks_of(n, c);
  return (cpu > gpu ? cpu : gpu) * c * static_cast<int64_t>(sizeof(float));
}

/* head_norm is a norm of N*H rows of D. */
inline int64_t head_norm_backward_workspace(int64_t n, int64_t h, int64_t d) {
  return n <= 0 || h <= 0 || d <= 0 || n > INT64_MAX / h ? 0 : rms_norm_backward_workspace(n * h, d);
}

inline Check& check_bias(Check& check, int64_t rows, int64_t cols, int64_t ld, oribi_dtype t) {
  check.size("rows", rows).size("cols", cols).dtype("t", t).size("ld", ld, cols);
  return check.elements("y", rows, ld);
}

inline Check& check_weight(Check& check, oribi_norm_weight weight) {
  return check.that(weight == ORIBI_NORM_WEIGHT || weight == ORIBI_NORM_ONE_PLUS_WEIGHT,
                    "weight is %d, expected ORIBI_NORM_WEIGHT or ORIBI_NORM_ONE_PLUS_WEIGHT", static_cast<int>(weight));
}

/* Elements from one row of dx to the next. */
inline int64_t stride_of_dx(const oribi_head_norm_shape& s) { return s.ld_dx == 0 ? s.ld_y : s.ld_dx; }

inline Check& check_head_norm(Check& check, const oribi_head_norm_shape& s) {
  check.size("n", s.n).size("h", s.h).size("d", s.d, 1).dtype("t", s.t).elements("a row of x", s.h, s.d);
  if (!check_weight(check, s.weight).ok()) return check;
  check.size("ld_x", s.ld_x, s.h * s.d).size("ld_y", s.ld_y, s.h * s.d);
  if (s.ld_dx != 0) check.size("ld_dx", s.ld_dx, s.h * s.d).elements("dx", s.n, s.ld_dx);
  return check.elements("x", s.n, s.ld_x).elements("y", s.n, s.ld_y);
}

}  // namespace oribi
#endif
