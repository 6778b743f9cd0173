/*
 * Math        absmax = max |w| of a block;  code = number of thresholds below w * (1 / absmax)
 *             offset = mean(absmax);  absmax - offset in 8 bits, group by group, relative to absmax2 = max |absmax - offset|
 *             w = nf4[code] * (map[absmax code] * absmax2 + offset)
 * Shapes      w (count) or (rows, cols) with stride ld  codes (count/2)  absmax (count/64)  absmax2 (ceil(count/64/256))
 *             offset (1)
 * Layout      blocks of 64 and groups of 256 blocks of the flattened matrix; count and cols multiples of 64
 * Precision   fp32, each operation rounded; the mean in fp64, rounded once; w rounded once to its storage type
 * Saved       nothing
 * Writes      all of q =, w =
 * Determinism bit-exact for any number of threads and on every device: the mean is summed over fixed chunks
 * Limits      none. A block of zeros has code 0 everywhere, as in bitsandbytes, and decodes to what its absmax decodes to,
 *             which is 0 only nearly
 */
#include "common/nf4.h"

#include <cmath>

#include "common/context.h"
#include "common/dtype.h"
#include "common/dynamic_map.h"
#include "cpu/parallel.h"
#include "cpu/vec.h"

namespace oribi {
namespace {

constexpr DynamicMap kSigned = make_dynamic_map(true);
constexpr DynamicMap kUnsigned = make_dynamic_map(false);

/* volatile: the product is rounded before the sum, where the compiler would fuse them. */
float absmax_of(const oribi_nf4& q, int64_t block) {
  const volatile float scaled = kSigned.value[q.absmax[block]] * q.absmax2[block / kNf4Group];
  return scaled + *q.offset;
}

/* The codes of one block; returns its absmax. */
template <class T>
float quantize_block(uint8_t* codes, const T* w) {
  float x[kNf4Block], absmax = 0;
  for (int64_t i = 0; i < kNf4Block; i++) x[i] = to_float(w[i]);
#pragma omp simd reduction(max : absmax)
  for (int64_t i = 0; i < kNf4Block; i++) absmax = std::fabs(x[i]) > absmax ? std::fabs(x[i]) : absmax;
  const float inverse = 1.0f / absmax;
  int32_t code[kNf4Block] = {};
#pragma omp simd
  for (int64_t i = 0; i < kNf4Block; i++) {
    const float scaled = x[i] * inverse;
    for (float threshold : kNf4Thresholds) code[i] += scaled > threshold ? 1 : 0;
  }
  for (int64_t i = 0; i < kNf4Block / 2; i++) codes[i] = static_cast<uint8_t>(code[2 * i] << 4 | code[2 * i + 1]);
  return absmax;
}

void quantize_group(uint8_t* codes, float* absmax2, const float* absmax, float offset, int64_t count) {
  float largest = 0;
  for (int64_t i = 0; i < count; i++) largest = std::fmax(largest, std::fabs(absmax[i] - offset));
  *absmax2 = largest;
  const float inverse = 1.0f / largest;
  for (int64_t i = 0; i < count; i++) {
    codes[i] = static_cast<uint8_t>(dynamic_code(kSigned.between, (absmax[i] - offset) * inverse));
  }
}

template <class T>
void quantize(const oribi_ctx* ctx, const oribi_nf4& q, const T* w, void* workspace, int64_t count) {
  const int64_t blocks = nf4_blocks(count), chunks = nf4_chunks(count);
  double* sums = static_cast<double*>(workspace);
  float* absmax = reinterpret_cast<float*>(sums + chunks);
  parallel_ranges(ctx, blocks, kNf4Chunk, [=](int64_t begin, int64_t end) {
    double sum = 0;
    for (int64_t b = begin; b < end; b++) {
      absmax[b] = quantize_block(q.codes + b * (kNf4Block / 2), w + b * kNf4Block);
      sum += absmax[b];
    }
    sums[begin / kNf4Chunk] = sum;
  });
  double sum = 0;
  for (int64_t i = 0; i < chunks; i++) sum += sums[i];
  const float offset = *q.offset = static_cast<float>(sum / static_cast<double>(blocks));
  parallel_ranges(ctx, blocks, kNf4Group, [=](int64_t begin, int64_t end) {
    quantize_group(q.absmax + begin, q.absmax2 + begin / kNf4Group, absmax + begin, offset, end - begin);
  });
}

/* The values that codes name. Where registers hold at least half of the table, a permutation looks up all lanes at once. */
inline vfloat values_of(vint code) {
  if constexpr (kLanes == 16) {
    return __builtin_shuffle(vload(kNf4Values), code);
  } else if constexpr (kLanes == 8) {
    return __builtin_shuffle(vload(kNf4Values), vload(kNf4Values + 8), code);
  } else {
    vfloat value;
    for (int64_t i = 0; i < kLanes; i++) value[i] = kNf4Values[code[i]];
    return value;
  }
}

template <class T>
void dequantize_block(T* w, const uint8_t* codes, float absmax) {
  int32_t code[kNf4Block];
  float value[kNf4Block];
  for (int64_t i = 0; i < kNf4Block / 2; i++) {
    code[2 * i] = codes[i] >> 4;
    code[2 * i + 1] = codes[i] & 15;
  }
  for (int64_t i = 0; i < kNf4Block; i += kLanes) vstore(value + i, values_of(vload(code + i)) * absmax);
  for (int64_t i = 0; i < kNf4Block; i++) w[i] = from_float<T>(value[i]);
}

template <class T>
void dequantize(const oribi_ctx* ctx, T* w, const oribi_nf4& q, int64_t rows, int64_t cols, int64_t ld) {
  const int64_t per_row = cols / kNf4Block;
  parallel_ranges(ctx, rows * per_row, kChunkElements / kNf4Block, [=](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; b++) {
      T* out = w + b / per_row * ld + b % per_row * kNf4Block;
      dequantize_block(out, q.codes + b * (kNf4Block / 2), absmax_of(q, b));
    }
  });
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_nf4_quantize(oribi_ctx* ctx, const oribi_nf4* q, const void* w, void* workspace,
                                           int64_t count, oribi_dtype t) {
  Check check(ctx, "oribi_nf4_quantize");
  check_nf4(check, q, count).elements("w", count, 1).dtype("t", t);
  check.pointer("w", w, count).pointer("workspace", workspace, count);
  if (!check.ok() || count == 0) return check.status();
  dispatch(t, [&](auto type) { quantize(ctx, *q, static_cast<const decltype(type)*>(w), workspace, count); });
  return ORIBI_OK;
}

extern "C" int64_t oribi_nf4_workspace(int64_t count) { return nf4_workspace(count); }

extern "C" oribi_status oribi_nf4_dequantize(oribi_ctx* ctx, void* w, const oribi_nf4* q, int64_t rows, int64_t cols,
                                             int64_t ld, oribi_dtype t) {
  Check check(ctx, "oribi_nf4_dequantize");
  check_nf4_matrix(check, w, q, rows, cols, ld).dtype("t", t);
  if (!check.ok() || rows == 0 || cols == 0) return check.status();
  dispatch(t, [&](auto type) { dequantize(ctx, static_cast<decltype(type)*>(w), *q, rows, cols, ld); });
  return ORIBI_OK;
}

extern "C" const float* oribi_dynamic_map_signed(void) { return kSigned.value; }

extern "C" const float* oribi_dynamic_map_unsigned(void) { return kUnsigned.value; }
