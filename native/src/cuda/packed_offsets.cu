/*
 * Math        offsets[j, i] = cu_seqlens[min(i, S)] * strides[j];  lengths[i] = i < S ? cu_seqlens[i+1] - cu_seqlens[i] : 0
 * Shapes      offsets (arrays, pitch), of which slots + 1 columns are written; lengths (slots); cu_seqlens (S+1)
 * Layout      any size
 * Precision   offsets int64: an array of 2^31 elements is none too large; lengths int32, as cu_seqlens
 * Saved       nothing
 * Writes      offsets =, lengths =
 * Determinism integers
 * Limits      8 arrays
 */
#include "common/packed_offsets.h"
#include "cuda/context.cuh"

namespace oribi {
namespace {

constexpr int kThreads = 128; /* a batch has tens of sequences: one block, most of the time */

__global__ void __launch_bounds__(kThreads) offsets_kernel(int64_t* offsets, int32_t* lengths, const int32_t* cu_seqlens,
                                                           OffsetStrides strides, int64_t arrays, int64_t pitch,
                                                           int64_t slots, int64_t sequences) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i > slots) return;
  const int64_t begin = cu_seqlens[i < sequences ? i : sequences];
#pragma unroll
  for (int64_t j = 0; j < kMaxOffsetArrays; j++) { /* unrolled, or the strides would be copied to local memory */
    if (j < arrays) offsets[j * pitch + i] = begin * strides.of[j];
  }
  if (i < slots) lengths[i] = i < sequences ? static_cast<int32_t>(cu_seqlens[i + 1] - begin) : 0;
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_packed_offsets(oribi_ctx* ctx, int64_t* offsets, int32_t* lengths, const int32_t* cu_seqlens,
                                             const int64_t* strides, int64_t arrays, int64_t pitch, int64_t slots,
                                             int64_t sequences) {
  const char* function = "oribi_packed_offsets";
  oribi_status status =
      check_packed_offsets(ctx, offsets, lengths, cu_seqlens, strides, arrays, pitch, slots, sequences);
  if (status == ORIBI_OK) status = select_device(ctx, function);
  if (status != ORIBI_OK) return status;
  offsets_kernel<<<static_cast<unsigned>(slots / kThreads + 1), kThreads, 0, stream_of(ctx)>>>(
      offsets, lengths, cu_seqlens, offset_strides(strides, arrays), arrays, pitch, slots, sequences);
  return launch_status(ctx, function);
}
