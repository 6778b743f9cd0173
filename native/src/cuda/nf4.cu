/*
 * Math        absmax = max |w| of a block;  code = number of thresholds below w * (1 / absmax)
 *             offset = mean(absmax);  absmax - offset in 8 bits, group by group, relative to absmax2 = max |absmax - offset|
 *             w = nf4[code] * (map[absmax code] * absmax2 + offset)
 * Shapes      w (count) or (rows, cols) with stride ld  codes (count/2)  absmax (count/64)  absmax2 (ceil(count/64/256))
 *             offset (1)
 * Layout      blocks of 64 and groups of 256 blocks of the flattened matrix; count and cols multiples of 64; rows of w that
 *             begin at multiples of 16 bytes are written 16 bytes at a time
 * Precision   fp32, each operation rounded, none fused; the mean in fp64, rounded once; w rounded once to its storage type
 * Saved       nothing
 * Writes      all of q =, w =
 * Determinism bit-exact, and the same bits as on the CPU: the mean is summed over fixed chunks
 * Limits      count below 2^44. A block of zeros has code 0 everywhere, as in bitsandbytes, and decodes to what its absmax
 *             decodes to, which is 0 only nearly
 */
#include "common/nf4.h"

#include <cmath>

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

/* Encoding, a thread moves 8 elements at a time: 16 bytes of 16-bit weights, 4 bytes of codes; 8 threads share a block of 64. */
constexpr int kVector = 8;
constexpr int kThreadsOfBlock = kNf4Block / kVector;
constexpr int kThreads = 256;

template <class T>
struct Eight {
  static constexpr int kWide = 16 / sizeof(T);
  using P = Pack<T, kWide>;
  P part[kVector / kWide];
  __device__ T& operator[](int i) { return part[i / kWide].element[i % kWide]; }
  __device__ void load(const T* p) {
    for (int i = 0; i < kVector / kWide; i++) part[i] = reinterpret_cast<const P*>(p)[i];
  }
};

/* ------------------------------------------------------------------------------------------------------------ quantize */

/* The interval [-1, 1] in bins of 1/16, bin k around k/16 - 1. Thresholds are at least 0.08 apart, so a bin holds at most one:
   the code is the number of thresholds below the bin, one more above the one inside. */
constexpr int kBins = 33;
struct Bins {
  float threshold[kBins]; /* infinity where there is none inside */
  int below[kBins];
};
constexpr Bins make_bins() {
  Bins bins{};
  for (int k = 0; k < kBins; k++) {
    const float low = (static_cast<float>(k - 16) - 0.5f) / 16.0f, high = low + 1.0f / 16.0f;
    bins.threshold[k] = INFINITY;
    for (float threshold : kNf4Thresholds) {
      if (threshold < low) bins.below[k]++;
      if (threshold >= low && threshold < high) bins.threshold[k] = threshold;
    }
  }
  return bins;
}
__device__ const Bins kBinTable = make_bins();

/* The bin's number may be rounded to its neighbour's at an edge: no threshold lies there. */
constexpr bool edges_are_free() {
  for (float threshold : kNf4Thresholds) {
    const float scaled = threshold * 16.0f + 0.5f, part = scaled - static_cast<float>(static_cast<int>(scaled + 32.0f) - 32);
    if (part < 1e-3f || part > 1 - 1e-3f) return false;
  }
  return true;
}
static_assert(edges_are_free(), "thresholds lie inside their bins");

/* Two lookups and one comparison. NaN has code 0, as it is above no threshold; saturation makes it 0 and brings an infinite x,
   where absmax has no reciprocal, to the last bin. 1.5 * 2^23: the sum rounds to an integer. */
__device__ inline uint32_t nf4_code(const Bins& bins, float x) {
  const float place = __saturatef(fmaf(x, 0.5f, 0.5f));
  const int k = __float_as_int(fmaf(place, 32.0f, 12582912.0f)) - 0x4b400000;
  return static_cast<uint32_t>(bins.below[k] + (x > bins.threshold[k] ? 1 : 0));
}

/* A thread block takes one chunk: its codes, its blocks' absmax, and the sum of those. */
constexpr int kSteps = kNf4Chunk * kThreadsOfBlock / kThreads;
/* Blocks of threads in a multiprocessor: while some compute, others load. Five leave 48 registers; six spill. H100: 4 % faster than
   four, which is what Turing's 1024 threads allow. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
template <class T>
constexpr int kResident = 4;
#else
template <class T>
constexpr int kResident = sizeof(T) == 4 ? 4 : 5;
#endif

template <class T>
__global__ void __launch_bounds__(kThreads, kResident<T>) codes_kernel(uint8_t* codes, float* absmax, double* sums, const T* w,
                                                         int64_t blocks) {
  __shared__ Bins bins;
  __shared__ float largest[kNf4Chunk];
  if (threadIdx.x < kBins) {
    bins.threshold[threadIdx.x] = kBinTable.threshold[threadIdx.x];
    bins.below[threadIdx.x] = kBinTable.below[threadIdx.x];
  }
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kNf4Chunk;
  const int lane = threadIdx.x % kThreadsOfBlock, row = threadIdx.x / kThreadsOfBlock;
  Eight<T> x[kSteps];
#pragma unroll
  for (int s = 0; s < kSteps; s++) {
    const int64_t block = first + s * (kThreads / kThreadsOfBlock) + row;
    if (block < blocks) x[s].load(w + block * kNf4Block + lane * kVector);
  }
  __syncthreads();
#pragma unroll
  for (int s = 0; s < kSteps; s++) {
    const int local = s * (kThreads / kThreadsOfBlock) + row;
    const bool inside = first + local < blocks;
    float most = 0;
#pragma unroll
    for (int i = 0; i < kVector; i++) most = fmaxf(most, inside ? fabsf(to_float(x[s][i])) : 0.0f);
#pragma unroll
    for (int step = 1; step < kThreadsOfBlock; step *= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, step));
    if (lane == 0) largest[local] = most;
    if (!inside) continue;
    const float inverse = __frcp_rn(most);
    uint32_t packed = 0;
#pragma unroll
    for (int i = 0; i < kVector; i++) {
      /* Bytes in order of elements, the first of a pair in the high half of its byte. */
      packed |= nf4_code(bins, __fmul_rn(to_float(x[s][i]), inverse)) << (i / 2 * 8 + (i % 2 == 0 ? 4 : 0));
    }
    reinterpret_cast<uint32_t*>(codes)[(first + local) * kThreadsOfBlock + lane] = packed;
    if (lane == 0) absmax[first + local] = most;
  }
  __syncthreads();
  if (threadIdx.x >= 32) return;
  double sum = 0;
  for (int i = threadIdx.x; i < kNf4Chunk; i += 32) sum += static_cast<double>(largest[i]);
#pragma unroll
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

/* The mean of all absmax from the chunks' sums, the same in every block of threads and thread by thread in a fixed order. */
constexpr int kGroupThreads = 1024;
__device__ float mean_of(const double* sums, int64_t chunks, int64_t blocks) {
  __shared__ double warps[kGroupThreads / 32];
  double sum = 0;
#pragma unroll 8
  for (int64_t i = threadIdx.x; i < chunks; i += kGroupThreads) sum += sums[i];
#pragma unroll
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = sum;
  __syncthreads();
  double total = 0;
  for (double warp : warps) total += warp;
  return static_cast<float>(total / static_cast<double>(blocks));
}

/* A block for each multiprocessor: each works out the mean for itself, which spares a launch, then encodes four groups of 256
   absmax at a time, a thread for each, while the next ones are on their way. */
constexpr int kGroupsAtOnce = kGroupThreads / kNf4Group, kWarpsOfGroup = kNf4Group / 32;
__global__ void __launch_bounds__(kGroupThreads) absmax_kernel(uint8_t* codes, float* absmax2, float* offset, const float* absmax,
                                                               const double* sums, int64_t chunks, int64_t blocks) {
  __shared__ float between[256], warps[2][kGroupThreads / 32];
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kGroupThreads;
  int64_t block = static_cast<int64_t>(blockIdx.x) * kGroupThreads + threadIdx.x;
  float next = block < blocks ? absmax[block] : 0.0f;
  if (threadIdx.x < 255) between[threadIdx.x] = kMap.between[threadIdx.x];
  const float mean = mean_of(sums, chunks, blocks);
  if (block == 0) *offset = mean;
  for (int turn = 0; block - threadIdx.x < blocks; block += stride, turn ^= 1) {
    const float x = block < blocks ? __fsub_rn(next, mean) : 0.0f;
    if (block + stride < blocks) next = absmax[block + stride];
    float most = fabsf(x);
#pragma unroll
    for (int step = 16; step > 0; step /= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, step));
    if (threadIdx.x % 32 == 0) warps[turn][threadIdx.x / 32] = most;
    __syncthreads(); /* one is enough: the next turn writes the other half */
    for (int i = 0; i < kWarpsOfGroup; i++) most = fmaxf(most, warps[turn][threadIdx.x / kNf4Group * kWarpsOfGroup + i]);
    if (block >= blocks) continue;
    if (threadIdx.x % kNf4Group == 0) absmax2[block / kNf4Group] = most;
    codes[block] = static_cast<uint8_t>(dynamic_code(between, __fmul_rn(x, __frcp_rn(most))));
  }
}

template <class T>
void quantize(oribi_ctx* ctx, const oribi_nf4& q, const T* w, void* workspace, int64_t count) {
  const int64_t blocks = nf4_blocks(count), chunks = nf4_chunks(count);
  double* sums = static_cast<double*>(workspace);
  float* absmax = reinterpret_cast<float*>(sums + chunks);
  const int64_t needed = (nf4_groups(count) + kGroupsAtOnce - 1) / kGroupsAtOnce;
  const int64_t processors = static_cast<CudaContext*>(ctx)->processors;
  codes_kernel<<<static_cast<unsigned>(chunks), kThreads, 0, stream_of(ctx)>>>(q.codes, absmax, sums, w, blocks);
  absmax_kernel<<<static_cast<unsigned>(needed < processors ? needed : processors), kGroupThreads, 0, stream_of(ctx)>>>(
      q.absmax, q.absmax2, q.offset, absmax, sums, chunks, blocks);
}

/* ---------------------------------------------------------------------------------------------------------- dequantize */

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

/* Calls f with a value of the storage type. */
template <class F>
void dispatch_type(oribi_dtype t, F&& f) {
  dispatch_pack(t, 1, [&](auto type, auto) { f(type); });
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_nf4_quantize(oribi_ctx* ctx, const oribi_nf4* q, const void* w, void* workspace,
                                           int64_t count, oribi_dtype t) {
  const char* const function = "oribi_nf4_quantize";
  Check check(ctx, function);
  check_nf4(check, q, count).elements("w", count, 1).dtype("t", t);
  check.pointer("w", w, count).pointer("workspace", workspace, count);
  if (!check.ok() || count == 0) return check.status();
  if (nf4_chunks(count) > INT32_MAX) return fail(ctx, ORIBI_UNSUPPORTED, "%s: count is %lld, it must be below 2^44 on a GPU", function, static_cast<long long>(count));
  const oribi_status status = select_device(ctx, function);
  if (status != ORIBI_OK) return status;
  dispatch_type(t, [&](auto type) {
    quantize(ctx, *q, static_cast<const decltype(type)*>(w), workspace, count);
  });
  return launch_status(ctx, function);
}

extern "C" int64_t oribi_nf4_workspace(int64_t count) { return nf4_workspace(count); }

extern "C" oribi_status oribi_nf4_dequantize(oribi_ctx* ctx, void* w, const oribi_nf4* q, int64_t rows, int64_t cols,
                                             int64_t ld, oribi_dtype t) {
  const char* const function = "oribi_nf4_dequantize";
  Check check(ctx, function);
  check_nf4_matrix(check, w, q, rows, cols, ld).dtype("t", t);
  if (!check.ok() || rows == 0 || cols == 0) return check.status();
  oribi_status status = select_device(ctx, function);
  if (status != ORIBI_OK) return status;
  dispatch_type(t, [&](auto type) { status = dequantize(ctx, function, static_cast<decltype(type)*>(w), *q, rows, cols, ld); });
  return status;
}

extern "C" const float* oribi_dynamic_map_signed(void) { return kSigned.value; }

extern "C" const float* oribi_dynamic_map_unsigned(void) { return kUnsigned.value; }
