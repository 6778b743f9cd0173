/*
 * The random numbers of oribi.h in plain C++: Philox 4x32-10 as the paper states it, with 128-bit products, and the
 * transformations in double.
 */
#ifndef ORIBI_REFERENCE_RANDOM_H
#define ORIBI_REFERENCE_RANDOM_H

#include <array>
#include <cmath>
#include <cstdint>

namespace reference {

inline std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; round++) {
    const uint64_t a = static_cast<uint64_t>(counter[0]) * 0xD2511F53u, b = static_cast<uint64_t>(counter[2]) * 0xCD9E8D57u;
    counter = {static_cast<uint32_t>(b / 4294967296u) ^ counter[1] ^ key[0], static_cast<uint32_t>(b % 4294967296u),
               static_cast<uint32_t>(a / 4294967296u) ^ counter[3] ^ key[1], static_cast<uint32_t>(a % 4294967296u)};
    key = {key[0] + 0x9E3779B9u, key[1] + 0xBB67AE85u};
  }
  return counter;
}

inline uint32_t random_word(uint64_t seed, uint64_t stream, uint64_t element) {
  const uint64_t index = element / 4;
  const auto low = [](uint64_t x) { return static_cast<uint32_t>(x % 4294967296u); };
  const auto high = [](uint64_t x) { return static_cast<uint32_t>(x / 4294967296u); };
  return philox({low(index), high(index), low(stream), high(stream)}, {low(seed), high(seed)})[element % 4];
}

inline double random_uniform(uint64_t seed, uint64_t stream, uint64_t element) {
  return std::floor(random_word(seed, stream, element) / 256.0) / 16777216.0;
}

inline double random_normal(uint64_t seed, uint64_t stream, uint64_t element) {
  const uint64_t pair = element / 2 * 2;
  const double radius = std::sqrt(-2 * std::log((random_word(seed, stream, pair) + 0.5) / 4294967296.0));
  const double angle = 2 * M_PI * random_uniform(seed, stream, pair + 1);
  return radius * (element % 2 == 0 ? std::cos(angle) : std::sin(angle));
}

}  // namespace reference
#endif
