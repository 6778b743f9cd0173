/* The activations of gated MLPs and their derivatives on the device; the formulas stand at the head of glu.cu. */
#ifndef ORIBI_CUDA_ACTIVATION_CUH
#define ORIBI_CUDA_ACTIVATION_CUH

#include "oribi.h"

namespace oribi {

/* kFast: for 16-bit storage, whose rounding is up to 2^-9 or 2^-12 of the value. */
template <bool kFast>
__device__ float exponential(float x) {
  return kFast ? __expf(x) : expf(x);
}

/* 1 / d for d >= 1; 0 for an infinite d. */
template <bool kFast>
__device__ float reciprocal(float d) {
  return kFast ? __fdividef(1.0f, d) : 1.0f / d;
}

/* sigmoid(x) and 1 - sigmoid(x), neither from a difference, so that a saturated gate keeps its small derivative. */
template <bool kFast>
struct Sigmoid {
  float value, complement;
  __device__ explicit Sigmoid(float x) {
    const float e = exponential<kFast>(-fabsf(x)), large = reciprocal<kFast>(1.0f + e), small = e * large;
    value = x < 0.0f ? small : large;
    complement = x < 0.0f ? large : small;
  }
};

/* Value and derivative at once: the backward pass needs both, and they share the exponential. The forward pass takes the
   value alone, from the same expressions, so that f computed again in the backward pass has the same bits. */
struct Activated {
  float value, derivative;
};

template <bool kFast>
struct Silu {
  __device__ static Activated at(float x) {
    const Sigmoid<kFast> s(x);
    return {x * s.value, s.value * (1.0f + x * s.complement)};
  }
};

/* With (1 + tanh u) / 2 = sigmoid(2 u), which loses nothing where tanh is near -1. */
template <bool kFast>
struct GeluTanh {
  static constexpr float kScale = 1.59576912f, kCubic = 0.044715f; /* 2 sqrt(2 / pi) */

  /* Beyond 16 the sigmoid is 0 or 1 to the last bit; without the bound x^3 would overflow where act is still finite.
     Comparisons and not fminf, which would lose a NaN. */
  __device__ static float bounded(float x) { return x > 16.0f ? 16.0f : x < -16.0f ? -16.0f : x; }
  __device__ static float twice_u(float z) { return kScale * (z + kCubic * z * z * z); }

  __device__ static Activated at(float x) {
    const float z = bounded(x);
    const Sigmoid<kFast> s(twice_u(z));
    return {x * s.value, s.value * (1.0f + z * s.complement * kScale * (1.0f + 3.0f * kCubic * z * z))};
  }
};

template <bool kFast>
struct GeluErf {
  __device__ static Activated at(float x) {
    const float half = 0.5f * (1.0f + erff(x * 0.707106781f));
    return {x * half, half + x * exponential<kFast>(-0.5f * x * x) * 0.398942280f};
  }
};

/* Calls f with the activation's type for the storage type T; its value was checked before. */
template <class T, class F>
void dispatch_activation(oribi_activation act, F&& f) {
  constexpr bool kFast = sizeof(T) == 2;
  switch (act) {
    case ORIBI_GELU_TANH:
      return f(GeluTanh<kFast>{});
    case ORIBI_GELU_ERF:
      return f(GeluErf<kFast>{});
    default:
      return f(Silu<kFast>{});
  }
}

}  // namespace oribi
#endif
