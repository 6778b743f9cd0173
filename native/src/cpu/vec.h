/*
 * Elementary functions for vectors. Each is a template over F: float (a loop over it vectorises under `omp simd`) or one
 * of the vector types below. They have no branch and no table, and propagate NaN.
 */
#ifndef ORIBI_CPU_VEC_H
#define ORIBI_CPU_VEC_H

#include <cstdint>
#include <cstring>
#include <utility>

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

template <int32_t... I>
inline vint lane_numbers(std::integer_sequence<int32_t, I...>) {
  return vint{I...};
}

/* Lane i holds lane i ^ step of v; a step known to the compiler makes this one instruction. */
inline vfloat vexchange(vfloat v, int32_t step) {
  return __builtin_shuffle(v, lane_numbers(std::make_integer_sequence<int32_t, kLanes>{}) ^ step);
}

/* rows[i][j] = what rows[j][i] was, for kLanes vectors: blocks of 1, 2, 4 ... lanes change places in turn. */
inline void vtranspose(vfloat* rows) {
  const vint lane = lane_numbers(std::make_integer_sequence<int32_t, kLanes>{}), other = lane + int32_t{kLanes};
#pragma GCC unroll 4
  for (int32_t step = 1; step < kLanes; step *= 2)
#pragma GCC unroll 16
    for (int32_t i = 0; i < kLanes; i++) {
      if ((i & step) != 0) continue;
      const vfloat a = rows[i], b = rows[i + step];
      const vint upper = (lane & step) != 0;
      rows[i] = __builtin_shuffle(a, b, upper ? other ^ step : lane);
      rows[i + step] = __builtin_shuffle(a, b, upper ? other : lane ^ step);
    }
}

inline float vsum(vfloat v) {
#pragma GCC unroll 4
  for (int32_t step = kLanes / 2; step > 0; step /= 2) v += vexchange(v, step);
  return v[0];
}

inline float vmax(vfloat v) {
#pragma GCC unroll 4
  for (int32_t step = kLanes / 2; step > 0; step /= 2) {
    const vfloat other = vexchange(v, step);
    v = v > other ? v : other;
  }
  return v[0];
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

/* x with the sign of y; x is not negative. */
template <class F>
inline F vcopysign(F x, F y) {
  return as_float(as_int(x) | (as_int(y) & INT32_MIN));
}

inline float to_float_lanes(int32_t i) { return static_cast<float>(i); }
inline vfloat to_float_lanes(vint i) { return __builtin_convertvector(i, vfloat); }

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

/* 1 / (1 + e^-x) within 3 ulp. */
template <class F>
inline F vsigmoid(F x) {
  return 1.0f / (1.0f + vexp(-x));
}

/* erf within 2 ulp: a polynomial near 0, 1 - erfc beyond, where log erfc is a polynomial; 1 from 4 on. */
template <class F>
inline F verf(F x) {
  const F a = vabs(x), x2 = x * x, four = F{} + 4.0f;
  F p = x2 * 8.509966046e-5f - 8.175476931e-4f;
  p = p * x2 + 5.203900325e-3f;
  p = p * x2 - 2.686054992e-2f;
  p = p * x2 + 1.128371630e-1f;
  p = p * x2 - 3.761263510e-1f;
  p = p * x2 + 1.283791668e-1f;
  const F near = p * x + x;
  const F b = a > four ? four : a;
  F q = b * 1.992290562e-4f - 3.075272001e-3f;
  q = q * b + 2.235369716e-2f;
  q = q * b - 1.041923991e-1f;
  q = q * b - 6.368877262e-1f;
  q = q * b - 1.127848881e+0f;
  q = q * b - 1.541593506e-4f;
  const F far = 1.0f - vexp(q);
  return a < 0.9f ? near : vcopysign(far, x);
}

/* The natural logarithm of normal positive numbers, within 1 ulp. x = m 2^e with m between sqrt(1/2) and sqrt(2). */
template <class F>
inline F vlog(F x) {
  const auto e = (as_int(x) - 0x3f3504f3) >> 23;
  const F f = as_float(as_int(x) - (e << 23)) - 1.0f, n = to_float_lanes(e);
  F p = f * 6.746601467e-2f - 1.167965865e-1f;
  p = p * f + 1.189032518e-1f;
  p = p * f - 1.240513490e-1f;
  p = p * f + 1.421922412e-1f;
  p = p * f - 1.666800690e-1f;
  p = p * f + 2.000213360e-1f;
  p = p * f - 2.500000964e-1f;
  p = p * f + 3.333331241e-1f;
  const F tail = p * f * f * f + n * 1.42860677e-6f; /* ln2 in two parts, as in vexp */
  return n * 0.693145752f + (f - (0.5f * f * f - tail));
}

/* cos and sin of 2 pi turn for turn in [0, 1], exactly reduced to a quarter. */
template <class F>
inline void vsincos_turn(F turn, F& sine, F& cosine) {
  const F shifted = turn * 4.0f + 12582912.0f;
  const F r = turn * 4.0f - (shifted - 12582912.0f), r2 = r * r;
  const auto quarter = as_int(shifted);
  F s = r2 * 1.581950749e-4f - 4.681260628e-3f;
  s = s * r2 + 7.969258184e-2f;
  s = s * r2 - 6.459640961e-1f;
  s = (s * r2 + 1.570796327f) * r;
  F c = r2 * 9.036317027e-4f - 2.086007132e-2f;
  c = c * r2 + 2.536692039e-1f;
  c = c * r2 - 1.233700541f;
  c = c * r2 + 1.0f;
  const auto odd = (quarter & 1) != 0;
  const F a = odd ? c : s, b = odd ? s : c;
  sine = as_float(as_int(a) ^ ((quarter & 2) << 30));
  cosine = as_float(as_int(b) ^ (((quarter + 1) & 2) << 30));
}

}  // namespace oribi
#endif
