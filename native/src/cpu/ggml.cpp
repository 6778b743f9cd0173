/*
 * Math        w = the elements of ggml's blocks (common/ggml.h);  y[i,:] = table[ids[i],:]
 * Shapes      w (rows, cols), written with stride ld  blocks (rows, cols)  y (N,C)  table (V,C)  ids (N)
 * Layout      a row is whole blocks; blocks need no alignment
 * Precision   fp32, each operation rounded, none fused (this file is compiled so); rounded once to the storage type
 * Saved       nothing
 * Writes      w =, y =
 * Determinism bit-exact for any number of threads, and ggml's own bits in fp32
 * Limits      none; ids are checked before anything is written. A scale that is NaN or infinite decodes to what it says
 */
#include "common/ggml.h"

#include <cstring>

#include "common/dtype.h"
#include "cpu/ggml_block.h"
#include "cpu/parallel.h"

namespace oribi {
namespace {

constexpr int kMost = 256; /* elements of the largest block */

/* The 32 fifth bits of Q5_0 and Q5_1, each at the place of a 16: bit i belongs to element i. */
void fifth_bits(uint8_t* high, const uint8_t* p) {
  uint32_t bits;
  std::memcpy(&bits, p, sizeof bits);
  for (int i = 0; i < 32; i++) high[i] = static_cast<uint8_t>((bits >> i & 1u) << 4);
}

/* Blocks of 32 with 4 or 5 bits: w = d (q - middle) + min. */
void decode_small(float* w, const uint8_t* q, const uint8_t* high, float d, int middle) {
#pragma omp simd
  for (int j = 0; j < 16; j++) w[j] = static_cast<float>(((q[j] & 15) | high[j]) - middle) * d;
#pragma omp simd
  for (int j = 0; j < 16; j++) w[j + 16] = static_cast<float>((q[j] >> 4 | high[j + 16]) - middle) * d;
}

void decode_small_with_min(float* w, const uint8_t* q, const uint8_t* high, float d, float min) {
  decode_small(w, q, high, d, 0);
#pragma omp simd
  for (int j = 0; j < 32; j++) w[j] += min;
}

int scale_of(const uint8_t* packed, int g) {
  return g < 4 ? packed[g] & 63 : (packed[g + 4] & 15) | (packed[g - 4] >> 6) << 4;
}

int min_of(const uint8_t* packed, int g) {
  return g < 4 ? packed[g + 4] & 63 : packed[g + 4] >> 4 | (packed[g] >> 6) << 4;
}

template <int kBits>
void decode_k(float* w, const uint8_t* block) {
  const float d = half_at(block), dmin = half_at(block + 2);
  const uint8_t *scales = block + 4, *high = block + 16, *q = kBits == 5 ? block + 48 : block + 16;
  for (int g = 0; g < 8; g++) {
    const float step = d * static_cast<float>(scale_of(scales, g)), min = dmin * static_cast<float>(min_of(scales, g));
    const uint8_t* nibbles = q + g / 2 * 32;
    const int shift = g % 2 * 4;
#pragma omp simd
    for (int l = 0; l < 32; l++) {
      const int fifth = kBits == 5 ? (high[l] >> g & 1) << 4 : 0;
      w[g * 32 + l] = step * static_cast<float>((nibbles[l] >> shift & 15) | fifth) - min;
    }
  }
}

void decode_q6(float* w, const uint8_t* block) {
  const uint8_t *low = block, *high = block + 128;
  const int8_t* scales = reinterpret_cast<const int8_t*>(block + 192);
  const float d = half_at(block + 208);
  for (int g = 0; g < 16; g++) { /* 16 elements, all in one quarter of a half */
    const int half = g / 8, quarter = g % 8 / 2, first = g % 2 * 16;
    const uint8_t *l = low + half * 64 + quarter % 2 * 32 + first, *h = high + half * 32 + first;
    const int low_shift = quarter / 2 * 4, high_shift = quarter * 2;
    const float step = d * static_cast<float>(scales[g]);
#pragma omp simd
    for (int i = 0; i < 16; i++) {
      const int code = (l[i] >> low_shift & 15) | (h[i] >> high_shift & 3) << 4;
      w[g * 16 + i] = step * static_cast<float>(code - 32);
    }
  }
}

void decode(float* w, const uint8_t* block, oribi_ggml_type type) {
  static const uint8_t kNone[32] = {};
  uint8_t high[32];
  switch (type) {
    case ORIBI_GGML_Q4_0: return decode_small(w, block + 2, kNone, half_at(block), 8);
    case ORIBI_GGML_Q4_1: return decode_small_with_min(w, block + 4, kNone, half_at(block), half_at(block + 2));
    case ORIBI_GGML_Q5_0: fifth_bits(high, block + 2); return decode_small(w, block + 6, high, half_at(block), 16);
    case ORIBI_GGML_Q5_1:
      fifth_bits(high, block + 4);
      return decode_small_with_min(w, block + 8, high, half_at(block), half_at(block + 2));
    case ORIBI_GGML_Q8_0: {
      const float d = half_at(block);
      const int8_t* q = reinterpret_cast<const int8_t*>(block + 2);
#pragma omp simd
      for (int i = 0; i < 32; i++) w[i] = static_cast<float>(q[i]) * d;
      return;
    }
    case ORIBI_GGML_Q4_K: return decode_k<4>(w, block);
    case ORIBI_GGML_Q5_K: return decode_k<5>(w, block);
    case ORIBI_GGML_Q6_K: return decode_q6(w, block);
    default: return; /* numbers as they are: decode_row */
  }
}

template <class T, class From>
void convert_row(T* w, const uint8_t* row, int64_t cols) {
  const From* from = reinterpret_cast<const From*>(row);
#pragma omp simd
  for (int64_t i = 0; i < cols; i++) w[i] = from_float<T>(to_float(from[i]));
}

/* One row of cols elements. */
template <class T>
void decode_row(T* w, const uint8_t* row, int64_t cols, oribi_ggml_type type) {
  if (type == ORIBI_GGML_F32) return convert_row<T, float>(w, row, cols);
  if (type == ORIBI_GGML_F16) return convert_row<T, f16>(w, row, cols);
  if (type == ORIBI_GGML_BF16) return convert_row<T, bf16>(w, row, cols);
  const GgmlLayout layout = ggml_layout(type);
  float values[kMost];
  for (int64_t i = 0; i < cols; i += layout.elements, row += layout.bytes) {
    decode(values, row, type);
#pragma omp simd
    for (int k = 0; k < layout.elements; k++) w[i + k] = from_float<T>(values[k]);
  }
}

int64_t row_bytes(int64_t cols, oribi_ggml_type type) { return cols / ggml_layout(type).elements * ggml_layout(type).bytes; }

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_ggml_dequantize(oribi_ctx* ctx, void* w, const void* blocks, int64_t rows, int64_t cols, int64_t ld,
                                              oribi_ggml_type type, oribi_dtype t) {
  Check check(ctx, "oribi_ggml_dequantize");
  if (!check_ggml_dequantize(check, w, blocks, rows, cols, ld, type, t).ok() || rows == 0 || cols == 0) return check.status();
  const int64_t bytes = row_bytes(cols, type);
  dispatch(t, [&](auto value) {
    using T = decltype(value);
    parallel_ranges(ctx, rows, rows_per_chunk(cols), [=](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; r++) {
        decode_row(static_cast<T*>(w) + r * ld, static_cast<const uint8_t*>(blocks) + r * bytes, cols, type);
      }
    });
  });
  return ORIBI_OK;
}

extern "C" oribi_status oribi_ggml_embedding(oribi_ctx* ctx, void* y, const void* table, const int32_t* ids, int64_t n,
                                             int64_t c, int64_t v, oribi_ggml_type type, oribi_dtype t) {
  Check check(ctx, "oribi_ggml_embedding");
  check_ggml_embedding(check, y, table, ids, n, c, v, type, t);
  for (int64_t i = 0; check.ok() && i < n; i++) {
    check.that(ids[i] >= 0 && ids[i] < v, "ids[%lld] is %d, expected 0 to %lld", static_cast<long long>(i), ids[i],
               static_cast<long long>(v) - 1);
  }
  if (!check.ok()) return check.status();
  const int64_t bytes = row_bytes(c, type);
  dispatch(t, [&](auto value) {
    using T = decltype(value);
    parallel_ranges(ctx, n, rows_per_chunk(c), [=](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; r++) {
        decode_row(static_cast<T*>(y) + r * c, static_cast<const uint8_t*>(table) + ids[r] * bytes, c, type);
      }
    });
  });
  return ORIBI_OK;
}
