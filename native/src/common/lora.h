/* What every device's LoRA kernels ask of their arguments, and where an adapter's parts lie. */
#ifndef ORIBI_COMMON_LORA_H
#define ORIBI_COMMON_LORA_H

#include "common/context.h"

namespace oribi {

constexpr int32_t kMaxAdapters = 4;
constexpr int64_t kMaxRank = 256;

/* R, the columns of h and g and the rows of A. */
inline int64_t lora_width(const oribi_lora_shape& shape) { return shape.adapters * shape.rank; }

/* The row of b where the block of adapter p begins; p = adapters: the rows of b. */
inline int64_t lora_b_row(const oribi_lora_shape& shape, int32_t p) {
  int64_t row = 0;
  for (int32_t i = 0; i < p; i++) row += shape.outs[i];
  return row;
}

inline bool check_lora_shape(Check& check, const oribi_lora_shape* shape) {
  check.pointer("shape", shape);
  if (!check.ok()) return false;
  check.size("n", shape->n).size("in", shape->in, 1).size("out", shape->out, 1).dtype("t", shape->t);
  check.size("ld_x", shape->ld_x, shape->in).size("ld_y", shape->ld_y, shape->out);
  check.elements("x", shape->n, shape->ld_x).elements("y", shape->n, shape->ld_y).elements("W", shape->out, shape->in);
  check.that(shape->adapters >= 0 && shape->adapters <= kMaxAdapters, "adapters is %d, expected 0 to %d", shape->adapters,
             kMaxAdapters);
  if (!check.ok() || shape->adapters == 0) return check.ok();
  check.that(shape->rank >= 8 && shape->rank <= kMaxRank && shape->rank % 8 == 0,
             "rank is %lld, expected a multiple of 8 from 8 to %lld", static_cast<long long>(shape->rank),
             static_cast<long long>(kMaxRank));
  int64_t end = 0;
  for (int32_t p = 0; p < shape->adapters && check.ok(); p++) {
    const int64_t first = shape->first_out[p], outs = shape->outs[p];
    check.that(outs >= 1 && first >= end && outs <= shape->out && first <= shape->out - outs,
               "adapter %d has columns %lld + %lld of %lld; adapters are in the order of their columns and share none", p,
               static_cast<long long>(first), static_cast<long long>(outs), static_cast<long long>(shape->out));
    end = first + outs;
  }
  return check.ok();
}

/* The weight of a product: w, or nf4 where w is NULL. */
inline bool check_lora_weight(Check& check, const void* w, const oribi_nf4* nf4, const oribi_lora_shape& shape) {
  if (w != nullptr) return check.ok();
  check.that(nf4 != nullptr, "w and nf4 are both NULL, expected one of them");
  if (!check.ok()) return false;
  check.pointer("nf4.codes", nf4->codes).pointer("nf4.absmax", nf4->absmax);
  check.pointer("nf4.absmax2", nf4->absmax2).pointer("nf4.offset", nf4->offset);
  check.that(shape.in % 64 == 0, "in is %lld, expected a multiple of 64, the block of NF4", static_cast<long long>(shape.in));
  return check.ok();
}

}  // namespace oribi
#endif
