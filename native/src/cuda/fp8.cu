/*
 * Math        scale = max |x| of a row / 448;  code = e4m3 nearest to x / scale;  x = code * scale
 * Shapes      x (rows, cols) with stride ld  codes (rows, cols)  scale (rows); transposed: codes (cols, rows)  scale (cols)
 * Layout      row-major; codes without gaps; rows of x that begin at multiples of 16 bytes are read 16 bytes at a time
 * Precision   fp32, each operation rounded to nearest even, none fused; codes saturate at 448
 * Saved       nothing
 * Writes      all of q =
 * Determinism bit-exact; the maxima of columns are maxima of integers, in any order. The same bits as on the CPU
 * Limits      rows, and blocks of 64 columns by 128 rows, below 2^31. A row of zeros stays zeros. One that holds NaN or infinity
 *             decodes to NaN, all of it: it is not hidden. One whose largest magnitude is below 448 * 2^-126 keeps the scale 2^-126
 */
#include "common/fp8.h"

#include <cuda_fp8.h>

#include "cuda/context.cuh"
#include "cuda/elementwise.cuh"
#include "cuda/vector.cuh"

namespace oribi {
namespace {

__device__ inline uint32_t magnitude_of(float x) { return __float_as_uint(x) & 0x7fffffffu; }

/* most: the largest magnitude as bits, among which NaN is the largest and infinity the next. */
__device__ inline float scale_of(uint32_t most) {
  if (most >= 0x7f800000u) return __uint_as_float(kFp8NanScale);
  return fmaxf(__fdiv_rn(__uint_as_float(most), kFp8Most), kFp8LeastScale);
}

__device__ inline float inverse_of(float scale) { return __fdiv_rn(1.0f, scale); }

/* Two numbers as e4m3, the first in the low byte. An instruction from sm_89 on, integer arithmetic before. */
__device__ inline uint16_t encode(float first, float second, float inverse) {
  return __nv_cvt_float2_to_fp8x2(make_float2(__fmul_rn(first, inverse), __fmul_rn(second, inverse)), __NV_SATFINITE, __NV_E4M3);
}

/* ------------------------------------------------------------------------------------------------------------- rows */

/* A block has a row. Its threads hold up to kHeld packs each, read once; what a longer row has besides is read twice, the second
   time from the cache. The fewest threads that hold a row take it, 64 for one of 4096: more blocks then read while others wait for
   their maximum. On an H100, GB/s for 8192 rows of 4096, 6144, 14336: 3124, 3171, 3119; with twice the threads 2857, 2645, 2735. */
constexpr int kHeld = 8, kMostThreads = 512, kLeastBlocks = 2; /* of a multiprocessor: 64 registers a thread */

/* The largest magnitude of what was seen: as bits of the storage type, which are in the order of their numbers, two of 16 bits at
   once. Converted numbers the compiler keeps for the second use, in 94 registers and not 60: 2073 GB/s and not 2735, rows of 14336. */
template <class T>
struct Most {
  uint32_t bits = 0;
  template <int kWidth>
  __device__ void see(const Pack<T, kWidth>& x) {
    if constexpr (kWidth == 1) {
      bits = max(bits, static_cast<uint32_t>(*reinterpret_cast<const uint16_t*>(&x)) & 0x7fffu);
    } else {
#pragma unroll
      for (int k = 0; k < kWidth / 2; k++) bits = __vmaxu2(bits, reinterpret_cast<const uint32_t*>(&x)[k] & 0x7fff7fffu);
    }
  }
  __device__ uint32_t magnitude() const {
    const uint16_t most = static_cast<uint16_t>(max(bits & 0xffffu, bits >> 16));
    return __float_as_uint(to_float(*reinterpret_cast<const T*>(&most)));
  }
};
template <>
struct Most<float> {
  uint32_t bits = 0;
  template <int kWidth>
  __device__ void see(const Pack<float, kWidth>& x) {
#pragma unroll
    for (int k = 0; k < kWidth; k++) bits = max(bits, magnitude_of(x.element[k]));
  }
  __device__ uint32_t magnitude() const { return bits; }
};

template <class T, int kWidth>
__device__ inline void store(uint8_t* codes, const Pack<T, kWidth>& x, float inverse) {
  if constexpr (kWidth == 1) {
    *codes = static_cast<uint8_t>(encode(to_float(x.element[0]), 0.0f, inverse));
  } else {
    Pack<uint16_t, kWidth / 2> pairs;
#pragma unroll
    for (int k = 0; k < kWidth / 2; k++) {
      pairs.element[k] = encode(to_float(x.element[2 * k]), to_float(x.element[2 * k + 1]), inverse);
    }
    *reinterpret_cast<Pack<uint16_t, kWidth / 2>*>(codes) = pairs;
  }
}

__device__ inline uint32_t block_max(uint32_t x) {
  __shared__ uint32_t warps[kMostThreads / 32];
#pragma unroll
  for (int lane = 16; lane > 0; lane /= 2) x = max(x, __shfl_xor_sync(0xffffffffu, x, lane));
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = x;
  __syncthreads();
  for (unsigned i = 0; i < blockDim.x / 32; i++) x = max(x, warps[i]);
  return x;
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kMostThreads, kLeastBlocks) quantize_kernel(const oribi_fp8 q, const T* x, int64_t cols, int64_t ld) {
  using P = Pack<T, kWidth>;
  const int64_t packs = cols / kWidth, beyond = static_cast<int64_t>(kHeld) * blockDim.x + threadIdx.x;
  const P* row = reinterpret_cast<const P*>(x + blockIdx.x * ld);
  uint8_t* codes = q.codes + blockIdx.x * cols;
  P held[kHeld];
#pragma unroll
  for (int u = 0; u < kHeld; u++) {
    const int64_t i = static_cast<int64_t>(u) * blockDim.x + threadIdx.x;
    if (i < packs) held[u] = row[i];
  }
  Most<T> most;
#pragma unroll
  for (int u = 0; u < kHeld; u++) {
    if (static_cast<int64_t>(u) * blockDim.x + threadIdx.x < packs) most.see(held[u]);
  }
  for (int64_t i = beyond; i < packs; i += blockDim.x) most.see(row[i]);
  const float scale = scale_of(block_max(most.magnitude())), inverse = inverse_of(scale);
#pragma unroll
  for (int u = 0; u < kHeld; u++) {
    const int64_t i = static_cast<int64_t>(u) * blockDim.x + threadIdx.x;
    if (i < packs) store(codes + i * kWidth, held[u], inverse);
  }
  for (int64_t i = beyond; i < packs; i += blockDim.x) store(codes + i * kWidth, row[i], inverse);
  if (threadIdx.x == 0) q.scale[blockIdx.x] = scale;
}

template <class T, int kWidth>
void quantize(oribi_ctx* ctx, const oribi_fp8& q, const T* x, int64_t rows, int64_t cols, int64_t ld) {
  int threads = 32;
  while (threads < kMostThreads && threads * kHeld < cols / kWidth) threads *= 2;
  quantize_kernel<T, kWidth><<<static_cast<unsigned>(rows), threads, 0, stream_of(ctx)>>>(q, x, cols, ld);
}

/* ------------------------------------------------------------------------------------------------------- transposed */

/* Made once for a weight, so simple: the maxima of the columns, then tiles that are turned in shared memory. The maxima are
   gathered in scale itself, as bits, which begins as zeros. */
constexpr int kTileCols = 64, kTileRows = 128, kThreads = 256, kRowsAtOnce = kThreads / kTileCols;
constexpr int kGap = 4; /* bytes after each column of a tile: threads side by side write to banks side by side */

struct Tile {
  int64_t row, col;
  __device__ explicit Tile(int64_t tiles_of_row)
      : row(blockIdx.x / tiles_of_row * kTileRows), col(blockIdx.x % tiles_of_row * kTileCols) {}
};

template <class T>
__global__ void __launch_bounds__(kThreads) column_max_kernel(uint32_t* most, const T* x, int64_t rows, int64_t cols, int64_t ld,
                                                               int64_t tiles_of_row) {
  __shared__ uint32_t all[kTileCols];
  const Tile tile(tiles_of_row);
  const int64_t col = tile.col + threadIdx.x % kTileCols;
  if (threadIdx.x < kTileCols) all[threadIdx.x] = 0;
  __syncthreads();
  uint32_t mine = 0;
  const int64_t end = min(rows, tile.row + kTileRows);
  if (col < cols) {
    for (int64_t r = tile.row + threadIdx.x / kTileCols; r < end; r += kRowsAtOnce) mine = max(mine, magnitude_of(to_float(x[r * ld + col])));
    atomicMax(&all[threadIdx.x % kTileCols], mine);
  }
  __syncthreads();
  if (threadIdx.x < kTileCols && col < cols) atomicMax(&most[col], all[threadIdx.x]);
}

__global__ void __launch_bounds__(kThreads) scale_kernel(float* scale, int64_t count) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < count) scale[i] = scale_of(__float_as_uint(scale[i]));
}

template <class T>
__global__ void __launch_bounds__(kThreads) transpose_kernel(const oribi_fp8 q, const T* x, int64_t rows, int64_t cols, int64_t ld,
                                                              int64_t tiles_of_row, bool wide) {
  __shared__ alignas(4) uint8_t turned[kTileCols][kTileRows + kGap];
  const Tile tile(tiles_of_row);
  const int c = threadIdx.x % kTileCols;
  const int64_t col = tile.col + c;
  if (col < cols) {
    const float inverse = inverse_of(q.scale[col]);
    for (int r = threadIdx.x / kTileCols * 2; r < kTileRows; r += 2 * kRowsAtOnce) {
      const int64_t row = tile.row + r;
      const float first = row < rows ? to_float(x[row * ld + col]) : 0.0f;
      const float second = row + 1 < rows ? to_float(x[(row + 1) * ld + col]) : 0.0f;
      *reinterpret_cast<uint16_t*>(&turned[c][r]) = encode(first, second, inverse);
    }
  }
  __syncthreads();
  const int lane = threadIdx.x % 32 * 4;
  for (int i = threadIdx.x / 32; i < kTileCols && tile.col + i < cols; i += kThreads / 32) {
    uint8_t* out = q.codes + (tile.col + i) * rows + tile.row + lane;
    if (wide && tile.row + lane + 4 <= rows) {
      *reinterpret_cast<uint32_t*>(out) = *reinterpret_cast<const uint32_t*>(&turned[i][lane]);
    } else {
      for (int k = 0; k < 4 && tile.row + lane + k < rows; k++) out[k] = turned[i][lane + k];
    }
  }
}

template <class T>
oribi_status quantize_transposed(oribi_ctx* ctx, const char* function, const oribi_fp8& q, const T* x, int64_t rows, int64_t cols,
                                 int64_t ld) {
  const int64_t across = divide_up(cols, kTileCols), tiles = across * divide_up(rows, kTileRows);
  if (!fits_grid(tiles)) return too_large(ctx, function, tiles);
  const oribi_status status = cuda_status(ctx, function, cudaMemsetAsync(q.scale, 0, cols * sizeof(float), stream_of(ctx)));
  if (status != ORIBI_OK) return status;
  const unsigned grid = static_cast<unsigned>(tiles);
  column_max_kernel<<<grid, kThreads, 0, stream_of(ctx)>>>(reinterpret_cast<uint32_t*>(q.scale), x, rows, cols, ld, across);
  scale_kernel<<<static_cast<unsigned>(divide_up(cols, kThreads)), kThreads, 0, stream_of(ctx)>>>(q.scale, cols);
  transpose_kernel<<<grid, kThreads, 0, stream_of(ctx)>>>(q, x, rows, cols, ld, across, rows % 4 == 0 && aligned({q.codes}, 4));
  return launch_status(ctx, function);
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_fp8_quantize(oribi_ctx* ctx, const oribi_fp8* q, const void* x, int64_t rows, int64_t cols,
                                           int64_t ld, oribi_dtype t) {
  const char* const function = "oribi_fp8_quantize";
  Check check(ctx, function);
  check_fp8(check, q, x, rows, cols, ld).dtype("t", t);
  if (!check.ok() || rows == 0 || cols == 0) return check.status();
  if (!fits_grid(rows)) return too_large(ctx, function, rows);
  const oribi_status status = select_device(ctx, function);
  if (status != ORIBI_OK) return status;
  const int64_t bytes = t == ORIBI_F32 ? 4 : 2;
  const bool whole = aligned({x, q->codes}) && (rows == 1 || ld * bytes % kAccess == 0);
  dispatch_pack(t, whole ? cols : 1, [&](auto type, auto width) {
    using T = decltype(type);
    quantize<T, decltype(width)::value>(ctx, *q, static_cast<const T*>(x), rows, cols, ld);
  });
  return launch_status(ctx, function);
}

extern "C" oribi_status oribi_fp8_quantize_transposed(oribi_ctx* ctx, const oribi_fp8* q, const void* x, int64_t rows,
                                                      int64_t cols, int64_t ld, oribi_dtype t) {
  const char* const function = "oribi_fp8_quantize_transposed";
  Check check(ctx, function);
  check_fp8(check, q, x, rows, cols, ld).dtype("t", t);
  if (!check.ok() || rows == 0 || cols == 0) return check.status();
  oribi_status status = select_device(ctx, function);
  if (status != ORIBI_OK) return status;
  dispatch_pack(t, 1, [&](auto type, auto) {
    status = quantize_transposed(ctx, function, *q, static_cast<const decltype(type)*>(x), rows, cols, ld);
  });
  return status;
}
