/*
 * Math        route: pairs p = token*k + j sorted by expert[p], then by p:  pair[i] = p, token[i] = p / k, row[p] = i
 *             unroute: y[token,:] = sum over j of x[row[token*k + j],:]
 * Shapes      expert, pair, token, row (N*k)  offsets (E+1)  x (N*k,C)  y (N,C)
 * Layout      row-major; C a multiple of 16 bytes' worth of elements is read 16 bytes at a time
 * Precision   unroute: storage fp32, bf16 or fp16; the sum fp32 in the order of j, rounded once
 * Saved       what route makes is what the other kernels read, both ways
 * Writes      offsets =, pair =, token =, row =, y = or +=. An expert out of range is taken for 0
 * Determinism bit-exact: a stable sort, without atomics; the host learns nothing, so that it can be captured
 * Limits      E <= 1024, N*k < 2^31
 *
 * The sort is a counting sort in three launches. A warp has 256 pairs: it counts them by expert; then a warp an expert turns
 * its counts into what came before each; then each warp hands its pairs out in order, those of one expert among 32 found by
 * __match_any_sync.
 */
#include "common/experts.h"
#include "cuda/elementwise.cuh"

namespace oribi {
namespace {

constexpr unsigned kAll = 0xffffffffu;
constexpr int kPairs = static_cast<int>(kRoutePairs);
constexpr int kScanWarps = 8; /* experts a block of the scan */
constexpr int kScanThreads = 1024, kThreads = 128;

__device__ int clamped(int expert, int experts, int* fault) {
  if (expert >= 0 && expert < experts) return expert;
  *fault = kFaultExpert;
  return 0;
}

/* seen(expert, how many of this warp's pairs before this one have it), pair after pair; count[E] counts on. */
template <class Seen>
__device__ void walk(int* count, const int32_t* expert, int pairs, int experts, int* fault, Seen&& seen) {
  const int lane = threadIdx.x;
  for (int first = 0; first < kPairs; first += 32) {
    const int64_t pair = static_cast<int64_t>(blockIdx.x) * kPairs + first + lane;
    const bool inside = pair < pairs;
    const int e = inside ? clamped(expert[pair], experts, fault) : experts; /* of its own kind beyond the end */
    const unsigned same = __match_any_sync(kAll, e);
    const unsigned before = same & ((1u << lane) - 1);
    if (inside) seen(static_cast<int>(pair), e, count[e] + __popc(before));
    __syncwarp();
    if (inside && before == 0) count[e] += __popc(same);
    __syncwarp();
  }
}

/* counts[chunk][E] */
__global__ void __launch_bounds__(32) count_kernel(int32_t* counts, const int32_t* expert, int pairs, int experts, int* fault) {
  extern __shared__ int count[];
  for (int e = threadIdx.x; e < experts; e += 32) count[e] = 0;
  __syncwarp();
  walk(count, expert, pairs, experts, fault, [](int, int, int) {});
  for (int e = threadIdx.x; e < experts; e += 32) counts[static_cast<int64_t>(blockIdx.x) * experts + e] = count[e];
}

/* counts[chunk][e] becomes the pairs of e in the chunks before; totals[e] those in all. */
__global__ void __launch_bounds__(kScanWarps * 32) scan_kernel(int32_t* counts, int32_t* totals, int chunks, int experts) {
  const int lane = threadIdx.x % 32, e = blockIdx.x * kScanWarps + threadIdx.x / 32;
  if (e >= experts) return;
  int before = 0;
  for (int first = 0; first < chunks; first += 32) {
    const bool inside = first + lane < chunks;
    int32_t* at = counts + static_cast<int64_t>(first + lane) * experts + e;
    const int own = inside ? *at : 0;
    int sum = own;
    for (int step = 1; step < 32; step *= 2) {
      const int other = __shfl_up_sync(kAll, sum, step);
      if (lane >= step) sum += other;
    }
    if (inside) *at = before + sum - own;
    before += __shfl_sync(kAll, sum, 31);
  }
  if (lane == 0) totals[e] = before;
}

/* offsets[E+1] from totals, by one block of a thread an expert. */
__global__ void __launch_bounds__(kScanThreads) offsets_kernel(int32_t* offsets, const int32_t* totals, int experts) {
  __shared__ int sum[kScanThreads];
  const int e = threadIdx.x;
  sum[e] = e < experts ? totals[e] : 0;
  __syncthreads();
  for (int step = 1; step < kScanThreads; step *= 2) {
    const int other = e >= step ? sum[e - step] : 0;
    __syncthreads();
    sum[e] += other;
    __syncthreads();
  }
  if (e == 0) offsets[0] = 0;
  if (e < experts) offsets[e + 1] = sum[e];
}

__global__ void __launch_bounds__(32) place_kernel(int32_t* pair_of, int32_t* token, int32_t* row, const int32_t* offsets,
                                                   const int32_t* counts, const int32_t* expert, int pairs, int experts,
                                                   Divider per_token, int* fault) {
  extern __shared__ int count[];
  for (int e = threadIdx.x; e < experts; e += 32) count[e] = offsets[e] + counts[static_cast<int64_t>(blockIdx.x) * experts + e];
  __syncwarp();
  walk(count, expert, pairs, experts, fault, [&](int pair, int, int i) {
    pair_of[i] = pair;
    token[i] = static_cast<int32_t>(per_token.quotient(static_cast<uint32_t>(pair)));
    row[pair] = i;
  });
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads) unroute_kernel(T* y, const T* x, const int32_t* row, int k, int64_t packs, bool accumulate) {
  using P = Pack<T, kWidth>;
  constexpr int kInFlight = 4; /* rows loaded before the first is added */
  const int64_t token = blockIdx.x;
  const int32_t* rows = row + token * k;
  for (int64_t at = static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x; at < packs; at += static_cast<int64_t>(gridDim.y) * kThreads) {
    float sum[kWidth] = {};
    for (int first = 0; first < k; first += kInFlight) {
      P value[kInFlight];
#pragma unroll
      for (int j = 0; j < kInFlight; j++) {
        if (first + j < k) value[j] = reinterpret_cast<const P*>(x)[rows[first + j] * packs + at];
      }
#pragma unroll
      for (int j = 0; j < kInFlight; j++) {
#pragma unroll
        for (int m = 0; m < kWidth; m++) {
          if (first + j < k) sum[m] += to_float(value[j].element[m]);
        }
      }
    }
    P* out = reinterpret_cast<P*>(y) + token * packs + at;
    P before{}, result;
    if (accumulate) before = *out;
#pragma unroll
    for (int m = 0; m < kWidth; m++) {
      result.element[m] = from_float<T>((accumulate ? to_float(before.element[m]) : 0.0f) + sum[m]);
    }
    *out = result;
  }
}

int64_t chunks_of(int64_t pairs) { return divide_up(pairs, kPairs); }

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_route(oribi_ctx* ctx, int32_t* offsets, int32_t* pair, int32_t* token, int32_t* row,
                                    const int32_t* expert, void* workspace, int64_t n, int64_t k, int64_t experts) {
  const char* const function = "oribi_route";
  Check check(ctx, function);
  if (!check_route(check, n, k, experts)) return check.status();
  check.pointer("offsets", offsets).pointer("pair", pair, n).pointer("token", token, n).pointer("row", row, n);
  check.pointer("expert", expert, n).pointer("workspace", workspace);
  if (!check.ok()) return check.status();
  const oribi_status status = select_device(ctx, function);
  if (status != ORIBI_OK) return status;
  const cudaStream_t stream = stream_of(ctx);
  const int pairs = static_cast<int>(n * k), e = static_cast<int>(experts), chunks = static_cast<int>(chunks_of(n * k));
  int32_t *totals = static_cast<int32_t*>(workspace), *counts = totals + experts;
  const size_t bytes = static_cast<size_t>(experts) * sizeof(int);
  if (chunks > 0) count_kernel<<<chunks, 32, bytes, stream>>>(counts, expert, pairs, e, fault_of(ctx));
  scan_kernel<<<static_cast<unsigned>(divide_up(experts, kScanWarps)), kScanWarps * 32, 0, stream>>>(counts, totals, chunks, e);
  offsets_kernel<<<1, kScanThreads, 0, stream>>>(offsets, totals, e);
  if (chunks > 0) {
    place_kernel<<<chunks, 32, bytes, stream>>>(pair, token, row, offsets, counts, expert, pairs, e, Divider(k), fault_of(ctx));
  }
  return launch_status(ctx, function);
}

extern "C" int64_t oribi_route_workspace(int64_t n, int64_t k, int64_t experts) { return route_workspace(n, k, experts); }

extern "C" oribi_status oribi_unroute(oribi_ctx* ctx, void* y, const void* x, const int32_t* row, int64_t n, int64_t k,
                                      int64_t c, int32_t accumulate, oribi_dtype t) {
  const char* const function = "oribi_unroute";
  Check check(ctx, function);
  check.size("n", n).size("k", k, 1).size("c", c, 1).dtype("t", t).elements("x", n, k).elements("x", n * k, c);
  check.pointer("y", y, n).pointer("x", x, n).pointer("row", row, n);
  if (!check.ok() || n == 0) return check.status();
  if (!fits_grid(n)) return too_large(ctx, function, n);
  const oribi_status status = select_device(ctx, function);
  if (status != ORIBI_OK) return status;
  dispatch_pack(t, aligned({y, x}) ? c : 1, [&](auto type, auto width) {
    using T = decltype(type);
    constexpr int kWidth = decltype(width)::value;
    const int64_t packs = c / kWidth, columns = divide_up(packs, kThreads);
    const dim3 grid(static_cast<unsigned>(n), static_cast<unsigned>(columns < 65535 ? columns : 65535));
    unroute_kernel<T, kWidth><<<grid, kThreads, 0, stream_of(ctx)>>>(static_cast<T*>(y), static_cast<const T*>(x), row,
                                                                     static_cast<int>(k), packs, accumulate != 0);
  });
  return launch_status(ctx, function);
}
