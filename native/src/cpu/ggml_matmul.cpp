/*
 * Math        y = x·Wᵀ with W in ggml's blocks (common/ggml.h), for the few rows of x that decoding has
 * Shapes      x (N,in)  W (out,in)  y (N,out)
 * Layout      rows of x and y with strides; a row of W is whole blocks
 * Precision   fp32, fused: a block's integers are multiplied with x and summed, then scaled. x is not rounded, so that the result
 *             is that of the expanded weight but for the order of sums
 * Saved       nothing
 * Writes      y =
 * Determinism bit-exact for any number of threads
 * Limits      in up to 2^18. W is decoded again for each row of x: beyond about 8 rows expanding it once and one product are faster
 */
#include "common/ggml.h"

#include <cstring>
#if defined(__F16C__)
#include <immintrin.h>
#endif

#include "common/dtype.h"
#include "cpu/ggml_block.h"
#include "cpu/parallel.h"
#include "cpu/vec.h"

namespace oribi {
namespace {

typedef uint8_t vbyte __attribute__((vector_size(kLanes)));
typedef int8_t vsbyte __attribute__((vector_size(kLanes)));

/* Rows of W that make a piece of work: about 20 us of it at in = 4096. */
constexpr int64_t kRows = 16;

/* Longest row: its sums of 32 lie on the stack. The widest layers that are published have 53248. */
constexpr int64_t kMostIn = 1 << 18;

template <class V>
inline V load_as(const void* p) {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline vfloat widen(vint v) { return __builtin_convertvector(v, vfloat); }
inline vint codes(const uint8_t* p) { return __builtin_convertvector(load_as<vbyte>(p), vint); }
inline vint signed_codes(const uint8_t* p) { return __builtin_convertvector(load_as<vsbyte>(p), vint); }

/* The sums of x over pieces of 32: what a block's smallest value, or the middle of its codes, is multiplied with. */
void sums_of(float* sums, const float* x, int64_t in) {
  for (int64_t g = 0; g < in / 32; g++) {
    vfloat s{};
    for (int i = 0; i < 32; i += kLanes) s += vload(x + g * 32 + i);
    sums[g] = vsum(s);
  }
}

/* Each dot of a row: the vector sums of all blocks are added up lane by lane and reduced once. `sums` as sums_of makes them. */
float dot_q8_0(const uint8_t* row, const float* x, const float*, int64_t in) {
  vfloat total{};
  for (int64_t g = 0; g < in / 32; g++, row += 34, x += 32) {
    vfloat s{};
    for (int i = 0; i < 32; i += kLanes) s += widen(signed_codes(row + 2 + i)) * vload(x + i);
    total += s * half_at(row);
  }
  return vsum(total);
}

/* Q4_0, Q4_1, Q5_0, Q5_1. 16 codes of a half of the block; a lane width of 16 or less divides them. */
template <int kBits, bool kMin>
float dot_small(const uint8_t* row, const float* x, const float* sums, int64_t in) {
  constexpr int kHead = kMin ? 4 : 2, kBytes = kHead + (kBits == 5 ? 4 : 0) + 16;
  constexpr float kMiddle = kBits == 5 ? 16 : 8;
  const vint lane = lane_numbers(std::make_integer_sequence<int32_t, kLanes>{});
  vfloat total{};
  float offset = 0;
  for (int64_t g = 0; g < in / 32; g++, row += kBytes, x += 32) {
    const uint8_t* q = row + kBytes - 16;
    const float d = half_at(row);
    const int32_t high = kBits == 5 ? load_as<int32_t>(row + kHead) : 0;
    vfloat s{};
    for (int i = 0; i < 16; i += kLanes) {
      const vint both = codes(q + i);
      vint low = both & 15, up = both >> 4;
      if (kBits == 5) {
        low |= ((vint{} + high) >> (lane + i) & 1) << 4;
        up |= ((vint{} + high) >> (lane + i + 16) & 1) << 4;
      }
      s += widen(low) * vload(x + i);
      s += widen(up) * vload(x + i + 16);
    }
    total += s * d;
    offset += kMin ? half_at(row + 2) * sums[g] : -kMiddle * d * sums[g];
  }
  return vsum(total) + offset;
}

template <int kBits>
float dot_k(const uint8_t* row, const float* x, const float* sums, int64_t in) {
  constexpr int kBytes = kBits == 5 ? 176 : 144;
  vfloat total{};
  float offset = 0;
  for (int64_t b = 0; b < in / 256; b++, row += kBytes, x += 256, sums += 8) {
    const float d = half_at(row), dmin = half_at(row + 2);
    const PackedScales packed(row + 4);
    const uint8_t *scale = packed.numbers, *min = scale + 8;
    const uint8_t *high = row + 16, *q = row + kBytes - 128;
    float below = 0;
#pragma GCC unroll 4
    for (int pair = 0; pair < 4; pair++) {
      vfloat low{}, up{};
      for (int l = 0; l < 32; l += kLanes) {
        const vint both = codes(q + pair * 32 + l);
        vint a = both & 15, c = both >> 4;
        if (kBits == 5) {
          const vint fifth = codes(high + l) >> 2 * pair;
          a |= (fifth & 1) << 4;
          c |= (fifth & 2) << 3;
        }
        low += widen(a) * vload(x + pair * 64 + l);
        up += widen(c) * vload(x + pair * 64 + 32 + l);
      }
      total += low * (d * scale[2 * pair]);
      total += up * (d * scale[2 * pair + 1]);
      below += min[2 * pair] * sums[2 * pair] + min[2 * pair + 1] * sums[2 * pair + 1];
    }
    offset += dmin * below;
  }
  return vsum(total) - offset;
}

float dot_q6(const uint8_t* row, const float* x, const float*, int64_t in) {
  vfloat total{};
  for (int64_t b = 0; b < in / 256; b++, row += 210, x += 256) {
    const float d = half_at(row + 208);
    const int8_t* scales = reinterpret_cast<const int8_t*>(row + 192);
    for (int half = 0; half < 2; half++) {
      const uint8_t *low = row + half * 64, *high = row + 128 + half * 32;
      const float* xs = x + half * 128;
      for (int i = 0; i < 32; i += kLanes) {
        const vint a = codes(low + i), c = codes(low + 32 + i), h = codes(high + i);
        const int8_t* sc = scales + half * 8 + i / 16;
        total += widen(((a & 15) | (h & 3) << 4) - 32) * vload(xs + i) * (d * sc[0]);
        total += widen(((c & 15) | (h & 12) << 2) - 32) * vload(xs + 32 + i) * (d * sc[2]);
        total += widen((a >> 4 | (h & 48)) - 32) * vload(xs + 64 + i) * (d * sc[4]);
        total += widen((c >> 4 | (h >> 6) << 4) - 32) * vload(xs + 96 + i) * (d * sc[6]);
      }
    }
  }
  return vsum(total);
}

typedef int16_t vhalf __attribute__((vector_size(2 * kLanes)));

/* kLanes numbers in fp32. */
inline vfloat widen_at(const float* p) { return vload(p); }

inline vfloat widen_at(const bf16* p) {
  return as_float(__builtin_convertvector(load_as<vhalf>(p), vint) << 16);
}

/* The processor's own conversion where it has one. */
inline vfloat widen_at(const f16* p) {
#if defined(__AVX512F__)
  return reinterpret_cast<vfloat>(_mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
#elif defined(__F16C__)
  return reinterpret_cast<vfloat>(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#else
  /* Exponent and fraction move to their places, and a product with a power of two makes the exponent that of fp32, which subnormal
     numbers come out of normal; infinity and NaN get theirs. */
  const vint bits = __builtin_convertvector(load_as<vhalf>(p), vint) << 13 & static_cast<int32_t>(0x8fffe000);
  const vint value = as_int(as_float(bits) * 0x1p112f);
  return as_float(value | (((value & 0x7fffffff) >= as_int(65536.0f)) & 0x7f800000));
#endif
}

/* Four sums, so that additions need not wait for each other. */
template <class T>
float dot_plain(const uint8_t* row, const float* x, const float*, int64_t in) {
  const T* w = reinterpret_cast<const T*>(row);
  vfloat total[4] = {};
  int64_t i = 0;
  for (; i + 4 * kLanes <= in; i += 4 * kLanes) {
    for (int64_t k = 0; k < 4; k++) total[k] += widen_at(w + i + k * kLanes) * vload(x + i + k * kLanes);
  }
  for (; i + kLanes <= in; i += kLanes) total[0] += widen_at(w + i) * vload(x + i);
  float rest = 0;
  for (; i < in; i++) rest += to_float(w[i]) * x[i];
  return vsum((total[0] + total[1]) + (total[2] + total[3])) + rest;
}

typedef float (*Dot)(const uint8_t* row, const float* x, const float* sums, int64_t in);

Dot dot_of(oribi_ggml_type type) {
  switch (type) {
    case ORIBI_GGML_F32: return dot_plain<float>;
    case ORIBI_GGML_F16: return dot_plain<f16>;
    case ORIBI_GGML_BF16: return dot_plain<bf16>;
    case ORIBI_GGML_Q4_0: return dot_small<4, false>;
    case ORIBI_GGML_Q4_1: return dot_small<4, true>;
    case ORIBI_GGML_Q5_0: return dot_small<5, false>;
    case ORIBI_GGML_Q5_1: return dot_small<5, true>;
    case ORIBI_GGML_Q8_0: return dot_q8_0;
    case ORIBI_GGML_Q4_K: return dot_k<4>;
    case ORIBI_GGML_Q5_K: return dot_k<5>;
    case ORIBI_GGML_Q6_K: return dot_q6;
  }
  return nullptr;
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_ggml_matmul(oribi_ctx* ctx, float* y, const float* x, const void* w, int64_t n, int64_t in,
                                          int64_t out, int64_t ld_x, int64_t ld_y, oribi_ggml_type type) {
  Check check(ctx, "oribi_ggml_matmul");
  if (!check_ggml_matmul(check, y, x, w, n, in, out, ld_x, ld_y, type, kMostIn).ok()) return check.status();
  const GgmlLayout layout = ggml_layout(type);
  const int64_t bytes = in / layout.elements * layout.bytes;
  const Dot dot = dot_of(type);
  float sums[kMostIn / 32];
  const float* of_x = sums;
  const int64_t groups = in / 32, most = kMostIn / in; /* rows of x whose sums fit: each row of W is read once for all of them */
  for (int64_t first = 0; first < n; first += most, x += most * ld_x, y += most * ld_y) {
    const int64_t rows = std::min(most, n - first);
    for (int64_t i = 0; layout.elements > 1 && i < rows; i++) sums_of(sums + i * groups, x + i * ld_x, in);
    parallel_ranges(ctx, out, kRows, [=](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; r++) {
        for (int64_t i = 0; i < rows; i++) {
          y[i * ld_y + r] = dot(static_cast<const uint8_t*>(w) + r * bytes, x + i * ld_x, of_x + i * groups, in);
        }
      }
    });
  }
  return ORIBI_OK;
}
