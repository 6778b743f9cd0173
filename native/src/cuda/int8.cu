/*
 * Math        scale = max |w| of a block / 127;  code = nearest integer to w / scale;  w = code * scale
 * Shapes      w (rows, cols), dequantized with stride ld  codes (rows*cols)  scale (rows*cols/64)  lost, all (rows*cols/64)
 * Layout      blocks of 64 along a row; cols a multiple of 64; rows of w that begin at multiples of 16 bytes are written 16 bytes
 *             at a time
 * Precision   fp32, each operation rounded to nearest even, none fused; w rounded once to its storage type
 * Saved       nothing
 * Writes      all of q =, lost =, all =, w =
 * Determinism bit-exact; codes, scale and w are the same bits as on the CPU
 * Limits      rows * cols below 2^42. A block of zeros stays zeros. One that holds NaN or infinity decodes to NaN: it is not
 *             hidden. One of fp32 with magnitudes above 2^127 may decode to infinity
 */
#include "common/int8.h"

#include <cfloat>

#include "cuda/context.cuh"
#include "cuda/elementwise.cuh"
#include "cuda/vector.cuh"

namespace oribi {
namespace {

/* --------------------------------------------------------------------------------------------------------- quantize */

/* A thread encodes 8 elements, so that 8 lanes share a block of 64 and exchange its maximum among themselves. */
constexpr int kVector = 8, kLanes = kInt8Block / kVector, kThreads = 256;

template <class T>
struct Eight {
  static constexpr int kWide = 16 / sizeof(T);
  using P = Pack<T, kWide>;
  P part[kVector / kWide];
  __device__ float operator[](int i) const { return to_float(part[i / kWide].element[i % kWide]); }
  __device__ void load(const T* p) {
    for (int i = 0; i < kVector / kWide; i++) part[i] = reinterpret_cast<const P*>(p)[i];
  }
};

__device__ inline float block_sum_of(float x) {
#pragma unroll
  for (int step = 1; step < kLanes; step *= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
  return x;
}

template <class T>
__global__ void __launch_bounds__(kThreads) quantize_kernel(const oribi_int8 q, float* lost, float* all, const T* w,
                                                             int64_t blocks) {
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x, block = thread / kLanes;
  const bool inside = block < blocks; /* the same for the lanes of a block; all take part in the exchange */
  Eight<T> x;
  if (inside) x.load(w + thread * kVector);
  uint32_t most = 0; /* magnitudes as bits, among which NaN is the largest */
#pragma unroll
  for (int i = 0; i < kVector; i++) most = max(most, inside ? __float_as_uint(x[i]) & 0x7fffffffu : 0u);
#pragma unroll
  for (int step = 1; step < kLanes; step *= 2) most = max(most, __shfl_xor_sync(0xffffffffu, most, step));
  const float scale = __fdiv_rn(__uint_as_float(most), static_cast<float>(kInt8Most));
  const bool encodes = scale > 0 && scale <= FLT_MAX; /* no: zeros, or not a number, which 0 * scale then is too */
  Pack<int8_t, kVector> codes;
  float difference = 0, square = 0; /* sums of squares of what is lost and of what there is */
#pragma unroll
  for (int i = 0; i < kVector; i++) {
    const float value = inside ? x[i] : 0.0f;
    const float code = encodes ? fminf(fmaxf(rintf(__fdiv_rn(value, scale)), -kInt8Most), kInt8Most) : 0.0f;
    codes.element[i] = static_cast<int8_t>(code);
    const float d = value - round_to<T>(__fmul_rn(code, scale));
    difference += d * d;
    square += value * value;
  }
  difference = block_sum_of(difference);
  square = block_sum_of(square);
  if (!inside) return;
  reinterpret_cast<Pack<int8_t, kVector>*>(q.codes)[thread] = codes;
  if (thread % kLanes != 0) return;
  q.scale[block] = scale;
  if (lost != nullptr) lost[block] = difference;
  if (all != nullptr) all[block] = square;
}

/* ------------------------------------------------------------------------------------------------------- dequantize */

/* Stores are 16 bytes a thread side by side; kDense: no gaps between rows; kAligned: rows begin at multiples of 16 bytes. */
template <class T, bool kDense, bool kAligned>
struct Dequantize {
  static constexpr int kWidth = 16 / sizeof(T);
  using Codes = Pack<int8_t, kWidth>;
  struct Loaded {
    Codes codes;
    float scale;
  };
  T* w;
  const int8_t* codes;
  const float* scale;
  int64_t packs_of_row, ld;

  __device__ Loaded load(int64_t i) const {
    return {reinterpret_cast<const Codes*>(codes)[i], scale[i / (kInt8Block / kWidth)]};
  }
  __device__ void store(int64_t i, const Loaded& loaded) const {
    Pack<T, kWidth> x;
#pragma unroll
    for (int k = 0; k < kWidth; k++) {
      x.element[k] = from_float<T>(__fmul_rn(static_cast<float>(loaded.codes.element[k]), loaded.scale));
    }
    T* out = w + (kDense ? i * kWidth : i / packs_of_row * ld + i % packs_of_row * kWidth);
    if constexpr (kAligned) {
      *reinterpret_cast<Pack<T, kWidth>*>(out) = x;
    } else {
      for (int k = 0; k < kWidth; k++) out[k] = x.element[k];
    }
  }
  __device__ void one(int64_t) const {} /* rows are whole blocks: nothing is left over */
};

template <class T, bool kDense, bool kAligned>
oribi_status dequantize(oribi_ctx* ctx, const char* function, T* w, const oribi_int8& q, int64_t rows, int64_t cols, int64_t ld) {
  const Dequantize<T, kDense, kAligned> op{w, q.codes, q.scale, cols / (16 / static_cast<int64_t>(sizeof(T))), ld};
  return launch_map(ctx, function, op, rows * cols);
}

template <class T>
oribi_status dequantize(oribi_ctx* ctx, const char* function, T* w, const oribi_int8& q, int64_t rows, int64_t cols, int64_t ld) {
  const bool dense = rows == 1 || ld == cols;
  const bool whole = aligned({w}) && (dense || ld * sizeof(T) % kAccess == 0);
  if (dense) return (whole ? dequantize<T, true, true> : dequantize<T, true, false>)(ctx, function, w, q, rows, cols, ld);
  return (whole ? dequantize<T, false, true> : dequantize<T, false, false>)(ctx, function, w, q, rows, cols, ld);
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_int8_quantize(oribi_ctx* ctx, const oribi_int8* q, float* lost, float* all, const void* w,
                                            int64_t rows, int64_t cols, oribi_dtype t) {
  const char* const function = "oribi_int8_quantize";
  Check check(ctx, function);
  check_int8(check, w, q, rows, cols, cols).dtype("t", t);
  if (!check.ok() || rows == 0 || cols == 0) return check.status();
  const int64_t blocks = rows * cols / kInt8Block, grid = divide_up(blocks, kThreads / kLanes);
  if (!fits_grid(grid)) return too_large(ctx, function, grid);
  const oribi_status status = select_device(ctx, function);
  if (status != ORIBI_OK) return status;
  dispatch_pack(t, 1, [&](auto type, auto) {
    using T = decltype(type);
    quantize_kernel<<<static_cast<unsigned>(grid), kThreads, 0, stream_of(ctx)>>>(*q, lost, all, static_cast<const T*>(w), blocks);
  });
  return launch_status(ctx, function);
}

extern "C" oribi_status oribi_int8_dequantize(oribi_ctx* ctx, void* w, const oribi_int8* q, int64_t rows, int64_t cols,
                                              int64_t ld, oribi_dtype t) {
  const char* const function = "oribi_int8_dequantize";
  Check check(ctx, function);
  check_int8(check, w, q, rows, cols, ld).dtype("t", t);
  if (!check.ok() || rows == 0 || cols == 0) return check.status();
  oribi_status status = ORIBI_OK;
  dispatch_pack(t, 1, [&](auto type, auto) { status = dequantize(ctx, function, static_cast<decltype(type)*>(w), *q, rows, cols, ld); });
  return status;
}
