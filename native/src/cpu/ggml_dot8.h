/*
 * A row of ggml's blocks times an x that was rounded to 8 bits: whole numbers inside a block, fp32 between blocks.
 *
 * A dot of each type takes the row's first block, x, and the row's length. The products of whole numbers are exact: the
 * largest, 63 * 127 twice, or 128 * 127 twice for Q8_0, fit the 16 bits that AVX2 sums pairs in. AVX2 and later take
 * ggml_dot8_avx2.h, other instruction sets ggml_dot8_plain.h; both give the same whole numbers and order their fp32 sums
 * differently.
 */
#ifndef ORIBI_CPU_GGML_DOT8_H
#define ORIBI_CPU_GGML_DOT8_H

#include <cstdint>
#include <cstring>

#include "common/ggml.h"
#include "cpu/ggml_block.h"

namespace oribi {

/* One row of x in whole numbers: x = scale * code for each 32 elements, or each 256 where W's blocks are of 256. */
struct Rounded {
  const int8_t* codes;  /* [in], -127 to 127 */
  const float* scale;   /* [in / 32] or [in / 256] */
  const int16_t* sums;  /* of the codes of each 32 elements, of each 16 for Q6_K */
};

typedef float (*Dot8)(const uint8_t* row, const Rounded& x, int64_t in);

}  // namespace oribi

#if defined(__AVX2__) && defined(__F16C__) && defined(__FMA__)
#include "cpu/ggml_dot8_avx2.h"
#else
#include "cpu/ggml_dot8_plain.h"
#endif

namespace oribi {

/* NULL: not a type of blocks. */
inline Dot8 dot8_of(oribi_ggml_type type) {
  switch (type) {
    case ORIBI_GGML_Q4_0: return dot8_small<4, false>;
    case ORIBI_GGML_Q4_1: return dot8_small<4, true>;
    case ORIBI_GGML_Q5_0: return dot8_small<5, false>;
    case ORIBI_GGML_Q5_1: return dot8_small<5, true>;
    case ORIBI_GGML_Q8_0: return dot8_q8_0;
    case ORIBI_GGML_Q4_K: return dot8_k<4>;
    case ORIBI_GGML_Q5_K: return dot8_k<5>;
    case ORIBI_GGML_Q6_K: return dot8_q6;
    default: return nullptr;
  }
}

}  // namespace oribi
#endif
