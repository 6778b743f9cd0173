/* The activations of gated MLPs and their derivatives, in fp32; the formulas stand at the head of glu.cpp. */
#ifndef ORIBI_CPU_ACTIVATION_H
#define ORIBI_CPU_ACTIVATION_H

#include "cpu/vec.h"
#include "oribi.h"

namespace oribi {

/* sigmoid(x) and 1 - sigmoid(x), neither from a difference, so that a saturated gate keeps its small derivative. */
struct Sigmoid {
  float value, complement;
  explicit Sigmoid(float x) {
    const float e = vexp(-vabs(x)), large = 1.0f / (1.0f + e), small = e * large;
    value = x < 0.0f ? small : large;
    complement = x < 0.0f ? large : small;
  }
};

struct Silu {
  static float value(float x) { return x * vsigmoid(x); }
  static float derivative(float x) {
    const Sigmoid s(x);
    return s.value * (1.0f + x * s.complement);
  }
};

/* With (1 + tanh u) / 2 = sigmoid(2 u), which loses nothing where tanh is near -1. */
struct GeluTanh {
  static constexpr float kScale = 1.59576912f, kCubic = 0.044715f; /* 2 sqrt(2 / pi) */

  /* Beyond 16 the sigmoid is 0 or 1 to the last bit; without the bound x^3 would overflow where act is still finite. */
  static float bounded(float x) { return x > 16.0f ? 16.0f : x < -16.0f ? -16.0f : x; }

  static float twice_u(float z) { return kScale * (z + kCubic * z * z * z); }

  static float value(float x) { return x * vsigmoid(twice_u(bounded(x))); }

  static float derivative(float x) {
    const float z = bounded(x);
    const Sigmoid s(twice_u(z));
    return s.value * (1.0f + z * s.complement * kScale * (1.0f + 3.0f * kCubic * z * z));
  }
};

struct GeluErf {
  static float value(float x) { return 0.5f * x * (1.0f + verf(x * 0.707106781f)); }
  static float derivative(float x) {
    return 0.5f * (1.0f + verf(x * 0.707106781f)) + x * vexp(-0.5f * x * x) * 0.398942280f;
  }
};

/* Calls f with the activation's type; its value was checked before. */
template <class F>
void dispatch_activation(oribi_activation act, F&& f) {
  switch (act) {
    case ORIBI_GELU_TANH:
      return f(GeluTanh{});
    case ORIBI_GELU_ERF:
      return f(GeluErf{});
    default:
      return f(Silu{});
  }
}

}  // namespace oribi
#endif
