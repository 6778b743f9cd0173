/*
 * Math        for each head: rstd = 1 / sqrt(mean(x^2) + eps);  y = round(x * rstd) * w, or x * rstd * (1 + w)
 *             g = dy * w or dy * (1 + w), xhat = x * rstd:  dx = rstd * (g - xhat * mean(g * xhat));  dw = sum over heads of dy * xhat
 * Shapes      x, y, dx, dy (N,H,D)  w, dw (D)  rstd (N,H)
 * Layout      rows of x and y may be strided, heads within a row lie side by side; D and the strides multiples of 16
 *             bytes' worth of elements are read 16 bytes at a time
 * Precision   storage fp32, bf16 or fp16; sums fp32 over a head; the product x * rstd is rounded to the storage type
 *             before it meets w, as in Hugging Face's Qwen3; with 1 + w all is fp32 and rounded once, as in Gemma 3
 * Saved       rstd, fp32
 * Writes      y =, rstd =, dx =, dw +=; y may be x, dx may be dy
 * Determinism bit-exact on one GPU: no atomics; dw is summed over fixed chunks of heads, then over the chunks
 * Limits      N*H up to 2^31 - 1; more returns UNSUPPORTED. A head of up to 32 packs of 16 bytes stays in the
 *             registers of up to 32 lanes; of a larger or odd one each array is read twice
 */
#include <type_traits>

#include "common/rms_norm.h"
#include "cuda/norm.cuh"

namespace oribi {
namespace {

constexpr int kThreads = 256;
/* Heads that a group of lanes has in flight, one pack of each; the backward pass loads two arrays. */
constexpr int kForwardHeads = 1, kBackwardHeads = 2;
/* Blocks of the backward pass on a multiprocessor: with dw there are no more blocks than run at once. */
constexpr int kResidentBlocks = 4;

template <class T>
struct HeadNorm {
  T* out;      /* y or dx */
  float* rstd; /* written by the forward pass, read by the backward pass */
  const T *x, *dy, *w;
  float* partials; /* of dw, one for each block; NULL: not wanted */
  uint32_t heads, chunk; /* of all rows, below 2^31; of a block */
  oribi_head_norm_shape s;
  Divider per_row; /* by s.h */
  float offset; /* of w */
  int64_t ld_out; /* of y or dx */
};

/* Where head number i of all N*H begins. */
template <class T>
__device__ int64_t head_at(const HeadNorm<T>& h, uint32_t i, int64_t ld) {
  const uint32_t row = h.per_row.quotient(i);
  return row * ld + static_cast<int64_t>(i - row * h.per_row.divisor) * h.s.d;
}

/* The first head of this block's chunk, and the one after its last. */
template <class T>
__device__ uint32_t chunk_begin(const HeadNorm<T>& h) {
  return blockIdx.x * h.chunk;
}
template <class T>
__device__ uint32_t chunk_end(const HeadNorm<T>& h) {
  const uint32_t end = chunk_begin(h) + h.chunk;
  return end < h.heads ? end : h.heads;
}

/* kLanes lanes a head, a pack each. All lanes of a warp stay together for the sums, also those without a head. */
template <class T, int kLanes>
__global__ void __launch_bounds__(kThreads) forward_kernel(const HeadNorm<T> h) {
  constexpr int kWidth = kWide<T>, kGroups = kThreads / kLanes;
  using P = Pack<T, kWidth>;
  const uint32_t lane = threadIdx.x % kLanes, group = threadIdx.x / kLanes, at = lane * kWidth;
  const uint32_t first = chunk_begin(h) + group, end = chunk_end(h);
  const bool used = at < h.s.d;
  P w{}, x[kForwardHeads]{};
#pragma unroll
  for (int m = 0; m < kForwardHeads; m++) {
    const uint32_t i = first + m * kGroups;
    if (used && i < end) x[m] = *reinterpret_cast<const P*>(h.x + head_at(h, i, h.s.ld_x) + at);
  }
  if (used) w = *reinterpret_cast<const P*>(h.w + at);
#pragma unroll
  for (int m = 0; m < kForwardHeads; m++) {
    const uint32_t i = first + m * kGroups;
    const float scale = 1.0f / sqrtf(lane_sum<kLanes>(squares(x[m])) / static_cast<float>(h.s.d) + h.s.eps);
    if (!used || i >= end) continue;
    if (lane == 0) h.rstd[i] = scale;
    *reinterpret_cast<P*>(h.out + head_at(h, i, h.ld_out) + at) = normalized(x[m], w, scale, h.offset);
  }
}

/* dx, and with kWeight the partial sum of dw over the block's chunk: each group keeps its own, then they are added in the
   order of the groups. */
template <class T, int kLanes, bool kWeight>
__global__ void __launch_bounds__(kThreads, kResidentBlocks) backward_kernel(const HeadNorm<T> h) {
  constexpr int kWidth = kWide<T>, kGroups = kThreads / kLanes;
  using P = Pack<T, kWidth>;
  const uint32_t lane = threadIdx.x % kLanes, group = threadIdx.x / kLanes, at = lane * kWidth;
  const uint32_t begin = chunk_begin(h), end = chunk_end(h);
  const bool used = at < h.s.d;
  P w{};
  if (used) w = *reinterpret_cast<const P*>(h.w + at);
  Pack<float, kWidth> dw{};
  for (uint32_t first = begin; first < end; first += kGroups * kBackwardHeads) {
    P x[kBackwardHeads]{}, dy[kBackwardHeads]{};
    float scale[kBackwardHeads]{};
#pragma unroll
    for (int m = 0; m < kBackwardHeads; m++) {
      const uint32_t i = first + group + m * kGroups;
      if (!used || i >= end) continue;
      x[m] = *reinterpret_cast<const P*>(h.x + head_at(h, i, h.s.ld_x) + at);
      dy[m] = *reinterpret_cast<const P*>(h.dy + head_at(h, i, h.s.ld_y) + at);
      scale[m] = h.rstd[i];
    }
#pragma unroll
    for (int m = 0; m < kBackwardHeads; m++) {
      const uint32_t i = first + group + m * kGroups;
      const float mean = lane_sum<kLanes>(dots(dy[m], w, x[m], h.offset)) * scale[m] / static_cast<float>(h.s.d);
      if (!used || i >= end) continue;
      *reinterpret_cast<P*>(h.out + head_at(h, i, h.ld_out) + at) =
          gradient(dy[m], w, x[m], P{}, scale[m], mean, false, h.offset);
      if (kWeight) add_products(dw, dy[m], x[m], scale[m]);
    }
  }
  if constexpr (kWeight) {
    __shared__ float sums[kGroups][kLanes * kWidth];
#pragma unroll
    for (int k = 0; k < kWidth; k++) sums[group][at + k] = dw.element[k];
    __syncthreads();
    for (int column = threadIdx.x; column < h.s.d; column += kThreads) {
      float sum = 0;
      for (int g = 0; g < kGroups; g++) sum += sums[g][column];
      h.partials[blockIdx.x * h.s.d + column] = sum;
    }
  }
}

/* Heads of any size, a warp each. */
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads) forward_loop_kernel(const HeadNorm<T> h) {
  const int lane = threadIdx.x % 32;
  const uint32_t i = chunk_begin(h) + threadIdx.x / 32;
  const int64_t packs = h.s.d / kWidth;
  if (i >= chunk_end(h)) return;
  const T* x = h.x + head_at(h, i, h.s.ld_x);
  float sum = 0;
  for (int64_t j = lane; j < packs; j += 32) sum += squares(pack_of<kWidth>(x, 0, 0, j));
  const float scale = 1.0f / sqrtf(lane_sum<32>(sum) / static_cast<float>(h.s.d) + h.s.eps);
  if (lane == 0) h.rstd[i] = scale;
  for (int64_t j = lane; j < packs; j += 32) {
    pack_of<kWidth>(h.out + head_at(h, i, h.ld_out), 0, 0, j) =
        normalized(pack_of<kWidth>(x, 0, 0, j), pack_of<kWidth>(h.w, 0, 0, j), scale, h.offset);
  }
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads) dx_loop_kernel(const HeadNorm<T> h) {
  const int lane = threadIdx.x % 32;
  const uint32_t i = chunk_begin(h) + threadIdx.x / 32;
  const int64_t packs = h.s.d / kWidth;
  if (i >= chunk_end(h)) return;
  const T *x = h.x + head_at(h, i, h.s.ld_x), *dy = h.dy + head_at(h, i, h.s.ld_y);
  float dot = 0;
  for (int64_t j = lane; j < packs; j += 32) {
    dot += dots(pack_of<kWidth>(dy, 0, 0, j), pack_of<kWidth>(h.w, 0, 0, j), pack_of<kWidth>(x, 0, 0, j), h.offset);
  }
  const float scale = h.rstd[i], mean = lane_sum<32>(dot) * scale / static_cast<float>(h.s.d);
  for (int64_t j = lane; j < packs; j += 32) {
    pack_of<kWidth>(h.out + head_at(h, i, h.ld_out), 0, 0, j) =
        gradient(pack_of<kWidth>(dy, 0, 0, j), pack_of<kWidth>(h.w, 0, 0, j), pack_of<kWidth>(x, 0, 0, j),
                 Pack<T, kWidth>{}, scale, mean, false, h.offset);
  }
}

/* The partial sums of dw for heads of any size, a thread a column. */
template <class T>
__global__ void __launch_bounds__(kThreads) partial_kernel(const HeadNorm<T> h) {
  const int64_t column = static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x;
  const uint32_t end = chunk_end(h);
  if (column >= h.s.d) return;
  float sum = 0;
  for (uint32_t i = chunk_begin(h); i < end; i++) {
    const float x = to_float(h.x[head_at(h, i, h.s.ld_x) + column]);
    sum += to_float(h.dy[head_at(h, i, h.s.ld_y) + column]) * (x * h.rstd[i]);
  }
  h.partials[blockIdx.x * h.s.d + column] = sum;
}

/* f(lanes of a head), or false where a head of so many packs is more than a warp's. */
template <class F>
bool with_lanes(int64_t packs, F&& f) {
  if (packs <= 8) return f(std::integral_constant<int, 8>{}), true;
  if (packs <= 16) return f(std::integral_constant<int, 16>{}), true;
  if (packs <= 32) return f(std::integral_constant<int, 32>{}), true;
  return false;
}

/* Launches with the grid that gives each block `chunk` heads. */
template <class T, class F>
void with_chunk(HeadNorm<T> h, int64_t chunk, F&& kernel) {
  h.chunk = static_cast<uint32_t>(chunk);
  kernel(static_cast<unsigned>(divide_up(h.heads, chunk)), h);
}

template <class T>
void launch_forward(cudaStream_t stream, const HeadNorm<T>& h, bool wide) {
  const bool held = wide && with_lanes(h.s.d / kWide<T>, [&](auto lanes) {
    constexpr int kLanes = decltype(lanes)::value;
    with_chunk(h, kThreads / kLanes * kForwardHeads, [&](unsigned grid, const HeadNorm<T>& part) {
      forward_kernel<T, kLanes><<<grid, kThreads, 0, stream>>>(part);
    });
  });
  if (held) return;
  with_chunk(h, kThreads / 32, [&](unsigned grid, const HeadNorm<T>& part) {
    if (wide) return forward_loop_kernel<T, kWide<T>><<<grid, kThreads, 0, stream>>>(part);
    forward_loop_kernel<T, 1><<<grid, kThreads, 0, stream>>>(part);
  });
}

template <class T>
void launch_backward(cudaStream_t stream, float* dw, const HeadNorm<T>& h, bool wide) {
  const int64_t blocks = blocks_of(h.heads, h.s.d), chunk = rows_per_block(h.heads, h.s.d);
  const bool held = wide && with_lanes(h.s.d / kWide<T>, [&](auto lanes) {
    constexpr int kLanes = decltype(lanes)::value;
    with_chunk(h, dw != nullptr ? chunk : kThreads / kLanes * kBackwardHeads, [&](unsigned grid, const HeadNorm<T>& part) {
      if (dw != nullptr) return backward_kernel<T, kLanes, true><<<grid, kThreads, 0, stream>>>(part);
      backward_kernel<T, kLanes, false><<<grid, kThreads, 0, stream>>>(part);
    });
  });
  if (!held && dw != nullptr) { /* first: dx may be written over dy */
    with_chunk(h, chunk, [&](unsigned grid, const HeadNorm<T>& part) {
      const dim3 columns(grid, static_cast<unsigned>(divide_up(h.s.d, kThreads)));
      partial_kernel<<<columns, kThreads, 0, stream>>>(part);
    });
  }
  if (!held) {
    with_chunk(h, kThreads / 32, [&](unsigned grid, const HeadNorm<T>& part) {
      if (wide) return dx_loop_kernel<T, kWide<T>><<<grid, kThreads, 0, stream>>>(part);
      dx_loop_kernel<T, 1><<<grid, kThreads, 0, stream>>>(part);
    });
  }
  if (dw != nullptr) add_partials(stream, dw, h.partials, blocks, h.s.d);
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_head_norm_forward(oribi_ctx* ctx, void* y, float* rstd, const void* x, const void* w,
                                                const oribi_head_norm_shape* shape) {
  const char* const function = "oribi_head_norm_forward";
  Check check(ctx, function);
  if (!check.pointer("shape", shape).ok()) return check.status();
  const oribi_head_norm_shape s = *shape;
  if (!check_head_norm(check, s).ok()) return check.status();
  const int64_t count = s.n * s.h * s.d;
  check.pointer("y", y, count).pointer("rstd", rstd, count).pointer("x", x, count).pointer("w", w, count > 0 ? s.d : 0);
  if (!check.ok() || count == 0) return check.status();
  if (!fits_grid(s.n * s.h)) return too_large(ctx, function, s.n * s.h);
  const oribi_status status = select_device(ctx, function);
  if (status != ORIBI_OK) return status;
  const bool pointers = aligned({y, x, w});
  dispatch_pack(s.t, 1, [&](auto type, auto) {
    using T = decltype(type);
    const HeadNorm<T> h{static_cast<T*>(y), rstd, static_cast<const T*>(x), nullptr, static_cast<const T*>(w), nullptr,
                        static_cast<uint32_t>(s.n * s.h), 0, s, Divider(s.h), offset_of(s.weight), s.ld_y};
    launch_forward(stream_of(ctx), h, pointers && (s.d | s.ld_x | s.ld_y) % kWide<T> == 0);
  });
  return launch_status(ctx, function);
}

extern "C" oribi_status oribi_head_norm_backward(oribi_ctx* ctx, void* dx, float* dw, const float* rstd, const void* dy,
                                                 const void* x, const void* w, void* workspace,
                                                 const oribi_head_norm_shape* shape) {
  const char* const function = "oribi_head_norm_backward";
  Check check(ctx, function);
  if (!check.pointer("shape", shape).ok()) return check.status();
  const oribi_head_norm_shape s = *shape;
  if (!check_head_norm(check, s).ok()) return check.status();
  const int64_t count = s.n * s.h * s.d;
  check.pointer("dx", dx, count).pointer("rstd", rstd, count).pointer("dy", dy, count).pointer("x", x, count);
  check.pointer("w", w, count > 0 ? s.d : 0).pointer("workspace", workspace, dw != nullptr && count > 0 ? 1 : 0);
  if (!check.ok() || count == 0) return check.status();
  if (!fits_grid(s.n * s.h)) return too_large(ctx, function, s.n * s.h);
  const oribi_status status = select_device(ctx, function);
  if (status != ORIBI_OK) return status;
  const bool pointers = aligned({dx, dy, x, w});
  dispatch_pack(s.t, 1, [&](auto type, auto) {
    using T = decltype(type);
    const HeadNorm<T> h{static_cast<T*>(dx), const_cast<float*>(rstd), static_cast<const T*>(x), static_cast<const T*>(dy),
                        static_cast<const T*>(w), static_cast<float*>(workspace), static_cast<uint32_t>(s.n * s.h), 0, s,
                        Divider(s.h), offset_of(s.weight), stride_of_dx(s)};
    launch_backward(stream_of(ctx), dw, h, pointers && (s.d | s.ld_x | s.ld_y | s.ld_dx) % kWide<T> == 0);
  });
  return launch_status(ctx, function);
}

extern "C" int64_t oribi_head_norm_backward_workspace(int64_t n, int64_t h, int64_t d) {
  return head_norm_backward_workspace(n, h, d);
}
