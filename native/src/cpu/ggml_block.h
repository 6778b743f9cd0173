/* What is read of a block of ggml's by all who read them: halves, and the packed scales of the K types. */
#ifndef ORIBI_CPU_GGML_BLOCK_H
#define ORIBI_CPU_GGML_BLOCK_H

#include <cstdint>
#include <cstring>

#include "common/dtype.h"

namespace oribi {

inline uint32_t word_at(const uint8_t* p) {
  uint32_t word;
  std::memcpy(&word, p, sizeof word);
  return word;
}

inline float half_at(const uint8_t* p) {
  f16 half;
  std::memcpy(&half, p, sizeof half);
  return to_float(half);
}

/* The 8 scales of a block of 256 and then its 8 smallest values, unpacked from 12 bytes of 6 bits each. */
struct PackedScales {
  uint8_t numbers[16];

  explicit PackedScales(const uint8_t* p) {
    const uint32_t a = word_at(p), b = word_at(p + 4), c = word_at(p + 8);
    const uint32_t words[4] = {a & 0x3f3f3f3fu, (c & 0x0f0f0f0fu) | (a >> 6 & 0x03030303u) << 4, b & 0x3f3f3f3fu,
                               (c >> 4 & 0x0f0f0f0fu) | (b >> 6 & 0x03030303u) << 4};
    std::memcpy(numbers, words, sizeof words);
  }
};

}  // namespace oribi
#endif
