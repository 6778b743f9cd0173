/*
 * Elementary functions for vectors. Each is a template over F: float (a loop over it vectorises under `omp simd`) or one
 * of the vector types below. They have no branch and no table, and propagate NaN.
 */
#ifndef ORIBI_CPU_VEC_H
#define ORIBI_CPU_VEC_H

#include <cstdint>
#include <cstring>

namespace oribi {

/* One register of the instruction set: the compiler passes wider vectors through memory. */
#if defined(__AVX512F__)
constexpr int64_t kLanes = 16;
#elif defined(__AVX2__)
constexpr int64_t kLanes = 8;
#else
constexpr int64_t kLanes = 4;
#endif
typedef float vfloat __attribute__((vector_size(4 * kLanes)));
typedef int32_t vint __attribute__((vector_size(4 * kLanes)));

inline vfloat vload(const float* p) {
  vfloat v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline vint vload(const int32_t* p) {
  vint v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline void vstore(float* p, vfloat v) { std::memcpy(p, &v, sizeof v); }

inline vfloat vset(float x) { return vfloat{} + x; }

inline float vsum(vfloat v) {
  float sum = 0;
  for (int64_t i = 0; i < kLanes; i++) sum += v[i];
  return sum;
}

inline float vmax(vfloat v) {
  float largest = v[0];
  for (int64_t i = 1; i < kLanes; i++) largest = v[i] > largest ? v[i] : largest;
  return largest;
}

inline int32_t as_int(float x) {
  int32_t i;
  std::memcpy(&i, &x, sizeof i);
  return i;
}
inline float as_float(int32_t i) {
  float x;
  std::memcpy(&x, &i, sizeof x);
  return x;
}
inline vint as_int(vfloat x) { return reinterpret_cast<vint>(x); }
inline vfloat as_float(vint i) { return reinterpret_cast<vfloat>(i); }

template <class F>
inline F vabs(F x) {
  return as_float(as_int(x) & 0x7fffffff);
}

/* 2^n for integers n in [-126, 127]. */
template <class I>
inline auto exp2_of_int(I n) {
  return as_float((n + 127) << 23);
}

/* e^x within 1 ulp, subnormal results included; 0 and infinity beyond the range.
   x = n ln2 + r with |r| <= ln2/2, e^r by a polynomial, times 2^n in two halves so that neither overflows. */
template <class F>
inline F vexp(F x) {
  const F top = F{} + 89.0f, bottom = F{} - 104.0f;
  x = x > top ? top : x;
  x = x < bottom ? bottom : x;
  const F shifted = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: the addition rounds to an integer */
  const F n = shifted - 12582912.0f;
  F r = x - n * 0.693145752f; /* ln2 = 0.693145752 (its low bits zero, so the product is exact) + 1.42860677e-6 */
  r = r - n * 1.42860677e-6f;
  F p = r * 1.381314460e-3f + 8.369418934e-3f;
  p = p * r + 4.166845679e-2f;
  p = p * r + 1.666651479e-1f;
  p = p * r + 4.999999305e-1f;
  p = p * r * r + r + 1.0f;
  const auto exponent = as_int(shifted) - 0x4b400000;
  const auto half = exponent >> 1;
  return p * exp2_of_int(half) * exp2_of_int(exponent - half);
}

/* 1 / (1 + e^-x) within 2 ulp. */
template <class F>
inline F vsigmoid(F x) {
  return 1.0f / (1.0f + vexp(-x));
}

}  // namespace oribi
#endif
