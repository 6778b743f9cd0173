/* How the fp64 sums cut their terms: the same on every device, so that one workspace size serves all. */
#ifndef ORIBI_COMMON_SUM_H
#define ORIBI_COMMON_SUM_H

#include <cstdint>

namespace oribi {

/* Elements of a partial sum: some 20 us of one core's work, and one pass of a GPU's block over 128 KiB. */
constexpr int64_t kSumChunk = 32768;

inline int64_t sum_chunks(int64_t count) { return (count + kSumChunk - 1) / kSumChunk; }
inline int64_t sum_workspace(int64_t count) { return sum_chunks(count) * static_cast<int64_t>(sizeof(double)); }

}  // namespace oribi
#endif
