/* Attention without tensor cores, a row at a time: what attention_rows.cu and attention_rows_backward.cu share and offer. */
#ifndef ORIBI_CUDA_ATTENTION_ROWS_CUH
#define ORIBI_CUDA_ATTENTION_ROWS_CUH

#include "cuda/attention_layout.cuh"

namespace oribi::attention {

/* A block of four warps, each with a row of its own or a share of one. */
constexpr int kRowWarps = 4, kRowThreads = 32 * kRowWarps;

inline unsigned blocks_of_threads(int64_t threads) { return static_cast<unsigned>((threads + kRowThreads - 1) / kRowThreads); }

__device__ inline float warp_sum(float x) {
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  return x;
}

/* Elements first .. first + kEach of a head, zeros beyond d. */
template <class T, int kEach>
__device__ inline void load_part(float (&to)[kEach], const T* head, int first, const Layout& at) {
  if (at.wide) {
    constexpr int kPack = kEach * sizeof(T) <= 16 ? kEach : 16 / sizeof(T);
#pragma unroll
    for (int i = 0; i < kEach; i += kPack) {
      Pack<T, kPack> pack{};
      if (first + i < at.d) pack = *reinterpret_cast<const Pack<T, kPack>*>(head + first + i);
#pragma unroll
      for (int e = 0; e < kPack; e++) to[i + e] = to_float(pack.element[e]);
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kEach; i++) to[i] = first + i < at.d ? to_float(head[first + i]) : 0.0f;
}

/* Those of this lane, where a head lies over the lanes of a warp. */
template <class T, int kEach>
__device__ inline void load_lane(float (&to)[kEach], const T* head, const Layout& at) {
  load_part<T, kEach>(to, head, threadIdx.x % 32 * kEach, at);
}

template <class T, int kEach>
__device__ inline void store_lane(T* head, const float (&from)[kEach], float factor, const Layout& at) {
  const int first = threadIdx.x % 32 * kEach;
#pragma unroll
  for (int i = 0; i < kEach; i++) {
    if (first + i < at.d) head[first + i] = from_float<T>(from[i] * factor);
  }
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

/* Calls f with the elements of a head that a lane holds. */
template <class F>
void dispatch_each(int32_t d, F&& f) {
  if (d <= 64) return f(Width<2>{});
  if (d <= 128) return f(Width<4>{});
  return f(Width<8>{});
}

/* Parts that the keys of a row are divided into; their results wait in split_floats of the workspace. */
int32_t splits_of(const Layout& at, int32_t processors);
/* An upper bound for every n, so that a workspace serves all smaller shapes. */
int64_t split_floats(const Shape& shape, int32_t processors);

template <class T>
cudaError_t launch_forward_rows(cudaStream_t stream, const ForwardArguments<T>& x, int32_t splits);

cudaError_t launch_backward_rows(cudaStream_t stream, const BackwardArguments<float>& x);

/* delta and lse2 of every row and head. */
template <class T>
cudaError_t launch_delta(cudaStream_t stream, const BackwardArguments<T>& x);

}  // namespace oribi::attention
#endif
