/*
 * The backward pass of rms_norm.cu.
 *
 * Math        g = dy * w or dy * (1 + w), xhat = x * rstd:  dx = rstd * (g - xhat * mean(g * xhat));  dw = sum over rows of dy * xhat
 * Shapes      x, dx, dy (N,C)  w, dw (C)  rstd (N)
 * Layout      as forward; a row of up to 2048 packs of 16 bytes is read once and stays in registers (of 1024 where dw is
 *             wanted and storage has 16 bits), of a longer or odd one each array is read twice
 * Precision   storage fp32, bf16 or fp16; sums fp32; dx is rounded once
 * Saved       rstd, fp32
 * Writes      dx = or +=, dw +=; dx may be dy when it is not added to
 * Determinism bit-exact on one GPU: no atomics; dw is summed over fixed chunks of rows, then over the chunks
 * Limits      N up to 2^31 - 1; more returns UNSUPPORTED
 */
#include "common/rms_norm.h"
#include "cuda/norm.cuh"

namespace oribi {
namespace {

constexpr int kResidentThreads = 1024; /* of dx_dw_kernel with a pack each on a multiprocessor: 64 registers for each */

template <class T>
struct Backward {
  T* dx;
  float* dw; /* NULL: not wanted */
  const float* rstd;
  const T *dy, *x, *w;
  float* partials;
  int64_t n, c;
  bool accumulate;
  float offset; /* of w */
};

/* dx alone, a row in registers as in forward_kernel. */
template <class T, int kThreads>
__global__ void __launch_bounds__(kThreads < kLeastThreads ? kLeastThreads : kThreads) dx_kernel(const Backward<T> b) {
  constexpr int kWidth = kWide<T>;
  __shared__ float warps[kThreads / 32];
  const int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  const int packs = static_cast<int>(b.c / kWidth);
  if (kThreads == 32 && row >= b.n) return;
  Pack<T, kWidth> x[kPacks], dy[kPacks], w[kPacks], before[kPacks]{};
#pragma unroll
  for (int j = 0; j < kPacks; j++) {
    const int i = static_cast<int>(threadIdx.x) + j * kThreads;
    if (i >= packs) break;
    x[j] = pack_of<kWidth>(b.x, row, b.c, i);
    dy[j] = pack_of<kWidth>(b.dy, row, b.c, i);
    w[j] = pack_of<kWidth>(b.w, 0, b.c, i);
    if (b.accumulate) before[j] = pack_of<kWidth>(b.dx, row, b.c, i);
  }
  const float scale = b.rstd[row];
  float dot = 0;
#pragma unroll
  for (int j = 0; j < kPacks; j++) {
    if (static_cast<int>(threadIdx.x) + j * kThreads < packs) dot += dots(dy[j], w[j], x[j], b.offset);
  }
  const float mean = row_sum<kThreads>(dot, warps) * scale / static_cast<float>(b.c);
#pragma unroll
  for (int j = 0; j < kPacks; j++) {
    const int i = static_cast<int>(threadIdx.x) + j * kThreads;
    if (i >= packs) break;
    stay_packed(x[j]);
    stay_packed(dy[j]);
    stay_packed(w[j]);
    pack_of<kWidth>(b.dx, row, b.c, i) = gradient(dy[j], w[j], x[j], before[j], scale, mean, b.accumulate, b.offset);
  }
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kLoopThreads) dx_loop_kernel(const Backward<T> b) {
  __shared__ float warps[kLoopThreads / 32];
  const int64_t row = blockIdx.x, packs = b.c / kWidth;
  float dot = 0;
  for (int64_t i = threadIdx.x; i < packs; i += kLoopThreads) {
    dot += dots(pack_of<kWidth>(b.dy, row, b.c, i), pack_of<kWidth>(b.w, 0, b.c, i), pack_of<kWidth>(b.x, row, b.c, i),
                b.offset);
  }
  const float scale = b.rstd[row], mean = row_sum<kLoopThreads>(dot, warps) * scale / static_cast<float>(b.c);
  for (int64_t i = threadIdx.x; i < packs; i += kLoopThreads) {
    Pack<T, kWidth> before{};
    if (b.accumulate) before = pack_of<kWidth>(b.dx, row, b.c, i);
    pack_of<kWidth>(b.dx, row, b.c, i) =
        gradient(pack_of<kWidth>(b.dy, row, b.c, i), pack_of<kWidth>(b.w, 0, b.c, i), pack_of<kWidth>(b.x, row, b.c, i),
                 before, scale, mean, b.accumulate, b.offset);
  }
}

/* dx and the partial sums of dw in one pass: a block takes a chunk of rows, keeps w and its columns of dw in registers and
   loads the next row while this one waits for its sum. */
template <class T, int kThreads, int kRowPacks>
__global__ void __launch_bounds__(kThreads, kRowPacks == 1 ? kResidentThreads / kThreads : 1)
    dx_dw_kernel(const Backward<T> b, int64_t chunk) {
  constexpr int kWidth = kWide<T>;
  __shared__ float warps[2][kThreads / 32];
  const int64_t begin = blockIdx.x * chunk, end = begin + chunk < b.n ? begin + chunk : b.n;
  const int packs = static_cast<int>(b.c / kWidth);
  Pack<T, kWidth> w[kRowPacks], next_x[kRowPacks], next_dy[kRowPacks];
  Pack<float, kWidth> dw[kRowPacks]{};
  const auto load = [&](int64_t row) {
#pragma unroll
    for (int j = 0; j < kRowPacks; j++) {
      const int i = static_cast<int>(threadIdx.x) + j * kThreads;
      if (i >= packs) break;
      next_x[j] = pack_of<kWidth>(b.x, row, b.c, i);
      next_dy[j] = pack_of<kWidth>(b.dy, row, b.c, i);
    }
  };
  load(begin);
#pragma unroll
  for (int j = 0; j < kRowPacks; j++) {
    if (static_cast<int>(threadIdx.x) + j * kThreads < packs) w[j] = pack_of<kWidth>(b.w, 0, b.c, threadIdx.x + j * kThreads);
  }
  for (int64_t row = begin; row < end; row++) {
    Pack<T, kWidth> x[kRowPacks], dy[kRowPacks];
    float dot = 0;
#pragma unroll
    for (int j = 0; j < kRowPacks; j++) {
      x[j] = next_x[j];
      dy[j] = next_dy[j];
    }
    const float scale = b.rstd[row];
    if (row + 1 < end) load(row + 1);
#pragma unroll
    for (int j = 0; j < kRowPacks; j++) {
      if (static_cast<int>(threadIdx.x) + j * kThreads < packs) dot += dots(dy[j], w[j], x[j], b.offset);
    }
    const float mean = row_sum<kThreads>(dot, warps[(row - begin) % 2]) * scale / static_cast<float>(b.c);
#pragma unroll
    for (int j = 0; j < kRowPacks; j++) {
      const int i = static_cast<int>(threadIdx.x) + j * kThreads;
      if (i >= packs) break;
      stay_packed(x[j]);
      stay_packed(dy[j]);
      stay_packed(w[j]);
      Pack<T, kWidth> before{};
      if (b.accumulate) before = pack_of<kWidth>(b.dx, row, b.c, i);
      pack_of<kWidth>(b.dx, row, b.c, i) = gradient(dy[j], w[j], x[j], before, scale, mean, b.accumulate, b.offset);
      add_products(dw[j], dy[j], x[j], scale);
    }
  }
#pragma unroll
  for (int j = 0; j < kRowPacks; j++) {
    const int i = static_cast<int>(threadIdx.x) + j * kThreads;
    if (i < packs) pack_of<kWidth>(b.partials, blockIdx.x, b.c, i) = dw[j];
  }
}

/* The partial sums of dw for rows of any length, a thread a column: neighbours read neighbours. */
template <class T>
__global__ void __launch_bounds__(kLoopThreads) partial_kernel(const Backward<T> b, int64_t chunk) {
  const int64_t column = static_cast<int64_t>(blockIdx.y) * kLoopThreads + threadIdx.x;
  if (column >= b.c) return;
  const int64_t begin = blockIdx.x * chunk, end = begin + chunk < b.n ? begin + chunk : b.n;
  float sum = 0;
  for (int64_t row = begin; row < end; row++) {
    sum += to_float(b.dy[row * b.c + column]) * (to_float(b.x[row * b.c + column]) * b.rstd[row]);
  }
  b.partials[blockIdx.x * b.c + column] = sum;
}

/* The same for dx_dw_kernel, whose few blocks must be large enough to keep the memory busy: f(threads, packs of each). One
   pack a thread: C = 4096 in bf16 with 8192 rows took 93 us on an H100, with four packs for each of 128 threads 124. With
   512 threads of four packs of 16-bit storage it spills, since dw takes twice the registers of x. */
template <class T, class F>
bool with_block_shape(int64_t packs, F&& f) {
  if (packs <= 128) return f(Int<128>{}, Int<1>{}), true;
  if (packs <= 256) return f(Int<256>{}, Int<1>{}), true;
  if (packs <= 512) return f(Int<512>{}, Int<1>{}), true;
  if (packs <= 1024) return f(Int<512>{}, Int<2>{}), true;
  if constexpr (sizeof(T) == 4) {
    if (packs <= 2048) return f(Int<512>{}, Int<4>{}), true;
  }
  return false;
}

template <class T>
void launch_dx(cudaStream_t stream, const Backward<T>& b, bool wide) {
  const unsigned rows = static_cast<unsigned>(b.n);
  if (!wide) {
    dx_loop_kernel<T, 1><<<rows, kLoopThreads, 0, stream>>>(b);
    return;
  }
  const bool held = with_row_threads(b.c / kWide<T>, [&](auto threads) {
    constexpr int kThreads = decltype(threads)::value;
    launch_rows<kThreads>(b.n, [&](unsigned grid, dim3 block) { dx_kernel<T, kThreads><<<grid, block, 0, stream>>>(b); });
  });
  if (!held) dx_loop_kernel<T, kWide<T>><<<rows, kLoopThreads, 0, stream>>>(b);
}

template <class T>
void launch_backward(cudaStream_t stream, const Backward<T>& b) {
  const bool wide = b.c % kWide<T> == 0 && aligned({b.dx, b.dy, b.x, b.w}) && aligned({b.partials}, 2 * kAccess);
  if (b.dw == nullptr) return launch_dx(stream, b, wide);
  const int64_t chunk = rows_per_block(b.n, b.c), blocks = blocks_of(b.n, b.c);
  const bool fused = wide && with_block_shape<T>(b.c / kWide<T>, [&](auto threads, auto packs) {
    constexpr int kThreads = decltype(threads)::value;
    dx_dw_kernel<T, kThreads, decltype(packs)::value><<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(b, chunk);
  });
  if (!fused) { /* dw first: dx may be written over dy */
    const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(divide_up(b.c, kLoopThreads)));
    partial_kernel<<<grid, kLoopThreads, 0, stream>>>(b, chunk);
    launch_dx(stream, b, wide);
  }
  add_partials(stream, b.dw, b.partials, blocks, b.c);
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_rms_norm_backward(oribi_ctx* ctx, void* dx, float* dw, const float* rstd, const void* dy,
                                                const void* x, const void* w, void* workspace, int64_t n, int64_t c,
                                                int32_t accumulate, oribi_norm_weight weight, oribi_dtype t) {
  const char* const function = "oribi_rms_norm_backward";
  Check check(ctx, function);
  check.size("n", n).size("c", c, 1).elements("x", n, c).dtype("t", t).pointer("dx", dx, n * c);
  check.pointer("rstd", rstd, n).pointer("dy", dy, n * c).pointer("x", x, n * c).pointer("w", w, n > 0 ? c : 0);
  check.pointer("workspace", workspace, dw != nullptr && n > 0 ? 1 : 0);
  check.that(accumulate == 0 || n == 0 || dx != dy, "dx may be dy only when accumulate is 0");
  if (!check_weight(check, weight).ok() || n == 0) return check.status();
  if (!fits_grid(n)) return too_large(ctx, function, n);
  const oribi_status status = select_device(ctx, function);
  if (status != ORIBI_OK) return status;
  dispatch_pack(t, 1, [&](auto type, auto) {
    using T = decltype(type);
    launch_backward<T>(stream_of(ctx), {static_cast<T*>(dx), dw, rstd, static_cast<const T*>(dy), static_cast<const T*>(x),
                                        static_cast<const T*>(w), static_cast<float*>(workspace), n, c, accumulate != 0,
                                        offset_of(weight)});
  });
  return launch_status(ctx, function);
}

extern "C" int64_t oribi_rms_norm_backward_workspace(int64_t n, int64_t c) { return rms_norm_backward_workspace(n, c); }
