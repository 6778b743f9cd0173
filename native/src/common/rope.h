/* What every device's rope asks of its arguments; of the positions themselves each device sees to it in its own way. */
#ifndef ORIBI_COMMON_ROPE_H
#define ORIBI_COMMON_ROPE_H

#include "common/context.h"

namespace oribi {

/* Channels of a head that turn. */
inline int64_t rotated_of(const oribi_rope_shape& s) { return s.rotated == 0 ? s.d : s.rotated; }

inline void check_rope(Check& check, const oribi_rope_shape& s, const void* q, const void* k, const float* cos,
                       const float* sin, const int32_t* positions) {
  check.size("n", s.n).size("h", s.h).size("h_kv", s.h_kv).size("d", s.d, 2).size("max_position", s.max_position);
  check.that(s.d % 2 == 0, "d must be even, found %lld", static_cast<long long>(s.d)).dtype("t", s.t);
  check.that(s.rotated >= 0 && s.rotated <= s.d && s.rotated % 2 == 0, "rotated must be even and at most d, found %lld",
             static_cast<long long>(s.rotated));
  check.elements("a row of q", s.h, s.d).elements("a row of k", s.h_kv, s.d);
  if (!check.ok()) return;
  check.size("ld_q", s.ld_q, s.h * s.d).size("ld_k", s.ld_k, s.h_kv * s.d);
  check.elements("q", s.n, s.ld_q).elements("k", s.n, s.ld_k).elements("cos", s.max_position, rotated_of(s) / 2);
  check.pointer("q", q, s.n * s.h * s.d).pointer("k", k, s.n * s.h_kv * s.d);
  check.pointer("cos", cos, s.n).pointer("sin", sin, s.n).pointer("positions", positions, s.n);
}

}  // namespace oribi
#endif
