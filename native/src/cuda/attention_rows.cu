/*
 * Math        as attention_forward.cuh
 * Shapes      a block owns one query row and up to 4 heads of a group, and a part of the row's keys
 * Layout      row strides; a lane holds kHead / 32 neighbouring elements of a head
 * Precision   fp32 arithmetic on any storage
 * Saved       lse, fp32, unless NULL
 * Writes      o =, lse =; the workspace where the keys of a row are divided
 * Determinism bit-exact: keys are divided by their numbers alone, and partial results are joined in order
 * Limits      none of its own; every key is read once for each row, so that it suits few rows
 *
 * Two uses: decoding with a cache, where a sequence has few queries and the cache must be read at the memory's rate, so
 * that even one row is spread over the card; and fp32 storage, which tensor cores do not multiply.
 */
#include "cuda/attention_rows.cuh"

namespace oribi::attention {
namespace {

/* Blocks of one row of all key heads: four on each multiprocessor keep enough loads under way. */
constexpr int kBlocksEach = 4;
constexpr int kMaxSplits = 64;

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

/* A lane's part of a row of keys or values as it lies in memory: all of a step are asked for before the first is used. */
template <class T, int kEach, bool kWide>
struct LanePart {
  static constexpr int kPack = !kWide ? 1 : kEach * sizeof(T) <= 16 ? kEach : 16 / sizeof(T);
  Pack<T, kPack> pack[kEach / kPack];

  /* Beyond d the head's first elements, for which q is 0 and of which o is not stored. */
  __device__ void load(const T* head, const Layout& at) {
    const int first = threadIdx.x % 32 * kEach;
#pragma unroll
    for (int i = 0; i < kEach; i += kPack) {
      pack[i / kPack] = *reinterpret_cast<const Pack<T, kPack>*>(head + (first + i < at.d ? first + i : 0));
    }
  }
  __device__ float get(int i) const { return to_float(pack[i / kPack].element[i % kPack]); }
};

/* A running softmax of kHeads heads: o lies over the lanes; max and sum are those of head lane % kHeads. */
template <int kHeads, int kEach>
struct Running {
  float o[kHeads][kEach], max, sum;
};

/* 32 / kHeads keys from `key` on: their scores lie one in a lane, keys at lane / kHeads. Keys from `end` on are read as the
   last one and have no weight. */
template <class T, int kHeads, int kEach, bool kWide>
__device__ inline void add_keys(Running<kHeads, kEach>& state, const float (&q)[kHeads][kEach], const T* k, const T* v,
                                int32_t key, int32_t end, const Layout& at) {
  /* Eight rows under way of either; four where they would not fit into registers. */
  constexpr int kKeys = 32 / kHeads, kMost = kEach * sizeof(T) <= (kWide ? 16 : 8) ? 8 : 4, kBatch = kKeys < kMost ? kKeys : kMost;
  using Rows = LanePart<T, kEach, kWide>[kBatch];
  const auto load = [&](Rows& rows, const T* from, int64_t ld, int32_t first) {
#pragma unroll
    for (int j = 0; j < kBatch; j++) rows[j].load(from + min(first + j, end - 1) * ld, at);
  };
  const int lane = threadIdx.x % 32;
  float dots[32];
  Rows keys, values;
  load(values, v, at.ld_v, key);
#pragma unroll
  for (int first = 0; first < kKeys; first += kBatch) {
    load(keys, k, at.ld_k, key + first);
#pragma unroll
    for (int j = 0; j < kBatch; j++)
#pragma unroll
      for (int h = 0; h < kHeads; h++) {
        float dot = 0;
#pragma unroll
        for (int i = 0; i < kEach; i++) dot += q[h][i] * keys[j].get(i);
        dots[(first + j) * kHeads + h] = dot;
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
  for (int first = 0; first < kKeys; first += kBatch) {
    if (first > 0) load(values, v, at.ld_v, key + first);
#pragma unroll
    for (int j = 0; j < kBatch; j++)
#pragma unroll
      for (int h = 0; h < kHeads; h++) {
        const float weight = __shfl_sync(kAllLanes, p, (first + j) * kHeads + h);
#pragma unroll
        for (int i = 0; i < kEach; i++) state.o[h][i] += weight * values[j].get(i);
      }
  }
}

/* What the warps of a block found, joined in order by warp h for head h. */
template <int kHeads, int kEach>
struct Meeting {
  float o[kRowWarps][kHeads][32 * kEach], max[kRowWarps][kHeads], sum[kRowWarps][kHeads];
};

template <class T, int kHeads, int kEach, bool kWide>
__global__ void __launch_bounds__(kRowThreads) forward_rows_kernel(const ForwardArguments<T> x, int32_t splits) {
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
  for (int32_t key = begin + warp * kStep; key < end; key += kRowWarps * kStep) {
    add_keys<T, kHeads, kEach, kWide>(state, q, k, v, key, end, at);
  }
#pragma unroll
  for (int h = 0; h < kHeads; h++)
#pragma unroll
    for (int i = 0; i < kEach; i++) meeting.o[warp][h][lane * kEach + i] = state.o[h][i];
  if (lane < kHeads) meeting.max[warp][lane] = state.max, meeting.sum[warp][lane] = state.sum;
  __syncthreads();
  for (int h = warp; h < heads; h += kRowWarps) {
    float max = -INFINITY, sum = 0, o[kEach] = {};
    for (int w = 0; w < kRowWarps; w++) max = fmaxf(max, meeting.max[w][h]);
    for (int w = 0; w < kRowWarps; w++) {
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
__global__ void __launch_bounds__(kRowThreads) join_splits_kernel(const ForwardArguments<T> x, int32_t splits) {
  const Layout& at = x.at;
  const int64_t at_row = static_cast<int64_t>(blockIdx.x) * kRowWarps + threadIdx.x / 32;
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
  const auto launch = [&](auto heads, auto each, auto wide) {
    constexpr int kHeads = decltype(heads)::value, kEach = decltype(each)::value;
    constexpr bool kWide = decltype(wide)::value != 0;
    const unsigned chunks = static_cast<unsigned>((x.at.group + kHeads - 1) / kHeads);
    const dim3 grid(static_cast<unsigned>(x.at.n), static_cast<unsigned>(x.at.h_kv) * chunks, static_cast<unsigned>(splits));
    forward_rows_kernel<T, kHeads, kEach, kWide><<<grid, kRowThreads, 0, stream>>>(x, splits);
    if (splits > 1) {
      join_splits_kernel<T, kEach><<<blocks_of_threads(static_cast<int64_t>(x.at.n) * x.at.h * 32), kRowThreads, 0, stream>>>(x, splits);
    }
  };
  dispatch_each(x.at.d, [&](auto each) {
    if (!x.at.wide) return launch(Width<4>{}, each, Width<0>{});
    return x.at.group == 1 ? launch(Width<1>{}, each, Width<1>{}) : launch(Width<4>{}, each, Width<1>{});
  });
  return cudaSuccess;
}

template cudaError_t launch_forward_rows<float>(cudaStream_t, const ForwardArguments<float>&, int32_t);
template cudaError_t launch_forward_rows<__nv_bfloat16>(cudaStream_t, const ForwardArguments<__nv_bfloat16>&, int32_t);
template cudaError_t launch_forward_rows<__half>(cudaStream_t, const ForwardArguments<__half>&, int32_t);

}  // namespace oribi::attention
