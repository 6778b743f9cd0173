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

#include <algorithm>

using namespace oribi;

extern "C" oribi_status oribi_packed_offsets(oribi_ctx* ctx, int64_t* offsets, int32_t* lengths, const int32_t* cu_seqlens,
                                             const int64_t* strides, int64_t arrays, int64_t pitch, int64_t slots,
                                             int64_t sequences) {
  const oribi_status status =
      check_packed_offsets(ctx, offsets, lengths, cu_seqlens, strides, arrays, pitch, slots, sequences);
  if (status != ORIBI_OK) return status;
  for (int64_t j = 0; j < arrays; j++) {
    for (int64_t i = 0; i <= slots; i++) offsets[j * pitch + i] = cu_seqlens[std::min(i, sequences)] * strides[j];
  }
  for (int64_t i = 0; i < slots; i++) lengths[i] = i < sequences ? cu_seqlens[i + 1] - cu_seqlens[i] : 0;
  return ORIBI_OK;
}
