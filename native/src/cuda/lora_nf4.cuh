/*
 * NF4 decoded in registers, for the LoRA product on mma.sync. A block of 64 has one scale and so 16 possible values: they are
 * computed and rounded first, w = round(nf4[code] * scale), and each code then picks its 16 bits by byte permutations, without
 * arithmetic and without shared memory, whose bandwidth the fragments need.
 */
#ifndef ORIBI_CUDA_LORA_NF4_CUH
#define ORIBI_CUDA_LORA_NF4_CUH

#include "common/dynamic_map.h"
#include "common/nf4.h"
#include "cuda/lora_tile.cuh"

namespace oribi::lora {

/* NF4's 16 values where device code can have them as constants. */
struct Nf4Constants {
  float value[16];
};
constexpr Nf4Constants make_nf4_constants() {
  Nf4Constants constants{};
  for (int i = 0; i < 16; i++) constants.value[i] = kNf4Values[i];
  return constants;
}
constexpr Nf4Constants kNf4Constants = make_nf4_constants();

/* The map of NF4's absmax codes where a kernel can read it. */
static __device__ const DynamicMap kAbsmaxMap = make_dynamic_map(true);

/* Four of the eight bytes of a and b, one for each four bits of selector; 8 in them spreads the byte's sign instead. */
__device__ inline uint32_t permute(uint32_t a, uint32_t b, uint32_t selector) {
  uint32_t bytes;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(bytes) : "r"(a), "r"(b), "r"(selector));
  return bytes;
}

/* The 16 values of a block: their low bytes and their high bytes, four to a register. */
template <class T>
struct BlockValues {
  uint32_t low[4], high[4];

  __device__ explicit BlockValues(float scale) {
    constexpr Nf4Constants kConstants = kNf4Constants;
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const uint32_t a = pack_pair<T>(kConstants.value[4 * i] * scale, kConstants.value[4 * i + 1] * scale);
      const uint32_t b = pack_pair<T>(kConstants.value[4 * i + 2] * scale, kConstants.value[4 * i + 3] * scale);
      low[i] = permute(a, b, 0x6420);
      high[i] = permute(a, b, 0x7531);
    }
  }

  /* The bytes for four codes, whose fourth bits, as whole bytes, are `upper`. */
  static __device__ uint32_t pick(const uint32_t (&bytes)[4], uint32_t codes, uint32_t upper) {
    return (permute(bytes[2], bytes[3], codes) & upper) | (permute(bytes[0], bytes[1], codes) & ~upper);
  }

  /* Eight elements, two a byte, the first in the high four bits: a permutation takes them in the order 1, 0, 3, 2. */
  __device__ uint4 decode(uint32_t codes) const {
    const uint32_t index = codes & 0x77777777, shifted = codes << 4;
    const uint32_t upper0 = permute(codes, shifted, 0x9d8c), upper1 = permute(codes, shifted, 0xbfae);
    const uint32_t low0 = pick(low, index, upper0), high0 = pick(high, index, upper0);
    const uint32_t low1 = pick(low, index >> 16, upper1), high1 = pick(high, index >> 16, upper1);
    return make_uint4(permute(low0, high0, 0x4051), permute(low0, high0, 0x6273), permute(low1, high1, 0x4051),
                      permute(low1, high1, 0x6273));
  }
};

}  // namespace oribi::lora
#endif
