/*
 * Math        scale = max |w| of a block / 127;  code = nearest integer to w / scale;  w = code * scale
 * Shapes      w (rows, cols), dequantized with stride ld  codes (rows*cols)  scale (rows*cols/64)  lost, all (rows*cols/64)
 * Layout      blocks of 64 along a row; cols a multiple of 64
 * Precision   fp32, each operation rounded to nearest even; w rounded once to its storage type
 * Saved       nothing
 * Writes      all of q =, lost =, all =, w =
 * Determinism bit-exact for any number of threads; codes, scale and w are the same bits on every device
 * Limits      none. A block of zeros stays zeros. One that holds NaN or infinity decodes to NaN: it is not hidden. One of fp32
 *             with magnitudes above 2^127 may decode to infinity
 */
#include "common/int8.h"

#include <cfloat>
#include <cmath>
#include <cstring>

#include "common/context.h"
#include "common/dtype.h"
#include "cpu/parallel.h"

namespace oribi {
namespace {

/* Magnitudes are compared as bits, among which NaN is the largest. */
float absmax_of(const float* x) {
  uint32_t most = 0;
#pragma omp simd reduction(max : most)
  for (int64_t i = 0; i < kInt8Block; i++) {
    const uint32_t magnitude = float_bits(x[i]) & 0x7fffffffu;
    most = magnitude > most ? magnitude : most;
  }
  return bits_float(most);
}

/* The codes of a block whose scale has a quotient; rounding scale may bring the largest just above 127. */
void encode(int8_t* codes, const float* x, float scale) {
#pragma omp simd
  for (int64_t i = 0; i < kInt8Block; i++) {
    const float code = std::rint(x[i] / scale);
    codes[i] = static_cast<int8_t>(code > kInt8Most ? kInt8Most : code < -kInt8Most ? -kInt8Most : code);
  }
}

float quantize_block(int8_t* codes, const float* x) {
  const float scale = absmax_of(x) / static_cast<float>(kInt8Most);
  if (scale > 0 && scale <= FLT_MAX) {
    encode(codes, x, scale);
  } else { /* zeros, and numbers below every scale; or not a number, which 0 * scale then is too */
    std::memset(codes, 0, kInt8Block);
  }
  return scale;
}

struct Squares {
  float lost, all;
};

/* The sums of squares of a block: of what was lost, and of what there was. */
template <class T>
Squares squares_of(const int8_t* codes, float scale, const float* x) {
  float difference = 0, square = 0;
#pragma omp simd reduction(+ : difference, square)
  for (int64_t i = 0; i < kInt8Block; i++) {
    const float d = x[i] - round_to<T>(static_cast<float>(codes[i]) * scale);
    difference += d * d;
    square += x[i] * x[i];
  }
  return {difference, square};
}

template <class T>
void quantize(const oribi_ctx* ctx, const oribi_int8& q, float* lost, float* all, const T* w, int64_t blocks) {
  parallel_ranges(ctx, blocks, kChunkElements / kInt8Block, [=](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; b++) {
      float x[kInt8Block];
      for (int64_t i = 0; i < kInt8Block; i++) x[i] = to_float(w[b * kInt8Block + i]);
      int8_t* codes = q.codes + b * kInt8Block;
      q.scale[b] = quantize_block(codes, x);
      if (lost == nullptr && all == nullptr) continue;
      const Squares squares = squares_of<T>(codes, q.scale[b], x);
      if (lost != nullptr) lost[b] = squares.lost;
      if (all != nullptr) all[b] = squares.all;
    }
  });
}

template <class T>
void dequantize(const oribi_ctx* ctx, T* w, const oribi_int8& q, int64_t rows, int64_t cols, int64_t ld) {
  const int64_t per_row = cols / kInt8Block;
  parallel_ranges(ctx, rows * per_row, kChunkElements / kInt8Block, [=](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; b++) {
      T* out = w + b / per_row * ld + b % per_row * kInt8Block;
      const int8_t* codes = q.codes + b * kInt8Block;
      const float scale = q.scale[b];
#pragma omp simd
      for (int64_t i = 0; i < kInt8Block; i++) out[i] = from_float<T>(static_cast<float>(codes[i]) * scale);
    }
  });
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_int8_quantize(oribi_ctx* ctx, const oribi_int8* q, float* lost, float* all, const void* w,
                                            int64_t rows, int64_t cols, oribi_dtype t) {
  Check check(ctx, "oribi_int8_quantize");
  check_int8(check, w, q, rows, cols, cols).dtype("t", t);
  if (!check.ok() || rows == 0 || cols == 0) return check.status();
  const int64_t blocks = rows * cols / kInt8Block;
  dispatch(t, [&](auto type) { quantize(ctx, *q, lost, all, static_cast<const decltype(type)*>(w), blocks); });
  return ORIBI_OK;
}

extern "C" oribi_status oribi_int8_dequantize(oribi_ctx* ctx, void* w, const oribi_int8* q, int64_t rows, int64_t cols,
                                              int64_t ld, oribi_dtype t) {
  Check check(ctx, "oribi_int8_dequantize");
  check_int8(check, w, q, rows, cols, ld).dtype("t", t);
  if (!check.ok() || rows == 0 || cols == 0) return check.status();
  dispatch(t, [&](auto type) { dequantize(ctx, static_cast<decltype(type)*>(w), *q, rows, cols, ld); });
  return ORIBI_OK;
}
