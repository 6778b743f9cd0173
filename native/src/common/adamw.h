/* The numbers that all elements of an AdamW step share, and what its hyperparameters may be. */
#ifndef ORIBI_COMMON_ADAMW_H
#define ORIBI_COMMON_ADAMW_H

#include <cmath>

#include "common/context.h"

#if defined(__CUDACC__)
#define ORIBI_HOST_DEVICE __host__ __device__
#else
#define ORIBI_HOST_DEVICE
#endif

namespace oribi {

constexpr int64_t kAdamw8Block = 256; /* elements whose 8-bit moments share a maximum */

struct AdamwScalars {
  float decay, rest1, beta2, rest2, correction2_root, epsilon, step_size;
};

/* 1 - beta^step */
ORIBI_HOST_DEVICE inline double adamw_correction(double beta, int64_t step) {
  return 1 - pow(beta, static_cast<double>(step));
}

/* Worked out in double, each rounded once. The corrections come from outside: on a GPU two threads take a power each. */
ORIBI_HOST_DEVICE inline AdamwScalars adamw_scalars(const oribi_adamw_hyper& hyper, double correction1, double correction2) {
  AdamwScalars s;
  s.decay = static_cast<float>(1 - hyper.learning_rate * hyper.weight_decay);
  s.rest1 = static_cast<float>(1 - hyper.beta1);
  s.beta2 = static_cast<float>(hyper.beta2);
  s.rest2 = static_cast<float>(1 - hyper.beta2);
  s.correction2_root = static_cast<float>(sqrt(correction2));
  s.epsilon = static_cast<float>(hyper.epsilon);
  s.step_size = static_cast<float>(hyper.learning_rate / correction1);
  return s;
}

inline AdamwScalars adamw_scalars(const oribi_adamw_hyper& hyper) {
  return adamw_scalars(hyper, adamw_correction(hyper.beta1, hyper.step), adamw_correction(hyper.beta2, hyper.step));
}

/* On the CPU only: a GPU's entry point cannot read them. */
inline void check_hyper(Check& check, const oribi_adamw_hyper* hyper) {
  if (!check.ok()) return;
  check.size("hyper.step", hyper->step, 1);
  check.that(hyper->beta1 >= 0 && hyper->beta1 < 1, "beta1 must be in [0, 1), found %g", hyper->beta1);
  check.that(hyper->beta2 >= 0 && hyper->beta2 < 1, "beta2 must be in [0, 1), found %g", hyper->beta2);
  check.that(hyper->epsilon >= 0, "epsilon must not be negative, found %g", hyper->epsilon);
  check.that(hyper->learning_rate >= 0, "learning_rate must not be negative, found %g", hyper->learning_rate);
  check.that(hyper->weight_decay >= 0, "weight_decay must not be negative, found %g", hyper->weight_decay);
}

/* The pointers of both forms: moments fp32 or 8 bits. */
inline Check& check_adamw(Check& check, const float* p, const void* m, const void* v, const float* g,
                          const oribi_adamw_hyper* hyper, int64_t count, oribi_dtype t16) {
  check.size("count", count).dtype("t16", t16);
  check.pointer("p", p, count).pointer("m", m, count).pointer("v", v, count).pointer("g", g, count);
  return check.pointer("hyper", hyper);
}

}  // namespace oribi
#endif
