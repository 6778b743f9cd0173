/*
 * NF4 with double quantization, as bitsandbytes stores it (Dettmers et al., QLoRA, 2023): what every kernel of it shares.
 *
 *   w = kNf4Values[code] * absmax,   absmax = map[absmax code] * absmax2 + offset
 *
 * Each product and each sum is rounded to fp32 before the next; then w is rounded once to its storage type. The first of two
 * elements lies in the high four bits of its byte.
 */
#ifndef ORIBI_COMMON_NF4_H
#define ORIBI_COMMON_NF4_H

#include <cstdint>

#include "common/context.h"

namespace oribi {

constexpr int64_t kNf4Block = 64;  /* elements that share an absmax */
constexpr int64_t kNf4Group = 256; /* blocks that share an absmax2 */

constexpr float kNf4Values[16] = {-1.0f,
                                  -0.6961928009986877f,
                                  -0.5250730514526367f,
                                  -0.39491748809814453f,
                                  -0.28444138169288635f,
                                  -0.18477343022823334f,
                                  -0.09105003625154495f,
                                  0.0f,
                                  0.07958029955625534f,
                                  0.16093020141124725f,
                                  0.24611230194568634f,
                                  0.33791524171829224f,
                                  0.44070982933044434f,
                                  0.5626170039176941f,
                                  0.7229568362236023f,
                                  1.0f};

/* The code of x is the number of these strictly below it, hence 0 for NaN. */
constexpr float kNf4Thresholds[15] = {-0.8480964004993439f, -0.6106329262256622f,  -0.4599952697753906f,
                                      -0.33967943489551544f, -0.23460740596055984f, -0.13791173323988914f,
                                      -0.045525018125772476f, 0.03979014977812767f, 0.1202552504837513f,
                                      0.2035212516784668f,   0.2920137718319893f,   0.3893125355243683f,
                                      0.5016634166240692f,   0.6427869200706482f,   0.8614784181118011f};

inline int64_t nf4_blocks(int64_t count) { return count / kNf4Block; }
inline int64_t nf4_groups(int64_t count) { return (nf4_blocks(count) + kNf4Group - 1) / kNf4Group; }

/* The mean of the blocks' absmax is a sum in fp64 of partial sums, each over this many blocks. Sums of 16-bit weights'
   absmax are exact there, so that every device finds the same offset. */
constexpr int64_t kNf4Chunk = 128;
inline int64_t nf4_chunks(int64_t count) { return (nf4_blocks(count) + kNf4Chunk - 1) / kNf4Chunk; }

/* The workspace of quantize: the partial sums, then the blocks' absmax in fp32. */
inline int64_t nf4_workspace(int64_t count) {
  return count <= 0 ? 0 : nf4_chunks(count) * static_cast<int64_t>(sizeof(double)) +
                              nf4_blocks(count) * static_cast<int64_t>(sizeof(float));
}

/* The checks of both entry points, the same on every device. */
inline Check& check_nf4(Check& check, const oribi_nf4* q, int64_t count) {
  check.size("count", count).that(count % kNf4Block == 0, "count must be a multiple of 64, found %lld",
                                  static_cast<long long>(count));
  check.pointer("q", q, count);
  if (!check.ok() || count == 0) return check;
  check.pointer("q.codes", q->codes).pointer("q.absmax", q->absmax);
  return check.pointer("q.absmax2", q->absmax2).pointer("q.offset", q->offset);
}

inline Check& check_nf4_matrix(Check& check, const void* w, const oribi_nf4* q, int64_t rows, int64_t cols, int64_t ld) {
  check.size("rows", rows).size("cols", cols).elements("w", rows, ld);
  check.that(cols % kNf4Block == 0, "cols must be a multiple of 64, found %lld", static_cast<long long>(cols));
  check.that(ld >= cols, "ld must be at least cols = %lld, found %lld", static_cast<long long>(cols), static_cast<long long>(ld));
  if (!check.ok()) return check;
  return check_nf4(check, q, rows * cols).pointer("w", w, rows * cols);
}

}  // namespace oribi
#endif
