/*
 * The dots of ggml_dot8.h in AVX2: bytes without a sign times bytes with one, summed in pairs to 16 bits and in fours to 32. Vectors of
 * 32 bytes with AVX-512 too: a group of equal scale is 32 or 16 elements. VNNI would make one instruction of two; on an AMD EPYC
 * (Zen 5) it gained 8 % for Q4_0 and nothing for other types, which memory bounds, and so has no library of its own.
 */
#ifndef ORIBI_CPU_GGML_DOT8_AVX2_H
#define ORIBI_CPU_GGML_DOT8_AVX2_H

#include <immintrin.h>

namespace oribi {

inline __m256i bytes_at(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline __m128i half_bytes_at(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }

/* An fp16 number in all lanes. */
inline __m256 halves_at(const uint8_t* p) {
  int16_t bits;
  std::memcpy(&bits, p, sizeof bits);
  return _mm256_cvtph_ps(_mm_set1_epi16(bits));
}

inline float sum_of(__m256 v) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

/* sum + the products of neighbouring 16-bit numbers, added in pairs. */
inline __m256i add_pairs(__m256i sum, __m256i a, __m256i b) {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
}

/* The sums of four neighbouring products; `codes` has no sign. */
inline __m256i dot_fours(__m256i codes, __m256i x) {
  return _mm256_madd_epi16(_mm256_maddubs_epi16(codes, x), _mm256_set1_epi16(1));
}

/* The same of codes with a sign, which moves to x. */
inline __m256i dot_signed_fours(__m256i codes, __m256i x) {
  return dot_fours(_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes));
}

/* total + d scale dots */
inline __m256 add_block(__m256 total, const uint8_t* d, float scale, __m256i dots) {
  return _mm256_fmadd_ps(_mm256_mul_ps(halves_at(d), _mm256_set1_ps(scale)), _mm256_cvtepi32_ps(dots), total);
}

/* Two sums: the additions of one would follow each other at their latency, which is half the speed of memory for Q4_0. */
inline float dot8_q8_0(const uint8_t* row, const Rounded& x, int64_t in) {
  __m256 even = _mm256_setzero_ps(), odd = even;
  const int64_t blocks = in / 32;
  int64_t g = 0;
  for (; g + 1 < blocks; g += 2, row += 68) {
    even = add_block(even, row, x.scale[g], dot_signed_fours(bytes_at(row + 2), bytes_at(x.codes + g * 32)));
    odd = add_block(odd, row + 34, x.scale[g + 1], dot_signed_fours(bytes_at(row + 36), bytes_at(x.codes + g * 32 + 32)));
  }
  if (g < blocks) even = add_block(even, row, x.scale[g], dot_signed_fours(bytes_at(row + 2), bytes_at(x.codes + g * 32)));
  return sum_of(_mm256_add_ps(even, odd));
}

/* 16 in the bytes whose bit is set in the 32 bits at p. */
inline __m256i fifth_bits_at(const uint8_t* p) {
  const __m256i spread = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
  const __m256i bit = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201u));
  const __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<int32_t>(word_at(p))), spread);
  return _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit), _mm256_set1_epi8(16));
}

/* total + one block of Q4_0, Q4_1, Q5_0 or Q5_1, without its smallest value. The low halves of 16 bytes are the first 16 codes. */
template <int kBits, bool kMin>
inline __m256 add_small(__m256 total, const uint8_t* block, const int8_t* x, float scale) {
  constexpr int kHead = kMin ? 4 : 2, kCodes = kHead + (kBits == 5 ? 4 : 0);
  const __m128i both = half_bytes_at(block + kCodes);
  __m256i codes = _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(both, 4), both), _mm256_set1_epi8(15));
  if (kBits == 5) codes = _mm256_or_si256(codes, fifth_bits_at(block + kHead));
  if (kMin) return add_block(total, block, scale, dot_fours(codes, bytes_at(x)));
  codes = _mm256_sub_epi8(codes, _mm256_set1_epi8(kBits == 5 ? 16 : 8));
  return add_block(total, block, scale, dot_signed_fours(codes, bytes_at(x)));
}

template <int kBits, bool kMin>
float dot8_small(const uint8_t* row, const Rounded& x, int64_t in) {
  constexpr int kBytes = (kMin ? 4 : 2) + (kBits == 5 ? 4 : 0) + 16;
  __m256 even = _mm256_setzero_ps(), odd = even;
  const int64_t blocks = in / 32;
  int64_t g = 0;
  for (; g + 1 < blocks; g += 2) {
    even = add_small<kBits, kMin>(even, row + g * kBytes, x.codes + g * 32, x.scale[g]);
    odd = add_small<kBits, kMin>(odd, row + (g + 1) * kBytes, x.codes + g * 32 + 32, x.scale[g + 1]);
  }
  if (g < blocks) even = add_small<kBits, kMin>(even, row + g * kBytes, x.codes + g * 32, x.scale[g]);
  float offset = 0;
  for (g = 0; kMin && g < blocks; g++) offset += half_at(row + g * kBytes + 2) * (x.scale[g] * static_cast<float>(x.sums[g]));
  return sum_of(_mm256_add_ps(even, odd)) + offset;
}

/* Number g of the 8 that are in each half of `scales`, in all lanes of 16 bits. */
inline __m256i spread(__m256i scales, int g) {
  return _mm256_shuffle_epi8(scales, _mm256_set1_epi16(static_cast<int16_t>(0x0100 + 0x0202 * g)));
}

/* Bit g of each byte as a 16. */
inline __m256i fifth_bit(__m256i high, int g) {
  const __m256i moved = g < 4 ? _mm256_slli_epi16(high, 4 - g) : _mm256_srli_epi16(high, g - 4);
  return _mm256_and_si256(moved, _mm256_set1_epi8(16));
}

template <int kBits>
float dot8_k(const uint8_t* row, const Rounded& x, int64_t in) {
  constexpr int kBytes = kBits == 5 ? 176 : 144;
  const __m256i nibble = _mm256_set1_epi8(15);
  __m256 total = _mm256_setzero_ps();
  __m128 below = _mm_setzero_ps();
  for (int64_t b = 0; b < in / 256; b++, row += kBytes) {
    const PackedScales packed(row + 4);
    const __m256i numbers = _mm256_cvtepu8_epi16(half_bytes_at(packed.numbers));
    const __m256i scales = _mm256_permute4x64_epi64(numbers, 0x44);
    const __m128i mins = _mm_madd_epi16(_mm256_extracti128_si256(numbers, 1), half_bytes_at(x.sums + b * 8));
    const __m256i high = kBits == 5 ? bytes_at(row + 16) : nibble;
    __m256i sum = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int pair = 0; pair < 4; pair++) {
      const __m256i both = bytes_at(row + kBytes - 128 + pair * 32);
      __m256i first = _mm256_and_si256(both, nibble), second = _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble);
      if (kBits == 5) {
        first = _mm256_or_si256(first, fifth_bit(high, 2 * pair));
        second = _mm256_or_si256(second, fifth_bit(high, 2 * pair + 1));
      }
      const int8_t* xs = x.codes + b * 256 + pair * 64;
      sum = add_pairs(sum, _mm256_maddubs_epi16(first, bytes_at(xs)), spread(scales, 2 * pair));
      sum = add_pairs(sum, _mm256_maddubs_epi16(second, bytes_at(xs + 32)), spread(scales, 2 * pair + 1));
    }
    total = add_block(total, row, x.scale[b], sum);
    below = _mm_fmadd_ps(_mm_set1_ps(half_at(row + 2) * x.scale[b]), _mm_cvtepi32_ps(mins), below);
  }
  return sum_of(_mm256_sub_ps(total, _mm256_zextps128_ps256(below)));
}

inline float dot8_q6(const uint8_t* row, const Rounded& x, int64_t in) {
  const __m256i nibble = _mm256_set1_epi8(15), fifths = _mm256_set1_epi8(48);
  __m256 total = _mm256_setzero_ps();
  for (int64_t b = 0; b < in / 256; b++, row += 210) {
    const __m256i scales = _mm256_cvtepi8_epi16(half_bytes_at(row + 192));
    /* 32 is taken from each code here: its products with x are 32 times the sums of x. */
    const __m256i middle = _mm256_slli_epi32(_mm256_madd_epi16(scales, bytes_at(x.sums + b * 16)), 5);
    __m256i sum = _mm256_sub_epi32(_mm256_setzero_si256(), middle);
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
      const __m256i eight = half == 0 ? _mm256_permute4x64_epi64(scales, 0x44) : _mm256_permute4x64_epi64(scales, 0xee);
      const __m256i a = bytes_at(row + half * 64), c = bytes_at(row + half * 64 + 32), high = bytes_at(row + 128 + half * 32);
      const __m256i codes[4] = {
          _mm256_or_si256(_mm256_and_si256(a, nibble), _mm256_and_si256(_mm256_slli_epi16(high, 4), fifths)),
          _mm256_or_si256(_mm256_and_si256(c, nibble), _mm256_and_si256(_mm256_slli_epi16(high, 2), fifths)),
          _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(a, 4), nibble), _mm256_and_si256(high, fifths)),
          _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(c, 4), nibble), _mm256_and_si256(_mm256_srli_epi16(high, 2), fifths))};
#pragma GCC unroll 4
      for (int k = 0; k < 4; k++) {
        /* Two groups of 16: one in each half of the vector. */
        const __m256i place = _mm256_blend_epi32(_mm256_set1_epi16(static_cast<int16_t>(0x0100 + 0x0404 * k)),
                                                 _mm256_set1_epi16(static_cast<int16_t>(0x0302 + 0x0404 * k)), 0xf0);
        const __m256i pairs = _mm256_maddubs_epi16(codes[k], bytes_at(x.codes + b * 256 + half * 128 + k * 32));
        sum = add_pairs(sum, pairs, _mm256_shuffle_epi8(eight, place));
      }
    }
    total = add_block(total, row + 208, x.scale[b], sum);
  }
  return sum_of(total);
}

}  // namespace oribi
#endif
