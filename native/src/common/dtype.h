/*
 * Storage types and the one dispatch from an oribi_dtype to a template argument.
 *
 * Conversions are written without branches, so that a loop over them vectorises on any instruction set. Rounding is to
 * nearest even; infinities stay, what is too large becomes infinite, and NaN stays NaN.
 */
#ifndef ORIBI_COMMON_DTYPE_H
#define ORIBI_COMMON_DTYPE_H

#include <cstdint>
#include <cstring>

#include "oribi.h"

namespace oribi {

struct bf16 {
  uint16_t bits;
};

struct f16 {
  uint16_t bits;
};

inline uint32_t float_bits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

inline float bits_float(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

inline float to_float(float x) { return x; }

inline float to_float(bf16 x) { return bits_float(static_cast<uint32_t>(x.bits) << 16); }

inline float to_float(f16 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(x.bits & 0x7fffu) << 13;
  /* The exponent's bias differs by 112: a multiplication by 2^112 corrects it and makes subnormals normal. */
  const uint32_t finite = float_bits(bits_float(magnitude) * 0x1p112f);
  const uint32_t special = magnitude | 0x7f800000u;
  return bits_float(sign | (magnitude >= 0x0f800000u ? special : finite));
}

template <class T>
T from_float(float x);

template <>
inline float from_float<float>(float x) {
  return x;
}

template <>
inline bf16 from_float<bf16>(float x) {
  const uint32_t bits = float_bits(x);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const uint32_t quiet_nan = (bits >> 16) | 0x40u;
  return bf16{static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? quiet_nan : rounded)};
}

template <>
inline f16 from_float<f16>(float x) {
  const uint32_t bits = float_bits(x);
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  /* Below 2^-14 the result is subnormal: adding 0.5 makes the fp32 addition round at 2^-24, the spacing of subnormals. */
  const uint32_t subnormal = float_bits(bits_float(magnitude) + 0.5f) - 0x3f000000u;
  const uint32_t finite = magnitude < 0x38800000u ? subnormal : normal;
  const uint32_t nan = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
  const uint32_t large = magnitude > 0x7f800000u ? nan : 0x7c00u;
  const uint32_t half = magnitude >= 0x477ff000u ? large : finite; /* 65520 and more rounds to infinity */
  return f16{static_cast<uint16_t>(half | ((bits >> 16) & 0x8000u))};
}

/* x as it would be after a store and a load. */
template <class T>
inline float round_to(float x) {
  return to_float(from_float<T>(x));
}

inline int64_t size_of(oribi_dtype t) { return t == ORIBI_F32 ? 4 : 2; }

/* Calls f with a value of the storage type; the dtype was checked before. */
template <class F>
inline void dispatch(oribi_dtype t, F&& f) {
  switch (t) {
    case ORIBI_BF16:
      f(bf16{});
      break;
    case ORIBI_F16:
      f(f16{});
      break;
    default:
      f(float{});
      break;
  }
}

}  // namespace oribi
#endif
