/*
 * Math        as attention_forward.cuh and attention_backward.cuh
 * Shapes      a block owns one query row and up to 4 heads of a group, and a part of the row's keys
 * Layout      row strides; a lane holds kHead / 32 neighbouring elements of a head
 * Precision   fp32 arithmetic on any storage; the backward pass for fp32 storage alone
 * Saved, Writes  as there
 * Determinism bit-exact: keys are divided by their numbers alone, and partial results are joined in order
 * Limits      none of its own; every key is read once for each row, so that it suits few rows
 *
 * Three uses: decoding with a cache, where a sequence has few queries and the cache must be read at the memory's rate, so
 * that even one row is spread over the card; fp32 storage, which tensor cores do not multiply; the sums before the
 * backward pass.
 */
#include "cuda/attention_rows.cuh"

namespace oribi::attention {
namespace {

constexpr int kWarps = 4, kThreads = 32 * kWarps;
/* Blocks of one row of all key heads: four on each multiprocessor keep enough loads under way. */
constexpr int kBlocksEach = 4;
constexpr int kMaxSplits = 64;

__device__ inline float warp_sum(float x) {
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  return x;
}

/* kEach elements of a head that belong to this lane, zeros beyond d. */
template <class T, int kEach>
__device__ inline void load_lane(float (&to)[kEach], const T* head, const Layout& at) {
  const int first = threadIdx.x % 32 * kEach;
  if (at.wide) {
    using P = Pack<T, kEach * sizeof(T) <= 16 ? kEach : 16 / sizeof(T)>;
    constexpr int kPack = sizeof(P) / sizeof(T);
#pragma unroll
    for (int i = 0; i < kEach; i += kPack) {
      P pack{};
      if (first + i < at.d) pack = *reinterpret_cast<const P*>(head + first + i);
#pragma unroll
      for (int e = 0; e < kPack; e++) to[i + e] = to_float(pack.element[e]);
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kEach; i++) to[i] = first + i < at.d ? to_float(head[first + i]) : 0.0f;
}

template <class T, int kEach>
__device__ inline void store_lane(T* head, const float (&from)[kEach], float factor, const Layout& at) {
  const int first = threadIdx.x % 32 * kEach;
#pragma unroll
  for (int i = 0; i < kEach; i++) {
    if (first + i < at.d) head[first + i] = from_float<T>(from[i] * factor);
  }
}

/* Lane l receives the sum over all lanes of x[l]: 31 exchanges instead of 5 for each of 32 sums. A recursion, so that every
   index is known to the compiler and x stays in registers. */
template <int kStep = 16>
__device__ inline float sum_across(float (&x)[32]) {
  const bool upper = (threadIdx.x & kStep) != 0;
#pragma unroll
  for (int i = 0; i < kStep; i++) {
    const float keep = upper ? x[i + kStep] : x[i], give = upper ? x[i] : x[i + kStep];
    x[i] = keep + __shfl_xor_sync(kAllLanes, give, kStep);
  }
  if constexpr (kStep > 1) sum_across<kStep / 2>(x);
  return x[0];
}

__device__ inline float score_of(float dot, const Layout& at) {
  const float s = dot * at.scale;
  return at.softcap == 0 ? s : at.softcap * tanhf(s / at.softcap);
}

/* The keys of a row that one block sees. */
struct Keys {
  int32_t begin, end;
};

__device__ inline Keys visible_keys(const Layout& at, const Sequence& sequence, int32_t row) {
  const int32_t position = row - sequence.query_begin + sequence.hidden();
  return {position >= at.window ? position - at.window + 1 : 0, position + 1};
}

/* A running softmax of kHeads heads: o lies over the lanes; max and sum are those of head lane % kHeads. */
template <int kHeads, int kEach>
struct Running {
  float o[kHeads][kEach], max, sum;
};

/* 32 / kHeads keys from `key` on: their scores lie one in a lane, keys at lane / kHeads. */
template <class T, int kHeads, int kEach>
__device__ inline void add_keys(Running<kHeads, kEach>& state, const float (&q)[kHeads][kEach], const T* k, const T* v,
                                int32_t key, int32_t end, const Layout& at) {
  constexpr int kKeys = 32 / kHeads;
  const int lane = threadIdx.x % 32;
  float dots[32];
#pragma unroll
  for (int j = 0; j < kKeys; j++) {
    float element[kEach] = {};
    if (key + j < end) load_lane<T, kEach>(element, k + (key + j) * at.ld_k, at);
#pragma unroll
    for (int h = 0; h < kHeads; h++) {
      float dot = 0;
#pragma unroll
      for (int i = 0; i < kEach; i++) dot += q[h][i] * element[i];
      dots[j * kHeads + h] = dot;
    }
  }
  const float dot = sum_across(dots);
  const float s = key + lane / kHeads < end ? score_of(dot, at) : -INFINITY;
  float high = fmaxf(state.max, s);
#pragma unroll
  for (int step = 16; step >= kHeads; step /= 2) high = fmaxf(high, __shfl_xor_sync(kAllLanes, high, step));
  const float p = expf(s - high), decay = expf(state.max - high);
  float part = p;
#pragma unroll
  for (int step = 16; step >= kHeads; step /= 2) part += __shfl_xor_sync(kAllLanes, part, step);
  state.sum = state.sum * decay + part;
  state.max = high;
#pragma unroll
  for (int h = 0; h < kHeads; h++) {
    const float factor = __shfl_sync(kAllLanes, decay, h);
#pragma unroll
    for (int i = 0; i < kEach; i++) state.o[h][i] *= factor;
  }
#pragma unroll
  for (int j = 0; j < kKeys; j++) {
    float element[kEach] = {};
    if (key + j < end) load_lane<T, kEach>(element, v + (key + j) * at.ld_v, at);
#pragma unroll
    for (int h = 0; h < kHeads; h++) {
      const float weight = __shfl_sync(kAllLanes, p, j * kHeads + h);
#pragma unroll
      for (int i = 0; i < kEach; i++) state.o[h][i] += weight * element[i];
    }
  }
}

/* What the warps of a block found, joined in order by warp h for head h. */
template <int kHeads, int kEach>
struct Meeting {
  float o[kWarps][kHeads][32 * kEach], max[kWarps][kHeads], sum[kWarps][kHeads];
};

template <class T, int kHeads, int kEach>
__global__ void __launch_bounds__(kThreads) forward_rows_kernel(const ForwardArguments<T> x, int32_t splits) {
  __shared__ Meeting<kHeads, kEach> meeting;
  const Layout& at = x.at;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int32_t row = blockIdx.x, chunks = (at.group + kHeads - 1) / kHeads;
  const int32_t kv_head = blockIdx.y / chunks, first_head = blockIdx.y % chunks * kHeads; /* within the group */
  const Place place = find_row(at, row);
  if (place.sequence < 0) return;
  const Sequence sequence = sequence_of(at, place.sequence);
  const Keys all = visible_keys(at, sequence, row);
  constexpr int kStep = 32 / kHeads;
  const int32_t steps = (all.end - all.begin + kStep - 1) / kStep, each = (steps + splits - 1) / splits * kStep;
  const int32_t begin = all.begin + blockIdx.z * each, end = min(all.end, begin + each);

  float q[kHeads][kEach];
  Running<kHeads, kEach> state{};
  state.max = -INFINITY;
  const int32_t head = kv_head * at.group + first_head, heads = min(kHeads, at.group - first_head);
#pragma unroll
  for (int h = 0; h < kHeads; h++) {
    load_lane<T, kEach>(q[h], x.q + row * at.ld_q + (head + min(h, heads - 1)) * at.d, at);
  }
  const T* k = x.k + sequence.key_begin * at.ld_k + kv_head * at.d;
  const T* v = x.v + sequence.key_begin * at.ld_v + kv_head * at.d;
  for (int32_t key = begin + warp * kStep; key < end; key += kWarps * kStep) {
    add_keys<T, kHeads, kEach>(state, q, k, v, key, end, at);
  }
#pragma unroll
  for (int h = 0; h < kHeads; h++)
#pragma unroll
    for (int i = 0; i < kEach; i++) meeting.o[warp][h][lane * kEach + i] = state.o[h][i];
  if (lane < kHeads) meeting.max[warp][lane] = state.max, meeting.sum[warp][lane] = state.sum;
  __syncthreads();
  for (int h = warp; h < heads; h += kWarps) {
    float max = -INFINITY, sum = 0, o[kEach] = {};
    for (int w = 0; w < kWarps; w++) max = fmaxf(max, meeting.max[w][h]);
    for (int w = 0; w < kWarps; w++) {
      /* A warp without keys has the maximum -infinity, and so may a whole split: no weight, not NaN. */
      const float weight = meeting.max[w][h] == -INFINITY ? 0.0f : expf(meeting.max[w][h] - max);
      sum += meeting.sum[w][h] * weight;
#pragma unroll
      for (int i = 0; i < kEach; i++) o[i] += meeting.o[w][h][lane * kEach + i] * weight;
    }
    const int64_t at_row = static_cast<int64_t>(row) * at.h + head + h;
    if (splits == 1) {
      store_lane<T, kEach>(x.o + row * at.ld_o + (head + h) * at.d, o, 1.0f / sum, at);
      if (x.lse != nullptr && lane == 0) x.lse[at_row] = max + logf(sum);
    } else {
      float* part = x.workspace + (at_row * splits + blockIdx.z) * (at.d + 2);
      store_lane<float, kEach>(part + 2, o, 1.0f, at);
      if (lane == 0) part[0] = max, part[1] = sum;
    }
  }
}

/* A warp joins the splits of one row and head. */
template <class T, int kEach>
__global__ void __launch_bounds__(kThreads) join_splits_kernel(const ForwardArguments<T> x, int32_t splits) {
  const Layout& at = x.at;
  const int64_t at_row = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (at_row >= static_cast<int64_t>(at.n) * at.h) return;
  const int64_t row = at_row / at.h, head = at_row % at.h;
  const int lane = threadIdx.x % 32;
  const float* parts = x.workspace + at_row * splits * (at.d + 2);
  float max = -INFINITY, sum = 0, o[kEach] = {};
  for (int s = 0; s < splits; s++) max = fmaxf(max, parts[s * (at.d + 2)]);
  for (int s = 0; s < splits; s++) {
    const float* part = parts + s * (at.d + 2);
    if (part[0] == -INFINITY) continue;
    const float weight = expf(part[0] - max);
    sum += part[1] * weight;
#pragma unroll
    for (int i = 0; i < kEach; i++) {
      if (lane * kEach + i < at.d) o[i] += part[2 + lane * kEach + i] * weight;
    }
  }
  store_lane<T, kEach>(x.o + row * at.ld_o + head * at.d, o, 1.0f / sum, at);
  if (x.lse != nullptr && lane == 0) x.lse[at_row] = max + logf(sum);
}

template <class T>
__global__ void __launch_bounds__(kThreads) delta_kernel(const BackwardArguments<T> x) {
  const Layout& at = x.at;
  const int64_t at_row = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (at_row >= static_cast<int64_t>(at.n) * at.h) return;
  const int64_t row = at_row / at.h, head = at_row % at.h;
  float a[8], b[8], sum = 0;
  load_lane<T, 8>(a, x.o + row * at.ld_o + head * at.d, at);
  load_lane<T, 8>(b, x.d_o + row * at.ld_o + head * at.d, at);
#pragma unroll
  for (int i = 0; i < 8; i++) sum += a[i] * b[i];
  sum = warp_sum(sum);
  if (threadIdx.x % 32 != 0) return;
  x.delta[head * at.n + row] = sum;
  x.lse2[head * at.n + row] = x.lse[at_row] * kLog2E;
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
__global__ void __launch_bounds__(kThreads) dq_rows_kernel(const BackwardArguments<float> x) {
  const Layout& at = x.at;
  const int64_t at_row = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (at_row >= static_cast<int64_t>(at.n) * at.h) return;
  const int32_t row = static_cast<int32_t>(at_row / at.h), head = static_cast<int32_t>(at_row % at.h);
  const Place place = find_row(at, row);
  if (place.sequence < 0) return;
  const Sequence sequence = sequence_of(at, place.sequence);
  const Keys keys = visible_keys(at, sequence, row);
  float q[kEach], d_o[kEach], k[kEach], v[kEach], dq[kEach] = {};
  load_lane<float, kEach>(q, x.q + row * at.ld_q + head * at.d, at);
  load_lane<float, kEach>(d_o, x.d_o + row * at.ld_o + head * at.d, at);
  const float lse = x.lse[at_row], delta = x.delta[static_cast<int64_t>(head) * at.n + row];
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
__global__ void __launch_bounds__(kThreads) dkv_rows_kernel(const BackwardArguments<float> x) {
  const Layout& at = x.at;
  const int64_t at_row = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
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
      const Pair pair = pair_of<kEach>(q, d_o, k, v, x.lse[query * at.h + head], x.delta[static_cast<int64_t>(head) * at.n + query], at);
#pragma unroll
      for (int i = 0; i < kEach; i++) dk[i] += pair.ds * q[i], dv[i] += pair.p * d_o[i];
    }
  store_lane<float, kEach>(x.dk + row * at.ld_k + kv_head * at.d, dk, at.scale, at);
  store_lane<float, kEach>(x.dv + row * at.ld_v + kv_head * at.d, dv, 1.0f, at);
}

/* Calls f with the elements of a head that a lane holds. */
template <class F>
void dispatch_each(int32_t d, F&& f) {
  if (d <= 64) return f(Width<2>{});
  if (d <= 128) return f(Width<4>{});
  return f(Width<8>{});
}

unsigned blocks_of_warps(int64_t count) { return static_cast<unsigned>((count + kWarps - 1) / kWarps); }

}  // namespace

int32_t splits_of(const Layout& at, int32_t processors) {
  const int64_t blocks = static_cast<int64_t>(at.n) * at.h_kv, wanted = kBlocksEach * processors / blocks;
  return static_cast<int32_t>(wanted < 1 ? 1 : wanted > kMaxSplits ? kMaxSplits : wanted);
}

int64_t split_floats(const Shape& shape, int32_t processors) {
  return kBlocksEach * processors * (shape.h / shape.h_kv) * (shape.d + 2);
}

template <class T>
cudaError_t launch_forward_rows(cudaStream_t stream, const ForwardArguments<T>& x, int32_t splits) {
  const auto launch = [&](auto heads, auto each) {
    constexpr int kHeads = decltype(heads)::value, kEach = decltype(each)::value;
    const unsigned chunks = static_cast<unsigned>((x.at.group + kHeads - 1) / kHeads);
    const dim3 grid(static_cast<unsigned>(x.at.n), static_cast<unsigned>(x.at.h_kv) * chunks, static_cast<unsigned>(splits));
    forward_rows_kernel<T, kHeads, kEach><<<grid, kThreads, 0, stream>>>(x, splits);
    if (splits > 1) {
      join_splits_kernel<T, kEach><<<blocks_of_warps(static_cast<int64_t>(x.at.n) * x.at.h), kThreads, 0, stream>>>(x, splits);
    }
  };
  dispatch_each(x.at.d, [&](auto each) { x.at.group == 1 ? launch(Width<1>{}, each) : launch(Width<4>{}, each); });
  return cudaSuccess;
}

cudaError_t launch_backward_rows(cudaStream_t stream, const BackwardArguments<float>& x) {
  dispatch_each(x.at.d, [&](auto each) {
    constexpr int kEach = decltype(each)::value;
    const int64_t n = x.at.n;
    dq_rows_kernel<kEach><<<blocks_of_warps(n * x.at.h), kThreads, 0, stream>>>(x);
    dkv_rows_kernel<kEach><<<blocks_of_warps(n * x.at.h_kv), kThreads, 0, stream>>>(x);
  });
  return cudaSuccess;
}

template <class T>
cudaError_t launch_delta(cudaStream_t stream, const BackwardArguments<T>& x) {
  delta_kernel<T><<<blocks_of_warps(static_cast<int64_t>(x.at.n) * x.at.h), kThreads, 0, stream>>>(x);
  return cudaSuccess;
}

template cudaError_t launch_forward_rows<float>(cudaStream_t, const ForwardArguments<float>&, int32_t);
template cudaError_t launch_forward_rows<__nv_bfloat16>(cudaStream_t, const ForwardArguments<__nv_bfloat16>&, int32_t);
template cudaError_t launch_forward_rows<__half>(cudaStream_t, const ForwardArguments<__half>&, int32_t);
template cudaError_t launch_delta<float>(cudaStream_t, const BackwardArguments<float>&);
template cudaError_t launch_delta<__nv_bfloat16>(cudaStream_t, const BackwardArguments<__nv_bfloat16>&);
template cudaError_t launch_delta<__half>(cudaStream_t, const BackwardArguments<__half>&);

}  // namespace oribi::attention
