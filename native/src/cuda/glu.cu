/*
 * Math        f = round(act(gate)) * up;  dup = df * round(act(gate));  dgate = df * up * act'(gate)
 *             silu       s = sigmoid(x):            act = x s                act' = s (1 + x (1 - s))
 *             gelu_tanh  t = tanh(k (x + a x^3)):   act = x (1 + t) / 2      act' = (1 + t) / 2 + x (1 - t^2) k (1 + 3 a x^2) / 2
 *                        k = sqrt(2 / pi), a = 0.044715, computed by (1 + t) / 2 = sigmoid(2 k (x + a x^3))
 *             gelu_erf   e = erf(x / sqrt(2)):      act = x (1 + e) / 2      act' = (1 + e) / 2 + x exp(-x^2 / 2) / sqrt(2 pi)
 * Shapes      gu, dgu (N,2F): gate, then up, in each row;  f, df (N,F)
 * Layout      row-major, any F; F a multiple of 16 bytes' worth of elements is read 16 bytes at a time
 * Precision   storage fp32, bf16 or fp16; arithmetic fp32; act(gate) is rounded to the storage type, as in Hugging
 *             Face's Llama. For 16-bit storage the exponential and the quotient are the hardware's approximations: where
 *             they matter, within 2^-20 of the value, and within 2^-16 in the far tail; for fp32 storage the library's
 * Saved       gu; act(gate) is computed again, and f too where the caller asks for it
 * Writes      f =, dgu =; dgu may be gu, f may be df
 * Determinism bit-exact: every element is written once; f is the same from both passes
 * Limits      as many blocks as a grid holds; more returns UNSUPPORTED
 */
#include "cuda/activation.cuh"
#include "cuda/elementwise.cuh"

namespace oribi {
namespace {

/* A thread computes kPacks packs: with gate and up four loads are in flight, six in the backward pass. 128 threads, so that
   F = 14336 in bf16, 1792 packs, is seven whole blocks. */
constexpr int kThreads = 128, kPacks = 2;

/* Where a block's columns are: blocks go through a row first. */
struct Tile {
  int64_t row, first;
  __device__ explicit Tile(unsigned tiles_per_row)
      : row(blockIdx.x / tiles_per_row),
        first(static_cast<int64_t>(blockIdx.x % tiles_per_row) * (kThreads * kPacks) + threadIdx.x) {}
};

template <class Activation, class T, int kWidth>
__global__ void __launch_bounds__(kThreads) forward_kernel(T* f, const T* gu, int64_t packs, unsigned tiles_per_row) {
  using P = Pack<T, kWidth>;
  const Tile tile(tiles_per_row);
  const P* gates = reinterpret_cast<const P*>(gu) + tile.row * 2 * packs + tile.first;
  P* out = reinterpret_cast<P*>(f) + tile.row * packs + tile.first;
  P gate[kPacks], up[kPacks];
#pragma unroll
  for (int j = 0; j < kPacks; j++) {
    if (tile.first + j * kThreads >= packs) break;
    gate[j] = gates[j * kThreads];
    up[j] = gates[packs + j * kThreads];
  }
#pragma unroll
  for (int j = 0; j < kPacks; j++) {
    if (tile.first + j * kThreads >= packs) break;
#pragma unroll
    for (int k = 0; k < kWidth; k++) {
      const float act = round_to<T>(Activation::at(to_float(gate[j].element[k])).value);
      up[j].element[k] = from_float<T>(act * to_float(up[j].element[k]));
    }
    out[j * kThreads] = up[j];
  }
}

/* kAgain: f is wanted once more. A thread reads what it overwrites before it writes, as dgu may be gu and f may be df. */
template <class Activation, bool kAgain, class T, int kWidth>
__global__ void __launch_bounds__(kThreads) backward_kernel(T* dgu, T* f, const T* df, const T* gu, int64_t packs,
                                                            unsigned tiles_per_row) {
  using P = Pack<T, kWidth>;
  const Tile tile(tiles_per_row);
  const P* gates = reinterpret_cast<const P*>(gu) + tile.row * 2 * packs + tile.first;
  const P* in = reinterpret_cast<const P*>(df) + tile.row * packs + tile.first;
  P* out = reinterpret_cast<P*>(dgu) + tile.row * 2 * packs + tile.first;
  P gate[kPacks], up[kPacks], d[kPacks];
#pragma unroll
  for (int j = 0; j < kPacks; j++) {
    if (tile.first + j * kThreads >= packs) break;
    gate[j] = gates[j * kThreads];
    up[j] = gates[packs + j * kThreads];
    d[j] = in[j * kThreads];
  }
#pragma unroll
  for (int j = 0; j < kPacks; j++) {
    if (tile.first + j * kThreads >= packs) break;
#pragma unroll
    for (int k = 0; k < kWidth; k++) {
      const Activated a = Activation::at(to_float(gate[j].element[k]));
      const float df_k = to_float(d[j].element[k]), up_k = to_float(up[j].element[k]), act = round_to<T>(a.value);
      gate[j].element[k] = from_float<T>(df_k * up_k * a.derivative);
      up[j].element[k] = from_float<T>(df_k * act);
      if (kAgain) d[j].element[k] = from_float<T>(act * up_k);
    }
    out[j * kThreads] = gate[j];
    out[packs + j * kThreads] = up[j];
    if (kAgain) (reinterpret_cast<P*>(f) + tile.row * packs + tile.first)[j * kThreads] = d[j];
  }
}

Check& check_sizes(Check& check, int64_t n, int64_t f_size, oribi_activation act, oribi_dtype t) {
  check.size("n", n).size("f_size", f_size, 1).dtype("t", t);
  check.that(act == ORIBI_SILU || act == ORIBI_GELU_TANH || act == ORIBI_GELU_ERF,
             "act is %d, expected ORIBI_SILU, ORIBI_GELU_TANH or ORIBI_GELU_ERF", static_cast<int>(act));
  return check.elements("half of gu", n, f_size);
}

/* launch(storage type, width, activation, packs of a row, tiles of a row, blocks), and its status. */
template <class Launch>
oribi_status for_tiles(oribi_ctx* ctx, const char* function, int64_t n, int64_t f_size, int64_t grain, oribi_activation act,
                       oribi_dtype t, Launch&& launch) {
  oribi_status status = select_device(ctx, function);
  if (status != ORIBI_OK) return status;
  dispatch_pack(t, grain, [&](auto type, auto width) {
    const int64_t packs = f_size / decltype(width)::value, tiles = divide_up(packs, kThreads * kPacks);
    if (!fits_grid(tiles) || n > INT32_MAX / tiles) {
      status = too_large(ctx, function, n * tiles);
      return;
    }
    dispatch_activation<decltype(type)>(act, [&](auto activation) {
      launch(type, width, activation, packs, static_cast<unsigned>(tiles), static_cast<unsigned>(n * tiles));
    });
    status = launch_status(ctx, function);
  });
  return status;
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_glu_forward(oribi_ctx* ctx, void* f, const void* gu, int64_t n, int64_t f_size,
                                          oribi_activation act, oribi_dtype t) {
  const char* const function = "oribi_glu_forward";
  Check check(ctx, function);
  check_sizes(check, n, f_size, act, t).pointer("f", f, n * f_size).pointer("gu", gu, 2 * n * f_size);
  if (!check.ok() || n == 0) return check.status();
  const int64_t grain = aligned({f, gu}) ? f_size : 1;
  return for_tiles(ctx, function, n, f_size, grain, act, t, [&](auto type, auto width, auto activation, int64_t packs, unsigned tiles, unsigned blocks) {
    using T = decltype(type);
    forward_kernel<decltype(activation), T, decltype(width)::value><<<blocks, kThreads, 0, stream_of(ctx)>>>(
        static_cast<T*>(f), static_cast<const T*>(gu), packs, tiles);
  });
}

extern "C" oribi_status oribi_glu_backward(oribi_ctx* ctx, void* dgu, void* f, const void* df, const void* gu, int64_t n,
                                           int64_t f_size, oribi_activation act, oribi_dtype t) {
  const char* const function = "oribi_glu_backward";
  Check check(ctx, function);
  check_sizes(check, n, f_size, act, t).pointer("dgu", dgu, 2 * n * f_size).pointer("df", df, n * f_size);
  check.pointer("gu", gu, 2 * n * f_size);
  if (!check.ok() || n == 0) return check.status();
  const int64_t grain = aligned({dgu, f, df, gu}) ? f_size : 1;
  return for_tiles(ctx, function, n, f_size, grain, act, t, [&](auto type, auto width, auto activation, int64_t packs, unsigned tiles, unsigned blocks) {
    using T = decltype(type);
    using Activation = decltype(activation);
    constexpr int kWidth = decltype(width)::value;
    const auto kernel = f != nullptr ? backward_kernel<Activation, true, T, kWidth> : backward_kernel<Activation, false, T, kWidth>;
    kernel<<<blocks, kThreads, 0, stream_of(ctx)>>>(static_cast<T*>(dgu), static_cast<T*>(f), static_cast<const T*>(df),
                                                    static_cast<const T*>(gu), packs, tiles);
  });
}
