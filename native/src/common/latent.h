/* What every device's kernels for latent attention ask of their arguments, and which channels are a pair. */
#ifndef ORIBI_COMMON_LATENT_H
#define ORIBI_COMMON_LATENT_H

#include "common/context.h"

namespace oribi {

constexpr int64_t kMostRope = 256; /* channels of a head that are rotated: a row of them lies on a stack or in shared memory */

inline bool check_latent(Check& check, const oribi_latent_shape* shape, const float* cos, const float* sin, const int32_t* positions) {
  if (!check.pointer("shape", shape).ok()) return false;
  const oribi_latent_shape& s = *shape;
  check.size("n", s.n).size("h", s.h, 1).size("nope", s.nope).size("rope", s.rope, 2).size("v", s.v, 1).dtype("t", s.t);
  check.size("max_position", s.max_position);
  if (!check.ok()) return false;
  check.that(s.rope % 2 == 0 && s.rope <= kMostRope, "rope must be even and at most 256, found %lld", static_cast<long long>(s.rope));
  check.that(s.v <= s.nope + s.rope, "v must be at most nope + rope = %lld, found %lld", static_cast<long long>(s.nope + s.rope),
             static_cast<long long>(s.v));
  check.elements("a row of q", s.h, s.nope + s.rope);
  if (!check.ok()) return false;
  const int64_t row = s.h * (s.nope + s.rope);
  check.size("ld_q", s.ld_q, row).size("ld_k", s.ld_k, row).size("ld_v", s.ld_v, row);
  check.size("ld_kv", s.ld_kv, s.h * (s.nope + s.v)).size("ld_r", s.ld_r, s.rope);
  check.elements("q", s.n, s.ld_q).elements("k", s.n, s.ld_k).elements("v", s.n, s.ld_v).elements("kv", s.n, s.ld_kv);
  check.elements("k_rope", s.n, s.ld_r).elements("cos", s.max_position, s.rope / 2);
  check.pointer("cos", cos, s.n).pointer("sin", sin, s.n).pointer("positions", positions, s.n);
  return check.ok();
}

}  // namespace oribi
#endif
