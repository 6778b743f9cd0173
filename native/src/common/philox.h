/*
 * Philox 4x32-10: four random words from a 128-bit counter and a 64-bit key, without any state
 * (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3. SC 2011).
 *
 * Oribi's numbers: the key is the seed, the counter is (index, stream), and element i of a stream is word i % 4 of
 * index i / 4. The code has no branch and vectorises.
 */
#ifndef ORIBI_COMMON_PHILOX_H
#define ORIBI_COMMON_PHILOX_H

#include <cstdint>

#if defined(__CUDACC__)
#define ORIBI_HOST_DEVICE __host__ __device__
#else
#define ORIBI_HOST_DEVICE
#endif

namespace oribi {

struct PhiloxWords {
  uint32_t word[4];
};

ORIBI_HOST_DEVICE inline PhiloxWords philox(uint64_t seed, uint64_t stream, uint64_t index) {
  uint32_t c0 = static_cast<uint32_t>(index), c1 = static_cast<uint32_t>(index >> 32);
  uint32_t c2 = static_cast<uint32_t>(stream), c3 = static_cast<uint32_t>(stream >> 32);
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; round++) {
    const uint64_t left = uint64_t{0xd2511f53u} * c0, right = uint64_t{0xcd9e8d57u} * c2;
    const uint32_t next0 = static_cast<uint32_t>(right >> 32) ^ c1 ^ k0;
    const uint32_t next2 = static_cast<uint32_t>(left >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(right);
    c3 = static_cast<uint32_t>(left);
    c0 = next0;
    c2 = next2;
    k0 += 0x9e3779b9u;
    k1 += 0xbb67ae85u;
  }
  return {{c0, c1, c2, c3}};
}

/* A word as a number in [0, 1), a multiple of 2^-24: exact in fp32. */
ORIBI_HOST_DEVICE inline float philox_uniform(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }

}  // namespace oribi
#endif
