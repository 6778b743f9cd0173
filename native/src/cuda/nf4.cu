/*
 * Math        w = nf4[code] * (map[absmax code] * absmax2 + offset)
 * Shapes      w (rows, cols) with stride ld, count = rows * cols;  codes (count/2)  absmax (count/64)
 *             absmax2 (ceil(count/64/256))  offset (1)
 * Layout      blocks of 64 and groups of 256 blocks of the flattened matrix; cols a multiple of 64; rows of w that begin at
 *             multiples of 16 bytes are written 16 bytes at a time
 * Precision   fp32, each operation rounded, none fused; w rounded once to its storage type
 * Saved       nothing
 * Writes      w =
 * Determinism bit-exact, and the same bits as on the CPU
 * Limits      count below 2^44
 */
#include "common/nf4.h"

#include "common/dynamic_map.h"
#include "cuda/context.cuh"
#include "cuda/vector.cuh"

namespace oribi {
namespace {

constexpr DynamicMap kSigned = make_dynamic_map(true);
constexpr DynamicMap kUnsigned = make_dynamic_map(false);

/* In global memory, not __constant__: lanes read different entries, which constant memory serves one after the other. */
__device__ const DynamicMap kMap = make_dynamic_map(true);

struct Values {
  float value[16];
};
constexpr Values make_values() {
  Values values{};
  for (int i = 0; i < 16; i++) values.value[i] = kNf4Values[i];
  return values;
}
__device__ const Values kValues = make_values();

constexpr int kThreads = 256;

/* A thread block writes a tile of blocks of 64, 8 KiB of 16-bit weights, so that many tiles fill the last wave evenly. All its
   loads of codes are under way while a thread for each block decodes absmax. H100, 14336 x 4096, bf16 and fp32, in GB/s: tiles of
   64 blocks 2586 and 2534, 128 blocks 2572 and 2550, 256 blocks 2314 and 2561. */
constexpr int kTile = 64;

/* kDense: no gaps between rows. kAligned: rows begin at multiples of 16 bytes. */
template <class T, bool kDense, bool kAligned>
__global__ void __launch_bounds__(kThreads) dequantize_kernel(T* w, const oribi_nf4 q, int64_t blocks, int64_t per_row, int64_t ld) {
  constexpr int kWide = 16 / sizeof(T), kParts = kNf4Block / kWide; /* a thread's elements; threads of a block of 64 */
  constexpr int kSteps = kTile * kParts / kThreads;
  using P = Pack<T, kWide>;
  using Codes = Pack<uint8_t, kWide / 2>;
  __shared__ float values[16], absmax[kTile];
  __shared__ int64_t place[kDense ? 1 : kTile]; /* of a block's first element in w */
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kTile;
  const int count = static_cast<int>(min(blocks - first, static_cast<int64_t>(kTile)));
  const Codes* codes = reinterpret_cast<const Codes*>(q.codes) + first * kParts;
  Codes packed[kSteps];
#pragma unroll
  for (int s = 0; s < kSteps; s++) {
    const int i = s * kThreads + threadIdx.x;
    if (i < count * kParts) packed[s] = codes[i];
  }
  if (threadIdx.x < 16) values[threadIdx.x] = kValues.value[threadIdx.x];
  if (threadIdx.x < count) {
    const int64_t block = first + threadIdx.x;
    const float scaled = __fmul_rn(kMap.value[q.absmax[block]], q.absmax2[block / kNf4Group]);
    absmax[threadIdx.x] = __fadd_rn(scaled, *q.offset);
    if constexpr (!kDense) place[threadIdx.x] = block / per_row * ld + block % per_row * kNf4Block;
  }
  __syncthreads();
#pragma unroll
  for (int s = 0; s < kSteps; s++) {
    const int i = s * kThreads + threadIdx.x, block = i / kParts;
    if (i >= count * kParts) return;
    const float scale = absmax[block];
    P x;
#pragma unroll
    for (int k = 0; k < kWide; k++) {
      const int code = k % 2 == 0 ? packed[s].element[k / 2] >> 4 : packed[s].element[k / 2] & 15;
      x.element[k] = from_float<T>(__fmul_rn(values[code], scale));
    }
    T* out = w + (kDense ? (first + block) * kNf4Block : place[block]) + i % kParts * kWide;
    if constexpr (kAligned) {
      *reinterpret_cast<P*>(out) = x;
    } else {
      for (int k = 0; k < kWide; k++) out[k] = x.element[k];
    }
  }
}

template <class T>
oribi_status dequantize(oribi_ctx* ctx, const char* function, T* w, const oribi_nf4& q, int64_t rows, int64_t cols, int64_t ld) {
  const bool dense = rows == 1 || ld == cols;
  const bool aligned = reinterpret_cast<uintptr_t>(w) % 16 == 0 && (dense || ld * sizeof(T) % 16 == 0);
  const int64_t blocks = nf4_blocks(rows * cols), tiles = (blocks + kTile - 1) / kTile;
  if (tiles > INT32_MAX) {
    return fail(ctx, ORIBI_UNSUPPORTED, "%s: rows * cols is %lld, it must be below 2^44 on a GPU", function,
                static_cast<long long>(rows * cols));
  }
  const auto kernel = dense ? (aligned ? dequantize_kernel<T, true, true> : dequantize_kernel<T, true, false>)
                            : (aligned ? dequantize_kernel<T, false, true> : dequantize_kernel<T, false, false>);
  kernel<<<static_cast<unsigned>(tiles), kThreads, 0, stream_of(ctx)>>>(w, q, blocks, nf4_blocks(cols), ld);
  return launch_status(ctx, function);
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_nf4_dequantize(oribi_ctx* ctx, void* w, const oribi_nf4* q, int64_t rows, int64_t cols,
                                             int64_t ld, oribi_dtype t) {
  const char* const function = "oribi_nf4_dequantize";
  Check check(ctx, function);
  check_nf4_matrix(check, w, q, rows, cols, ld).dtype("t", t);
  if (!check.ok() || rows == 0 || cols == 0) return check.status();
  oribi_status status = select_device(ctx, function);
  if (status != ORIBI_OK) return status;
  dispatch_pack(t, 1, [&](auto type, auto) { status = dequantize(ctx, function, static_cast<decltype(type)*>(w), *q, rows, cols, ld); });
  return status;
}

extern "C" const float* oribi_dynamic_map_signed(void) { return kSigned.value; }

extern "C" const float* oribi_dynamic_map_unsigned(void) { return kUnsigned.value; }
