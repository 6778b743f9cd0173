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

#include "common/dynamic_map.h"
#include "cuda/context.cuh"
#include "cuda/dependent.cuh"
#include "cuda/vector.cuh"

namespace oribi {
namespace {

/* In global memory, not __constant__: lanes read different entries, which constant memory serves one after the other. */
__device__ const DynamicMap kMap = make_dynamic_map(true);

/* Encoding, a thread moves 8 elements at a time: 16 bytes of 16-bit weights, 4 bytes of codes; 8 threads share a block of 64. */
constexpr int kVector = 8;
constexpr int kThreadsOfBlock = kNf4Block / kVector;

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

constexpr int kThreads = 256;

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
  release_next();
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

/* One or two blocks for each multiprocessor: each works out the mean for itself, which spares a launch, then encodes four groups of 256
   absmax at a time, a thread for each, while the next ones are on their way. */
constexpr int kGroupsAtOnce = kGroupThreads / kNf4Group, kWarpsOfGroup = kNf4Group / 32;
__global__ void __launch_bounds__(kGroupThreads, 2) absmax_kernel(uint8_t* codes, float* absmax2, float* offset, const float* absmax,
                                                               const double* sums, int64_t chunks, int64_t blocks) {
  __shared__ float between[256], warps[2][kGroupThreads / 32];
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kGroupThreads;
  int64_t block = static_cast<int64_t>(blockIdx.x) * kGroupThreads + threadIdx.x;
  if (threadIdx.x < 255) between[threadIdx.x] = kMap.between[threadIdx.x];
  wait_for_previous();
  float next = block < blocks ? absmax[block] : 0.0f;
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
