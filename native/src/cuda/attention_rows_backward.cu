/*
 * Math        as attention_backward.cuh
 * Shapes      a warp owns a query row of a head, or a key row of a key head
 * Layout      row strides; a lane holds kHead / 32 neighbouring elements of a head
 * Precision   fp32 arithmetic; delta on any storage, the rest for fp32 storage, which tensor cores do not multiply
 * Saved       o, lse of the forward pass
 * Writes      delta =, lse2 =, dq =, dk =, dv =
 * Determinism bit-exact: every sum is one warp's, over keys, or over heads and queries, in rising order
 * Limits      none of its own; q, do, k and v are read once for each pair, so that it is right before it is fast
 */
#include "cuda/attention_rows.cuh"

namespace oribi::attention {
namespace {

/* kLanes threads, with 8 elements each, take a row of a head. */
template <class T, int kLanes>
__global__ void __launch_bounds__(kRowThreads) delta_kernel(const BackwardArguments<T> x) {
  const Layout& at = x.at;
  const int64_t at_row = (static_cast<int64_t>(blockIdx.x) * kRowThreads + threadIdx.x) / kLanes;
  if (at_row - threadIdx.x % 32 / kLanes >= static_cast<int64_t>(at.n) * at.h) return; /* the whole warp */
  const bool inside = at_row < static_cast<int64_t>(at.n) * at.h;
  const int64_t row = inside ? at_row / at.h : 0, head = inside ? at_row % at.h : 0;
  const int lane = threadIdx.x % kLanes;
  float a[8], b[8], sum = 0;
  load_part<T, 8>(a, x.o + row * at.ld_o + head * at.d, lane * 8, at);
  load_part<T, 8>(b, x.d_o + row * at.ld_o + head * at.d, lane * 8, at);
#pragma unroll
  for (int i = 0; i < 8; i++) sum += a[i] * b[i];
  for (int step = kLanes / 2; step > 0; step /= 2) sum += __shfl_xor_sync(kAllLanes, sum, step);
  if (lane != 0 || !inside) return;
  x.delta[x.line(head, row)] = sum;
  x.lse2[x.line(head, row)] = x.lse[at_row] * kLog2E;
}

/* p and dS of one query and key, the same in every lane. */
struct Pair {
  float p, ds;
};

template <int kEach>
__device__ inline Pair pair_of(const float (&q)[kEach], const float (&d_o)[kEach], const float (&k)[kEach],
                               const float (&v)[kEach], float lse, float delta, const Layout& at) {
  float dot = 0, dp = 0;
#pragma unroll
  for (int i = 0; i < kEach; i++) dot += q[i] * k[i], dp += d_o[i] * v[i];
  const float score = score_of(warp_sum(dot), at), p = expf(score - lse), ds = p * (warp_sum(dp) - delta);
  if (at.softcap == 0) return {p, ds};
  const float t = score / at.softcap;
  return {p, ds * (1 - t * t)};
}

/* A warp owns a query row of a head. */
template <int kEach>
__global__ void __launch_bounds__(kRowThreads) dq_rows_kernel(const BackwardArguments<float> x) {
  const Layout& at = x.at;
  const int64_t at_row = static_cast<int64_t>(blockIdx.x) * kRowWarps + threadIdx.x / 32;
  if (at_row >= static_cast<int64_t>(at.n) * at.h) return;
  const int32_t row = static_cast<int32_t>(at_row / at.h), head = static_cast<int32_t>(at_row % at.h);
  const Place place = find_row(at, row);
  if (place.sequence < 0) return;
  const Sequence sequence = sequence_of(at, place.sequence);
  const Keys keys = visible_keys(at, sequence, row);
  float q[kEach], d_o[kEach], k[kEach], v[kEach], dq[kEach] = {};
  load_lane<float, kEach>(q, x.q + row * at.ld_q + head * at.d, at);
  load_lane<float, kEach>(d_o, x.d_o + row * at.ld_o + head * at.d, at);
  const float lse = x.lse[at_row], delta = x.delta[x.line(head, row)];
  const int32_t kv = head / at.group * at.d;
  for (int32_t j = keys.begin; j < keys.end; j++) {
    const int64_t key = sequence.key_begin + j;
    load_lane<float, kEach>(k, x.k + key * at.ld_k + kv, at);
    load_lane<float, kEach>(v, x.v + key * at.ld_v + kv, at);
    const Pair pair = pair_of<kEach>(q, d_o, k, v, lse, delta, at);
#pragma unroll
    for (int i = 0; i < kEach; i++) dq[i] += pair.ds * k[i];
  }
  store_lane<float, kEach>(x.dq + row * at.ld_q + head * at.d, dq, at.scale, at);
}

/* A warp owns a key row of a key head. */
template <int kEach>
__global__ void __launch_bounds__(kRowThreads) dkv_rows_kernel(const BackwardArguments<float> x) {
  const Layout& at = x.at;
  const int64_t at_row = static_cast<int64_t>(blockIdx.x) * kRowWarps + threadIdx.x / 32;
  if (at_row >= static_cast<int64_t>(at.n) * at.h_kv) return;
  const int32_t row = static_cast<int32_t>(at_row / at.h_kv), kv_head = static_cast<int32_t>(at_row % at.h_kv);
  const Place place = find_row(at, row);
  if (place.sequence < 0) return;
  const Sequence sequence = sequence_of(at, place.sequence);
  float q[kEach], d_o[kEach], k[kEach], v[kEach], dk[kEach] = {}, dv[kEach] = {};
  load_lane<float, kEach>(k, x.k + row * at.ld_k + kv_head * at.d, at);
  load_lane<float, kEach>(v, x.v + row * at.ld_v + kv_head * at.d, at);
  const int32_t last = sequence.query_begin + sequence.query_count;
  const int32_t end = last - row > at.window ? row + at.window : last;
  for (int32_t head = kv_head * at.group; head < (kv_head + 1) * at.group; head++)
    for (int64_t query = row; query < end; query++) {
      load_lane<float, kEach>(q, x.q + query * at.ld_q + head * at.d, at);
      load_lane<float, kEach>(d_o, x.d_o + query * at.ld_o + head * at.d, at);
      const Pair pair = pair_of<kEach>(q, d_o, k, v, x.lse[query * at.h + head], x.delta[x.line(head, query)], at);
#pragma unroll
      for (int i = 0; i < kEach; i++) dk[i] += pair.ds * q[i], dv[i] += pair.p * d_o[i];
    }
  store_lane<float, kEach>(x.dk + row * at.ld_k + kv_head * at.d, dk, at.scale, at);
  store_lane<float, kEach>(x.dv + row * at.ld_v + kv_head * at.d, dv, 1.0f, at);
}

}  // namespace

cudaError_t launch_backward_rows(cudaStream_t stream, const BackwardArguments<float>& x) {
  dispatch_each(x.at.d, [&](auto each) {
    constexpr int kEach = decltype(each)::value;
    const int64_t n = x.at.n;
    dq_rows_kernel<kEach><<<blocks_of_threads(32 * n * x.at.h), kRowThreads, 0, stream>>>(x);
    dkv_rows_kernel<kEach><<<blocks_of_threads(32 * n * x.at.h_kv), kRowThreads, 0, stream>>>(x);
  });
  return cudaSuccess;
}

template <class T>
cudaError_t launch_delta(cudaStream_t stream, const BackwardArguments<T>& x) {
  dispatch_each(x.at.d, [&](auto each) {
    constexpr int kLanes = 4 * decltype(each)::value; /* heads of 64, 128 and 256 in parts of 8 */
    delta_kernel<T, kLanes><<<blocks_of_threads(static_cast<int64_t>(x.at.n) * x.at.h * kLanes), kRowThreads, 0, stream>>>(x);
  });
  return cudaSuccess;
}

template cudaError_t launch_delta<float>(cudaStream_t, const BackwardArguments<float>&);
template cudaError_t launch_delta<__nv_bfloat16>(cudaStream_t, const BackwardArguments<__nv_bfloat16>&);
template cudaError_t launch_delta<__half>(cudaStream_t, const BackwardArguments<__half>&);

}  // namespace oribi::attention
