/* What oribi_packed_offsets checks and passes on, alike on every device. */
#ifndef ORIBI_COMMON_PACKED_OFFSETS_H
#define ORIBI_COMMON_PACKED_OFFSETS_H

#include "common/context.h"

namespace oribi {

/* Six are the most that attention has: q, k, v, o, the saved sums, the gradient of each head's keys. */
constexpr int64_t kMaxOffsetArrays = 8;

/* By value, so that a GPU gets them as a kernel's argument. */
struct OffsetStrides {
  int64_t of[kMaxOffsetArrays];
};

inline oribi_status check_packed_offsets(oribi_ctx* ctx, const int64_t* offsets, const int32_t* lengths,
                                         const int32_t* cu_seqlens, const int64_t* strides, int64_t arrays, int64_t pitch,
                                         int64_t slots, int64_t sequences) {
  Check check(ctx, "oribi_packed_offsets");
  check.size("sequences", sequences).size("slots", slots, sequences).size("pitch", pitch, slots + 1);
  check.size("arrays", arrays).that(arrays <= kMaxOffsetArrays, "arrays is %lld, at most %lld", static_cast<long long>(arrays),
                                    static_cast<long long>(kMaxOffsetArrays));
  check.elements("offsets", kMaxOffsetArrays, pitch).pointer("strides", strides, arrays).pointer("offsets", offsets, arrays);
  check.pointer("lengths", lengths, slots).pointer("cu_seqlens", cu_seqlens);
  for (int64_t j = 0; check.ok() && j < arrays; j++) check.size("strides", strides[j]);
  return check.status();
}

inline OffsetStrides offset_strides(const int64_t* strides, int64_t arrays) {
  OffsetStrides copy{};
  for (int64_t j = 0; j < arrays; j++) copy.of[j] = strides[j];
  return copy;
}

}  // namespace oribi
#endif
