/* The checks of cross_entropy's scalars, the same on every device. */
#ifndef ORIBI_COMMON_CROSS_ENTROPY_H
#define ORIBI_COMMON_CROSS_ENTROPY_H

#include <cmath>

#include "common/context.h"

namespace oribi {

inline Check& check_logits(Check& check, float logit_scale, float softcap) {
  check.that(std::isfinite(logit_scale), "logit_scale must be finite, found %g", static_cast<double>(logit_scale));
  return check.that(softcap >= 0 && std::isfinite(softcap), "softcap must be 0 (off) or more, found %g",
                    static_cast<double>(softcap));
}

}  // namespace oribi
#endif
