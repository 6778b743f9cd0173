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

template <int kBytes>
struct Unsigned;
template <>
struct Unsigned<4> {
  using Type = uint32_t;
};
template <>
struct Unsigned<2> {
  using Type = uint16_t;
};

/* Warps of a thread block; they do not wait for each other. */
constexpr int kThreads = 128;

/* Stores of 16 bytes that a lane makes. All loads of codes of a warp are under way while a lane for each block of 64 decodes its
   absmax. */
constexpr int kSteps = 4;

/* What a warp has to do for each storage type: a lane's elements of a step, the lanes of a block, the blocks of a warp. */
template <class T>
struct Warp {
  static constexpr int kWide = 16 / sizeof(T), kLanes = kNf4Block / kWide, kBlocks = kSteps * 32 / kLanes;
};

/* kDense: no gaps between rows. kAligned: rows begin at multiples of 16 bytes. Values and what belongs to a block are in the
   registers of one lane each and are shuffled to those that need them. */
template <class T, bool kDense, bool kAligned>
__global__ void __launch_bounds__(kThreads) dequantize_kernel(T* w, const oribi_nf4 q, int64_t blocks, int64_t per_row, int64_t ld) {
  using W = Warp<T>;
  using P = Pack<T, W::kWide>;
  using Codes = typename Unsigned<W::kWide / 2>::Type;
  constexpr unsigned kAll = 0xffffffffu;
  const int lane = threadIdx.x % 32;
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32) * W::kBlocks;
  const int count = static_cast<int>(min(blocks - first, static_cast<int64_t>(W::kBlocks)));
  if (count <= 0) return;
  const Codes* codes = reinterpret_cast<const Codes*>(q.codes) + first * W::kLanes + lane;
  Codes packed[kSteps];
#pragma unroll
  for (int s = 0; s < kSteps; s++) packed[s] = s * 32 + lane < count * W::kLanes ? codes[s * 32] : Codes{0};
  const float value = kValues.value[lane % 16];
  const int64_t mine = first + min(lane, count - 1); /* lanes beyond the blocks decode the last one once more */
  const float scaled = __fmul_rn(kMap.value[q.absmax[mine]], q.absmax2[mine / kNf4Group]);
  const float absmax = __fadd_rn(scaled, *q.offset);
  int64_t place = 0; /* of my block's first element in w */
  if constexpr (!kDense) place = mine / per_row * ld + mine % per_row * kNf4Block;
#pragma unroll
  for (int s = 0; s < kSteps; s++) {
    const int block = s * (32 / W::kLanes) + lane / W::kLanes;
    const float scale = __shfl_sync(kAll, absmax, block);
    P x;
#pragma unroll
    for (int k = 0; k < W::kWide; k++) {
      /* The first of a pair is in the high half of its byte. A shuffle takes five bits of the lane's number: above a code is
         another's lowest bit, and lanes 16 apart hold the same value. */
      const float v = __shfl_sync(kAll, value, static_cast<int>(packed[s] >> (k / 2 * 8 + (k % 2 == 0 ? 4 : 0))));
      x.element[k] = from_float<T>(__fmul_rn(v, scale));
    }
    const int64_t begin = kDense ? (first + block) * kNf4Block : __shfl_sync(kAll, place, block);
    if (block >= count) continue;
    T* out = w + begin + lane % W::kLanes * W::kWide;
    if constexpr (kAligned) {
      *reinterpret_cast<P*>(out) = x;
    } else {
      for (int k = 0; k < W::kWide; k++) out[k] = x.element[k];
    }
  }
}

template <class T>
oribi_status dequantize(oribi_ctx* ctx, const char* function, T* w, const oribi_nf4& q, int64_t rows, int64_t cols, int64_t ld) {
  const bool dense = rows == 1 || ld == cols;
  const bool aligned = reinterpret_cast<uintptr_t>(w) % 16 == 0 && (dense || ld * sizeof(T) % 16 == 0);
  const int64_t blocks = nf4_blocks(rows * cols), per_thread_block = kThreads / 32 * Warp<T>::kBlocks;
  const int64_t tiles = (blocks + per_thread_block - 1) / per_thread_block;
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
