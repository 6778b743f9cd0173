/*
 * Math        x' = x / penalty or x * penalty of seen tokens;  w = exp((x' - max) / temperature);  token drawn with
 *             probability w / sum(w) among those that top_k, top_p and min_p leave, in Hugging Face's order
 * Shapes      logits (N,V)  token (N)  seen (seen_count)
 * Layout      row-major, any V
 * Precision   fp32 weights by the CPU's own exp, sums double
 * Saved       nothing; row i uses element i of the stream of random numbers
 * Writes      token =
 * Determinism bit-exact; the draw goes through the tokens in the order of their ids. The same token as on a CPU with fused
 *             multiplication, unless u falls within 1e-16 of where one token's share ends and the next begins
 * Limits      V <= 262144, N <= 2^31 - 1; larger returns UNSUPPORTED. A row with a NaN or +infinity, or nothing finite,
 *             draws 0, and oribi_ctx_synchronize returns INVALID_ARGUMENT; likewise a seen token outside [0, V), which
 *             changes nothing
 */
#include <cfloat>

#include "common/philox.h"
#include "common/sample.h"
#include "cuda/context.cuh"

namespace oribi {
namespace {

constexpr int64_t kMaxVocabulary = 262144;
constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / 32;
/* Loads under way in each thread: one block walks a whole row, and must not wait for every element in turn. */
constexpr int kAhead = 8;

/* ------------------------------------------------------------------------------------------------- sums over the block */

/* The block's total in fixed order, the same in every thread, and in *before the total of the threads before this one. */
template <class T>
__device__ T block_scan(T x, T* before = nullptr) {
  __shared__ T warps[kWarps];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  T running = x;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const T other = __shfl_up_sync(0xffffffffu, running, step);
    if (lane >= step) running = running + other;
  }
  __syncthreads(); /* the scan before this one has been read */
  if (lane == 31) warps[warp] = running;
  __syncthreads();
  T total{}, ahead{};
#pragma unroll 4
  for (int i = 0; i < kWarps; i++) {
    if (i == warp) ahead = total;
    total = total + warps[i];
  }
  const T in_warp = __shfl_up_sync(0xffffffffu, running, 1);
  if (before != nullptr) *before = lane == 0 ? ahead : ahead + in_warp;
  return total;
}

/* ------------------------------------------------------------------------------------------------------------- numbers */

/* Keys order as the floats do; -0 counts as 0. NaN is excluded before. */
__device__ inline uint32_t key_of(float x) {
  const uint32_t bits = __float_as_uint(x + 0.0f);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

__device__ inline float float_of(uint32_t key) {
  return __uint_as_float((key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key);
}

/* e^x with the operations of the CPU's vexp as a compiler fuses them, so that both devices weigh tokens alike. */
__device__ inline float exp_as_on_cpu(float x) {
  x = fmaxf(fminf(x, 89.0f), -104.0f);
  const float shifted = fmaf(x, 1.44269504f, 12582912.0f), n = shifted - 12582912.0f;
  float r = fmaf(-n, 0.693145752f, x);
  r = fmaf(-n, 1.42860677e-6f, r);
  float p = fmaf(r, 1.381314460e-3f, 8.369418934e-3f);
  p = fmaf(p, r, 4.166845679e-2f);
  p = fmaf(p, r, 1.666651479e-1f);
  p = fmaf(p, r, 4.999999305e-1f);
  p = fmaf(__fmul_rn(p, r), r, r) + 1.0f;
  const int exponent = __float_as_int(shifted) - 0x4b400000, half = exponent >> 1;
  return p * __int_as_float((half + 127) << 23) * __int_as_float((exponent - half + 127) << 23);
}

/* ----------------------------------------------------------------------------------------------------------- the steps */

/* The candidates of one row, in the order of their ids. */
struct Candidates {
  float* logit;
  float* weight;
  int32_t* id;
};

/* The row's logits with the penalty applied, each once however often it was seen: in `own` where there is one. */
__device__ const float* penalize(float* own, const float* logits, int v, const int32_t* seen, int64_t seen_count, float penalty,
                                 int* fault) {
  if (seen_count == 0) return logits;
#pragma unroll kAhead
  for (int i = threadIdx.x; i < v; i += kThreads) own[i] = logits[i];
  __syncthreads();
  for (int64_t i = threadIdx.x; i < seen_count; i += kThreads) {
    const int32_t id = seen[i];
    if (id < 0 || id >= v) {
      *fault = kFaultSeenToken;
    } else {
      own[id] = logits[id] > 0 ? logits[id] / penalty : logits[id] * penalty;
    }
  }
  __syncthreads();
  return own;
}

/* The most likely token, the lowest id among equals; kNoToken where a logit is NaN or +infinity or none is finite. */
__device__ int32_t most_likely(const float* x, int v) {
  __shared__ unsigned long long best_of_block;
  unsigned long long best = 0; /* key in the high half, so that it decides; ~id in the low one, so that the lowest id wins */
  int broken = 0;
#pragma unroll kAhead
  for (int i = threadIdx.x; i < v; i += kThreads) {
    const float logit = x[i];
    broken |= !(logit < INFINITY);
    const unsigned long long candidate = static_cast<unsigned long long>(key_of(logit)) << 32 | ~static_cast<uint32_t>(i);
    best = candidate > best ? candidate : best;
  }
  if (threadIdx.x == 0) best_of_block = 0;
  broken = __syncthreads_or(broken);
  atomicMax(&best_of_block, best); /* of integers: the same whatever the order */
  __syncthreads();
  const int32_t id = static_cast<int32_t>(~static_cast<uint32_t>(best_of_block));
  return broken != 0 || x[id] == -INFINITY ? kNoToken : id;
}

/* The key of the k-th most likely, found eight bits at a time. */
__device__ uint32_t kth_key(const float* x, int v, int k) {
  __shared__ int histogram[256];
  __shared__ uint32_t found;
  __shared__ int left;
  uint32_t prefix = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    if (threadIdx.x < 256) histogram[threadIdx.x] = 0;
    __syncthreads();
    const uint32_t mask = shift == 24 ? 0 : 0xffffffffu << (shift + 8);
#pragma unroll kAhead
    for (int i = threadIdx.x; i < v; i += kThreads) {
      const uint32_t key = key_of(x[i]);
      if ((key & mask) == prefix) atomicAdd(&histogram[key >> shift & 255], 1);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      int digit = 255;
      for (; digit > 0 && histogram[digit] < k; digit--) k -= histogram[digit];
      found = prefix | static_cast<uint32_t>(digit) << shift;
      left = k;
    }
    __syncthreads();
    prefix = found;
    k = left;
  }
  return prefix;
}

/* Gathers those with a key of at least `least` and a positive weight, with their weights, in the order of their ids: a thread
   takes kAhead neighbours in each round. x may be c.logit: what is written lies at or before what is read in the same round,
   and after a barrier. */
__device__ int collect(Candidates c, const float* x, int v, uint32_t least, float max, float temperature) {
  int count = 0;
  for (int begin = 0; begin < v; begin += kThreads * kAhead) {
    const int first = begin + static_cast<int>(threadIdx.x) * kAhead;
    float logit[kAhead], weight[kAhead];
    int mine = 0, at;
#pragma unroll
    for (int k = 0; k < kAhead; k++) logit[k] = first + k < v ? x[first + k] : -INFINITY;
#pragma unroll
    for (int k = 0; k < kAhead; k++) {
      const bool kept = first + k < v && key_of(logit[k]) >= least;
      weight[k] = kept ? exp_as_on_cpu((logit[k] - max) / temperature) : 0.0f;
      mine += weight[k] > 0 ? 1 : 0;
    }
    const int total = block_scan(mine, &at);
    at += count;
#pragma unroll
    for (int k = 0; k < kAhead; k++) {
      if (!(weight[k] > 0)) continue;
      c.logit[at] = logit[k];
      c.weight[at] = weight[k];
      c.id[at++] = first + k;
    }
    count += total;
  }
  __syncthreads();
  return count;
}

/* Which candidates top_p and min_p leave: keys above the edge, and those that lie on it before the place where it ends. */
struct Kept {
  uint32_t edge;
  int end_of_edge;
  float min_p;

  __device__ double weight(const Candidates& c, int i) const {
    const uint32_t key = key_of(c.logit[i]);
    const float weight = c.weight[i];
    return (key > edge || (key == edge && i < end_of_edge)) && weight >= min_p ? static_cast<double>(weight) : 0.0;
  }
};

/* The first i < count at which the running sum of value(i) exceeds share of the total plus `extra`; count where none does. In two
   steps, since a block reads fast only what its lanes read side by side: warps sum a range each, then all threads share the
   range in which the mark lies, a few neighbours each, and one thread walks through its own. */
template <class Value>
__device__ int first_above(int count, double share, double extra, Value value) {
  __shared__ double of_warp[kWarps];
  __shared__ int chosen, found;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int range = (count + kThreads - 1) / kThreads * 32, each = range / 32; /* of a warp; of a thread in the second step */
  double sum = 0;
#pragma unroll kAhead
  for (int i = warp * range + lane; i < min(count, (warp + 1) * range); i += 32) sum += value(i);
#pragma unroll
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  __syncthreads(); /* the search before this one has been read */
  if (lane == 0) of_warp[warp] = sum;
  if (threadIdx.x == 0) chosen = 0, found = count;
  __syncthreads();
  double total = 0, before = 0;
#pragma unroll 4
  for (double other : of_warp) total += other;
  const double mark = share * total + extra;
  if (!(total > mark)) return count;
  int in = 0;
  double running = 0;
#pragma unroll 4
  for (int w = 0; w < kWarps; w++) {
    if (of_warp[w] > 0 && running <= mark) in = w, before = running;
    running += of_warp[w];
  }
  const int per_thread = (each * 32 + kThreads - 1) / kThreads;
  const int begin = min(count, in * range + static_cast<int>(threadIdx.x) * per_thread);
  const int end = min(min(count, (in + 1) * range), begin + per_thread);
  double mine = 0, ahead;
  for (int i = begin; i < end; i++) mine += value(i);
  block_scan(mine, &ahead);
  ahead += before;
  if (mine > 0 && ahead <= mark) atomicMax(&chosen, static_cast<int>(threadIdx.x));
  __syncthreads();
  if (static_cast<int>(threadIdx.x) == chosen) {
    for (int i = begin; i < end && ahead <= mark; i++) {
      const double next = value(i);
      if (next > 0) found = i; /* the last one, should a rounding keep the sum at the mark */
      ahead += next;
    }
  }
  __syncthreads();
  return found;
}

/* The sums of weights from each of seven keys on: edge + 1, 2 ... 7 times `unit`. Not inlined: its sums take the registers that the
   rest of the kernel needs across it. */
constexpr int kKeys = 7;
__device__ __noinline__ void sums_from(double (&sums)[kKeys], const Candidates& c, int count, uint32_t edge, uint32_t unit) {
#pragma unroll
  for (double& sum : sums) sum = 0;
#pragma unroll 2
  for (int i = threadIdx.x; i < count; i += kThreads) {
    const uint32_t key = key_of(c.logit[i]);
    const double weight = c.weight[i];
#pragma unroll
    for (int k = 0; k < kKeys; k++) sums[k] += key >= static_cast<uint64_t>(edge) + static_cast<uint64_t>(k + 1) * unit ? weight : 0.0;
  }
#pragma unroll
  for (double& sum : sums) sum = block_scan(sum);
}

__device__ double sum_of(const float* weight, int count) {
  double sum = 0;
#pragma unroll kAhead
  for (int i = threadIdx.x; i < count; i += kThreads) sum += weight[i];
  return block_scan(sum);
}

/* The smallest set of the most likely whose weight reaches p of all: the largest key from which on the sum does, found three
   bits at a time, then as many of those with that very key as are needed, at least one. */
__device__ Kept keep_top_p(const Candidates& c, int count, float p, float min_p, float max, float temperature) {
  if (p >= 1) return {0, 0, min_p};
  const uint32_t best = key_of(max);
  const double wanted = static_cast<double>(p) * sum_of(c.weight, count);
  double above = 0; /* the sum from edge + unit on: one of the seven, or where all seven were passed the one before them */
  uint32_t edge = 0;
#pragma unroll 1
  for (int shift = 30; shift >= 0; shift -= 3) {
    const uint32_t unit = 1u << shift;
    double sums[kKeys];
    sums_from(sums, c, count, edge, unit);
    uint32_t steps = 0;
#pragma unroll
    for (uint32_t k = 0; k < kKeys; k++) {
      if (static_cast<uint64_t>(edge) + static_cast<uint64_t>(k + 1) * unit <= best && sums[k] >= wanted) {
        steps = k + 1;
      } else if (k == steps) {
        above = sums[k];
      }
    }
    edge += steps * unit;
  }
  const double weight = exp_as_on_cpu((float_of(edge) - max) / temperature), needed = ceil((wanted - above) / weight);
  const double ties = needed > 1 ? needed : 1;
  const int end = first_above(count, 0, ties, [&](int i) { return key_of(c.logit[i]) == edge ? 1.0 : 0.0; });
  return {edge, end, min_p};
}

__global__ void __launch_bounds__(kThreads) sample_kernel(int32_t* token, const float* logits, const int32_t* seen, float* workspace,
                                                          int v, int64_t seen_count, oribi_sample_options options, int* fault) {
  const int64_t row = blockIdx.x;
  float* own = workspace + row * v * (kSampleBytes / sizeof(float));
  const Candidates c{own, own + v, reinterpret_cast<int32_t*>(own + 2 * static_cast<int64_t>(v))};
  const float* x = penalize(c.logit, logits + row * v, v, seen, seen_count, options.repetition_penalty, fault);
  const int32_t best = most_likely(x, v);
  if (best == kNoToken || options.temperature == 0) {
    if (threadIdx.x != 0) return;
    token[row] = best == kNoToken ? 0 : best;
    if (best == kNoToken) *fault = kFaultLogits;
    return;
  }
  const float max = x[best];
  const uint32_t least = options.top_k > 0 && options.top_k < v ? kth_key(x, v, options.top_k) : 0;
  __syncthreads(); /* all have read the maximum, which the next step may move */
  const int count = collect(c, x, v, least, max, options.temperature);
  const Kept kept = keep_top_p(c, count, options.top_p, options.min_p, max, options.temperature);
  const PhiloxWords words = philox(options.seed, options.stream, static_cast<uint64_t>(row) / 4);
  const int drawn = first_above(count, philox_uniform(words.word[row % 4]), 0, [&](int i) { return kept.weight(c, i); });
  if (threadIdx.x == 0) token[row] = c.id[drawn];
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_sample(oribi_ctx* ctx, int32_t* token, const float* logits, const int32_t* seen,
                                     void* workspace, int64_t n, int64_t v, int64_t seen_count,
                                     const oribi_sample_options* options) {
  const char* const function = "oribi_sample";
  Check check(ctx, function);
  check_sample(check, token, logits, seen, workspace, n, v, seen_count, options);
  if (!check.ok() || n == 0) return check.status();
  if (v > kMaxVocabulary || n > INT32_MAX) {
    return fail(ctx, ORIBI_UNSUPPORTED, "%s: n = %lld, v = %lld; at most 2147483647 and %lld on a GPU", function,
                static_cast<long long>(n), static_cast<long long>(v), static_cast<long long>(kMaxVocabulary));
  }
  const oribi_status status = select_device(ctx, function);
  if (status != ORIBI_OK) return status;
  sample_kernel<<<static_cast<unsigned>(n), kThreads, 0, stream_of(ctx)>>>(
      token, logits, seen, static_cast<float*>(workspace), static_cast<int>(v), penalized(*options, seen_count), *options,
      fault_of(ctx));
  return launch_status(ctx, function);
}

extern "C" int64_t oribi_sample_workspace(int64_t n, int64_t v) { return sample_workspace(n, v); }
