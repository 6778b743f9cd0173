/* The checks of a shape of attention, the same on every device. */
#ifndef ORIBI_COMMON_ATTENTION_H
#define ORIBI_COMMON_ATTENTION_H

#include <cmath>

#include "common/context.h"

namespace oribi::attention {

using Shape = oribi_attention_shape;

/* Sizes, strides and scalars; not what the pointers lead to. */
inline void check_shape(Check& check, const Shape& s) {
  check.size("n", s.n).size("sequences", s.sequences).size("h", s.h, 1).size("h_kv", s.h_kv, 1).dtype("t", s.t);
  if (!check.ok()) return;
  check.that(s.h % s.h_kv == 0, "h must be a multiple of h_kv, found %lld and %lld", (long long)s.h,
             (long long)s.h_kv);
  check.that(s.d >= 2 && s.d <= 256 && s.d % 2 == 0, "d must be even and 2 to 256, found %lld", (long long)s.d);
  check.elements("q", s.n, s.ld_q);
  if (!check.ok()) return;
  check.size("ld_q", s.ld_q, s.h * s.d).size("ld_o", s.ld_o, s.h * s.d);
  check.size("ld_k", s.ld_k, s.h_kv * s.d).size("ld_v", s.ld_v, s.h_kv * s.d);
  check.size("max_seqlen", s.max_seqlen).size("window", s.window);
  check.that(s.softcap >= 0 && std::isfinite(s.softcap), "softcap must be finite and at least 0, found %g", s.softcap);
  check.that((s.kv_start == nullptr) == (s.kv_len == nullptr), "kv_start and kv_len must both be given or both be NULL");
  check.pointer("cu_seqlens", s.cu_seqlens);
}

}  // namespace oribi::attention
#endif
