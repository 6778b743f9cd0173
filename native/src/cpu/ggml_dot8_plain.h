/* The dots of ggml_dot8.h in plain loops, which the compiler makes vectors of as the instruction set allows. */
#ifndef ORIBI_CPU_GGML_DOT8_PLAIN_H
#define ORIBI_CPU_GGML_DOT8_PLAIN_H

namespace oribi {

template <int kCount>
inline int32_t dot_bytes(const int8_t* a, const int8_t* b) {
  int32_t sum = 0;
  for (int i = 0; i < kCount; i++) sum += static_cast<int16_t>(a[i]) * static_cast<int16_t>(b[i]);
  return sum;
}

inline float dot8_q8_0(const uint8_t* row, const Rounded& x, int64_t in) {
  float total = 0;
  for (int64_t g = 0; g < in / 32; g++, row += 34) {
    const int32_t sum = dot_bytes<32>(reinterpret_cast<const int8_t*>(row + 2), x.codes + g * 32);
    total += half_at(row) * x.scale[g] * static_cast<float>(sum);
  }
  return total;
}

/* Q4_0, Q4_1, Q5_0, Q5_1 */
template <int kBits, bool kMin>
float dot8_small(const uint8_t* row, const Rounded& x, int64_t in) {
  constexpr int kHead = kMin ? 4 : 2, kBytes = kHead + (kBits == 5 ? 4 : 0) + 16, kMiddle = kMin ? 0 : kBits == 5 ? 16 : 8;
  float total = 0;
  for (int64_t g = 0; g < in / 32; g++, row += kBytes) {
    const uint8_t* q = row + kBytes - 16;
    const uint32_t high = kBits == 5 ? word_at(row + kHead) : 0;
    int8_t codes[32];
    for (int i = 0; i < 16; i++) {
      codes[i] = static_cast<int8_t>(((q[i] & 15) | (high >> i & 1) << 4) - kMiddle);
      codes[i + 16] = static_cast<int8_t>((q[i] >> 4 | (high >> (i + 16) & 1) << 4) - kMiddle);
    }
    total += half_at(row) * x.scale[g] * static_cast<float>(dot_bytes<32>(codes, x.codes + g * 32));
    if (kMin) total += half_at(row + 2) * (x.scale[g] * static_cast<float>(x.sums[g]));
  }
  return total;
}

template <int kBits>
float dot8_k(const uint8_t* row, const Rounded& x, int64_t in) {
  constexpr int kBytes = kBits == 5 ? 176 : 144;
  float total = 0;
  for (int64_t b = 0; b < in / 256; b++, row += kBytes) {
    const PackedScales packed(row + 4);
    int32_t sum = 0, below = 0;
    for (int g = 0; g < 8; g++) {
      const uint8_t* q = row + kBytes - 128 + g / 2 * 32;
      int8_t codes[32];
      for (int i = 0; i < 32; i++) {
        const int fifth = kBits == 5 ? (row[16 + i] >> g & 1) << 4 : 0;
        codes[i] = static_cast<int8_t>((q[i] >> g % 2 * 4 & 15) | fifth);
      }
      sum += packed.numbers[g] * dot_bytes<32>(codes, x.codes + b * 256 + g * 32);
      below += packed.numbers[8 + g] * x.sums[b * 8 + g];
    }
    total += x.scale[b] * (half_at(row) * static_cast<float>(sum) - half_at(row + 2) * static_cast<float>(below));
  }
  return total;
}

inline float dot8_q6(const uint8_t* row, const Rounded& x, int64_t in) {
  float total = 0;
  for (int64_t b = 0; b < in / 256; b++, row += 210) {
    int32_t sum = 0;
    for (int g = 0; g < 16; g++) { /* 16 elements, all in one quarter of a half */
      const int half = g / 8, quarter = g % 8 / 2, first = g % 2 * 16;
      const uint8_t *low = row + half * 64 + quarter % 2 * 32 + first, *high = row + 128 + half * 32 + first;
      int8_t codes[16];
      for (int i = 0; i < 16; i++) {
        codes[i] = static_cast<int8_t>(((low[i] >> quarter / 2 * 4 & 15) | (high[i] >> quarter * 2 & 3) << 4) - 32);
      }
      sum += static_cast<int8_t>(row[192 + g]) * dot_bytes<16>(codes, x.codes + b * 256 + g * 16);
    }
    total += half_at(row + 208) * x.scale[b] * static_cast<float>(sum);
  }
  return total;
}

}  // namespace oribi
#endif
