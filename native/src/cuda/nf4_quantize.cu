/*
 * Math        absmax = max |w| of a block;  code = number of thresholds below w * (1 / absmax)
 *             offset = mean(absmax);  absmax - offset in 8 bits, group by group, relative to absmax2 = max |absmax - offset|
 * Shapes      w (count)  codes (count/2)  absmax (count/64)  absmax2 (ceil(count/64/256))  offset (1)
 * Layout      blocks of 64 and groups of 256 blocks of the flattened matrix; count a multiple of 64
 * Precision   fp32, each operation rounded, none fused; the mean in fp64, rounded once
 * Saved       nothing
 * Writes      all of q =
 * Determinism bit-exact, and the same bits as on the CPU: the mean is summed over fixed chunks
 * Limits      count below 2^44. A block of zeros has code 0 everywhere, as in bitsandbytes, and decodes to what its absmax
 *             decodes to, which is 0 only nearly
 */
#include "common/nf4.h"

#include <cmath>

#include "cuda/context.cuh"
#include "cuda/dependent.cuh"
#include "cuda/dynamic_bins.cuh"
#include "cuda/vector.cuh"

namespace oribi {
namespace {

/* In global memory, not __constant__: lanes read different entries, which constant memory serves one after the other. */
using AbsmaxBins = DynamicBins<true, 6>;
static_assert(bins_hold_one<true, 6>(), "one comparison decides");
__device__ const AbsmaxBins kAbsmaxBins = make_dynamic_bins<true, 6>();

/* Encoding, a thread moves 8 elements at a time: 16 bytes of 16-bit weights, 4 bytes of codes; 8 threads share a block of 64. */
constexpr int kVector = 8;
constexpr int kThreadsOfBlock = kNf4Block / kVector;

/* Read once, so that the cache need not keep them: 6 % faster on an H100, 2,490 GB/s and not 2,340 in bf16. */
template <class T>
struct Eight {
  static constexpr int kWords = kVector * sizeof(T) / 4;
  uint32_t word[kWords];

  __device__ void load(const T* p) {
#pragma unroll
    for (int i = 0; i < kWords; i += 4) {
      const uint4 four = __ldcs(reinterpret_cast<const uint4*>(p) + i / 4);
      word[i] = four.x, word[i + 1] = four.y, word[i + 2] = four.z, word[i + 3] = four.w;
    }
  }
  __device__ float operator[](int i) const { return element(i, T{}); }

 private:
  __device__ float element(int i, float) const { return __uint_as_float(word[i]); }
  __device__ float element(int i, __nv_bfloat16) const {
    return __uint_as_float(i % 2 == 0 ? word[i / 2] << 16 : word[i / 2] & 0xffff0000u);
  }
  __device__ float element(int i, __half) const {
    return __half2float(__ushort_as_half(static_cast<unsigned short>(i % 2 == 0 ? word[i / 2] & 0xffff : word[i / 2] >> 16)));
  }
};

constexpr int kThreads = 256;

/* A guess at the code of x in [-1, 1]: the whole part of f(x) = kBase + (kSlope - kBend |x|) x, which climbs and passes j at the j-th
   threshold or shortly before, but j - 1 after the one before. So the guess is the code or one less, and one comparison with the
   threshold above it decides. f is taken in quarters: added to 1.5 * 2^21, its whole part are bits 2 to 5, the place of the
   threshold in a table of floats. */
constexpr float kBase = 7.25f, kSlope = 12.15625f, kBend = 4.9375f, kQuarters = 3145728.0f;
constexpr bool guesses_hold() {
  constexpr double kMargin = 0.01; /* for fp32's rounding of f, beside the eighth for that to quarters */
  for (int j = 0; j < 15; j++) {
    const double x = kNf4Thresholds[j], f = kBase + (kSlope - kBend * (x < 0 ? -x : x)) * x;
    if (f < j - 0.125 + kMargin || f > j + 0.875 - kMargin) return false;
  }
  return kBase - kSlope + kBend > -0.125 + kMargin && kSlope > 2 * kBend; /* f(-1) is in code 0's quarter or above; f climbs */
}
static_assert(guesses_hold(), "a guess is the code or one less");

struct Thresholds {
  float above[16]; /* each code; infinity above the last */
};
constexpr Thresholds make_thresholds() {
  Thresholds all{};
  for (int j = 0; j < 15; j++) all.above[j] = kNf4Thresholds[j];
  all.above[15] = INFINITY;
  return all;
}
__device__ const Thresholds kTable = make_thresholds();

/* Four codes, 4 bits each, the first at the top; bytes hold two elements, of which the first is the high one. */
template <class T>
__device__ inline uint32_t four_codes(const Thresholds& thresholds, const Eight<T>& x, int first, float inverse) {
  uint32_t codes = 0; /* times 4, as the guesses are */
#pragma unroll
  for (int i = first; i < first + 4; i++) {
    const float scaled = __fmul_rn(x[i ^ 2], inverse);
    const float f = fmaf(fmaf(-kBend, fabsf(scaled), kSlope), scaled, kQuarters + kBase);
    const uint32_t guess = __float_as_uint(f) & 0x3c;
    const float above = *reinterpret_cast<const float*>(reinterpret_cast<const char*>(thresholds.above) + guess);
    codes = codes * 16 + guess;
    if (scaled > above) codes += 4;
  }
  return codes >> 2;
}

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
__device__ inline __nv_bfloat162 pair_of(uint32_t word, __nv_bfloat16) { return *reinterpret_cast<const __nv_bfloat162*>(&word); }
__device__ inline __half2 pair_of(uint32_t word, __half) { return *reinterpret_cast<const __half2*>(&word); }
#endif
/* The bits of the largest |x| of 8 elements, of a NaN where there is one: as whole numbers they order as floats do, NaN above all. */
template <class T>
__device__ inline uint32_t largest_bits(const Eight<T>& x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  if constexpr (sizeof(T) == 2) { /* by pairs */
    auto most = __habs2(pair_of(x.word[0], T{}));
#pragma unroll
    for (int i = 1; i < kVector / 2; i++) most = __hmax2_nan(most, __habs2(pair_of(x.word[i], T{})));
    return max(__float_as_uint(to_float(most.x)), __float_as_uint(to_float(most.y))) & 0x7fffffffu;
  }
#endif
  uint32_t most = 0;
#pragma unroll
  for (int i = 0; i < kVector; i++) most = max(most, __float_as_uint(x[i]) & 0x7fffffffu);
  return most;
}

/* The largest without NaN, and the codes by their definition: for blocks with a NaN or an infinity, or of numbers so small that their
   reciprocal is not finite, zeros among them. Its 8 elements are read again, one after the other, which takes no registers
   from the rest. `lanes`: the threads that share the block. */
template <class T>
__device__ inline uint32_t odd_codes(float* most, const Thresholds& thresholds, const T* x, uint32_t lanes) {
  float largest = 0;
#pragma unroll 1
  for (int i = 0; i < kVector; i++) largest = fmaxf(largest, fabsf(to_float(x[i])));
#pragma unroll 1
  for (int step = 1; step < kThreadsOfBlock; step *= 2) largest = fmaxf(largest, __shfl_xor_sync(lanes, largest, step));
  const float inverse = __frcp_rn(largest);
  uint32_t packed = 0;
#pragma unroll 1
  for (int i = 0; i < kVector; i++) {
    const float scaled = __fmul_rn(to_float(x[i ^ 1]), inverse); /* the first of a pair in the high half of its byte */
#pragma unroll 1
    for (int j = 0; j < 15; j++) packed += scaled > thresholds.above[j] ? 1u << 4 * i : 0;
  }
  *most = largest;
  return packed;
}

/* A thread block takes one chunk: its codes, its blocks' absmax, and the sum of those. */
constexpr int kSteps = kNf4Chunk * kThreadsOfBlock / kThreads;
/* Blocks of threads in a multiprocessor: while some compute, others load. Six of them leave 40 registers, which 16-bit weights just fill;
   five were as fast on an H100, 2,478 to 2,498 GB/s, and eight would spill. fp32 takes 62 registers. Turing has 1024 threads. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
template <class T>
constexpr int kResident = 4;
#else
template <class T>
constexpr int kResident = sizeof(T) == 4 ? 4 : 6;
#endif

/* The codes of a thread's 8 elements, and the largest of the block of 64 that 8 threads share. */
template <class T>
__device__ inline uint32_t encode(float* most, const Thresholds& thresholds, const Eight<T>& x, const T* w, bool inside) {
  uint32_t bits = inside ? largest_bits(x) : 0;
#pragma unroll
  for (int step = 1; step < kThreadsOfBlock; step *= 2) bits = max(bits, __shfl_xor_sync(0xffffffffu, bits, step));
  *most = __uint_as_float(bits);
  if (!inside) return 0;
  constexpr uint32_t kInfinity = 0x7f800000;
  const float inverse = __frcp_rn(*most);
  if (max(bits, __float_as_uint(inverse)) >= kInfinity) return odd_codes(most, thresholds, w, 0xffu << threadIdx.x % 32 / kThreadsOfBlock * kThreadsOfBlock);
  return four_codes(thresholds, x, 4, inverse) << 16 | four_codes(thresholds, x, 0, inverse);
}

template <class T>
__global__ void __launch_bounds__(kThreads, kResident<T>) codes_kernel(uint8_t* codes, float* absmax, double* sums, const T* w,
                                                                       int64_t blocks) {
  release_next();
  __shared__ Thresholds thresholds;
  __shared__ float largest[kNf4Chunk];
  if (threadIdx.x < 16) thresholds.above[threadIdx.x] = kTable.above[threadIdx.x];
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
    float most;
    const uint32_t packed = encode(&most, thresholds, x[s], w + (first + local) * kNf4Block + lane * kVector, inside);
    if (lane == 0) largest[local] = most;
    if (!inside) continue;
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

/* The mean of all absmax from the chunks' sums, the same in every block of threads and in a fixed order. */
constexpr int kGroupThreads = 1024, kGroupWarps = kGroupThreads / 32;
__device__ inline double warp_sum(double sum) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  return sum;
}
__device__ inline float mean_of(const double* sums, int64_t chunks, int64_t blocks) {
  __shared__ double warps[kGroupWarps];
  double sum = 0;
#pragma unroll 8
  for (int64_t i = threadIdx.x; i < chunks; i += kGroupThreads) sum += sums[i];
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = sum;
  __syncthreads();
  return static_cast<float>(warp_sum(warps[threadIdx.x % 32]) / static_cast<double>(blocks));
}

/* The absmax of a thread, neighbours; two floats at once, to which the workspace is aligned. Those past the end are not read. */
constexpr int kEach = 4;
__device__ inline void load(float (&x)[kEach], const float* absmax, int64_t first, int64_t blocks) {
  if (first + kEach <= blocks) {
    const float2 low = *reinterpret_cast<const float2*>(absmax + first), high = *reinterpret_cast<const float2*>(absmax + first + 2);
    x[0] = low.x, x[1] = low.y, x[2] = high.x, x[3] = high.y;
  } else {
#pragma unroll
    for (int i = 0; i < kEach; i++) x[i] = first + i < blocks ? absmax[first + i] : 0.0f;
  }
}

/* The code of x in [-1, 1], or of a NaN or an infinity: what dynamic_code of common/dynamic_map.h finds. */
__device__ inline uint8_t absmax_code(const AbsmaxBins& bins, float x) {
  const int d = bins.magnitude(fabsf(x)); /* -1 has no code, and takes that of the least value */
  return static_cast<uint8_t>(x < 0 ? max(kSignedZero - d, 0) : x >= 0 ? kSignedZero + d : 0);
}

/* One or two blocks for each multiprocessor: each works out the mean for itself, which spares a launch, then encodes sixteen groups of
   256 absmax at a time, two warps each, while the next ones are on their way. */
constexpr int kGroupsAtOnce = kGroupThreads * kEach / kNf4Group;
__global__ void __launch_bounds__(kGroupThreads, 2) absmax_kernel(uint8_t* codes, float* absmax2, float* offset, const float* absmax,
                                                               const double* sums, int64_t chunks, int64_t blocks) {
  __shared__ AbsmaxBins bins;
  __shared__ float warps[2][kGroupWarps];
  const int warp = threadIdx.x / 32;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kGroupThreads * kEach;
  int64_t first = (static_cast<int64_t>(blockIdx.x) * kGroupThreads + threadIdx.x) * kEach;
  bins.fill(kAbsmaxBins, kGroupThreads);
  wait_for_previous();
  float next[kEach], x[kEach];
  load(next, absmax, first, blocks);
  const float mean = mean_of(sums, chunks, blocks);
  if (first == 0) *offset = mean;
  for (int turn = 0; first - threadIdx.x * kEach < blocks; first += stride, turn ^= 1) {
    float most = 0;
#pragma unroll
    for (int i = 0; i < kEach; i++) {
      x[i] = first + i < blocks ? __fsub_rn(next[i], mean) : 0.0f;
      most = fmaxf(most, fabsf(x[i]));
    }
    load(next, absmax, first + stride, blocks);
#pragma unroll
    for (int step = 16; step > 0; step /= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, step));
    if (threadIdx.x % 32 == 0) warps[turn][warp] = most;
    __syncthreads(); /* one is enough: the next turn writes the other half */
    most = fmaxf(most, warps[turn][warp ^ 1]);
    if (first < blocks && first % kNf4Group == 0) absmax2[first / kNf4Group] = most;
    const float inverse = __frcp_rn(most);
#pragma unroll
    for (int i = 0; i < kEach; i++) {
      if (first + i < blocks) codes[first + i] = absmax_code(bins, __fmul_rn(x[i], inverse));
    }
  }
}

template <class T>
void quantize(oribi_ctx* ctx, const oribi_nf4& q, const T* w, void* workspace, int64_t count) {
  const int64_t blocks = nf4_blocks(count), chunks = nf4_chunks(count);
  double* sums = static_cast<double*>(workspace);
  float* absmax = reinterpret_cast<float*>(sums + chunks);
  const int64_t needed = (nf4_groups(count) + kGroupsAtOnce - 1) / kGroupsAtOnce;
  /* Two where a multiprocessor holds 2048 threads: half the turns, each of which waits for memory and for its warps. */
  const int32_t architecture = oribi_ctx_architecture(ctx);
  const int64_t at_once = static_cast<CudaContext*>(ctx)->processors * (architecture == 80 || architecture >= 90 ? 2 : 1);
  codes_kernel<<<static_cast<unsigned>(chunks), kThreads, 0, stream_of(ctx)>>>(q.codes, absmax, sums, w, blocks);
  launch_dependent(ctx, absmax_kernel, static_cast<unsigned>(needed < at_once ? needed : at_once), kGroupThreads, q.absmax,
                   q.absmax2, q.offset, static_cast<const float*>(absmax), static_cast<const double*>(sums), chunks, blocks);
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
  if (nf4_chunks(count) > INT32_MAX) {
    return fail(ctx, ORIBI_UNSUPPORTED, "%s: count is %lld, it must be below 2^44 on a GPU", function, static_cast<long long>(count));
  }
  const oribi_status status = select_device(ctx, function);
  if (status != ORIBI_OK) return status;
  dispatch_pack(t, 1, [&](auto type, auto) {
    quantize(ctx, *q, static_cast<const decltype(type)*>(w), workspace, count);
  });
  return launch_status(ctx, function);
}

extern "C" int64_t oribi_nf4_workspace(int64_t count) { return nf4_workspace(count); }
