/*
 * Math        v = round(act(gate)) * up;  f = w v, w = weight[pair[i]] of row i
 *             dweight[pair[i]] = sum over columns of df * v;  dup = w df * round(act(gate));  dgate = w df * up * act'(gate)
 *             act as in glu.cu
 * Shapes      gu, dgu (n,2F): gate, then up, in each row;  f, df (n,F)  weight, dweight, pair (n)
 * Layout      row-major; F a multiple of 16 bytes' worth of elements is read 16 bytes at a time
 * Precision   storage fp32, bf16 or fp16, weight and dweight fp32; arithmetic fp32, each result rounded once; act(gate) is
 *             rounded to the storage type, as in Hugging Face's experts
 * Saved       gu, weight; act(gate) is computed again, and f too where the caller asks for it
 * Writes      f =, dgu =, dweight =; dgu may be gu, f may be df
 * Determinism bit-exact: a block has a row, whose sum it takes in a fixed order; f is the same from both passes
 * Limits      n < 2^31
 */
#include "common/experts.h"
#include "cuda/activation.cuh"
#include "cuda/elementwise.cuh"

namespace oribi {
namespace {

/* F = 768 in bf16 is 96 packs: a thread has one. */
constexpr int kThreads = 128;

template <class Activation, class T, int kWidth>
__global__ void __launch_bounds__(kThreads) forward_kernel(T* f, const T* gu, const float* weight, const int32_t* pair, int64_t packs) {
  using P = Pack<T, kWidth>;
  const int64_t row = blockIdx.x;
  const float w = weight[pair[row]];
  const P* gates = reinterpret_cast<const P*>(gu) + row * 2 * packs;
  P* out = reinterpret_cast<P*>(f) + row * packs;
  for (int64_t i = threadIdx.x; i < packs; i += kThreads) {
    const P gate = gates[i];
    P up = gates[packs + i];
#pragma unroll
    for (int k = 0; k < kWidth; k++) {
      const float act = round_to<T>(Activation::at(to_float(gate.element[k])).value);
      up.element[k] = from_float<T>(act * to_float(up.element[k]) * w);
    }
    out[i] = up;
  }
}

/* A thread reads what it overwrites before it writes, as dgu may be gu and f may be df. */
template <class Activation, bool kAgain, class T, int kWidth>
__global__ void __launch_bounds__(kThreads) backward_kernel(T* dgu, T* f, float* dweight, const T* df, const T* gu,
                                                            const float* weight, const int32_t* pair, int64_t packs) {
  using P = Pack<T, kWidth>;
  const int64_t row = blockIdx.x;
  const float w = weight[pair[row]];
  const P *gates = reinterpret_cast<const P*>(gu) + row * 2 * packs, *in = reinterpret_cast<const P*>(df) + row * packs;
  P *out = reinterpret_cast<P*>(dgu) + row * 2 * packs, *again = kAgain ? reinterpret_cast<P*>(f) + row * packs : nullptr;
  float dot = 0;
  for (int64_t i = threadIdx.x; i < packs; i += kThreads) {
    P gate = gates[i], up = gates[packs + i], d = in[i];
#pragma unroll
    for (int k = 0; k < kWidth; k++) {
      const Activated a = Activation::at(to_float(gate.element[k]));
      const float d_k = to_float(d.element[k]), up_k = to_float(up.element[k]), act = round_to<T>(a.value);
      dot += d_k * (act * up_k);
      gate.element[k] = from_float<T>(w * d_k * up_k * a.derivative);
      up.element[k] = from_float<T>(w * d_k * act);
      if (kAgain) d.element[k] = from_float<T>(act * up_k * w);
    }
    out[i] = gate;
    out[packs + i] = up;
    if (kAgain) again[i] = d;
  }
  if (dweight == nullptr) return;
  const float sum = block_sum<kThreads>(dot);
  if (threadIdx.x == 0) dweight[pair[row]] = sum;
}

/* launch(storage type, width, activation, packs of a row), and its status. */
template <class Launch>
oribi_status for_rows(oribi_ctx* ctx, const char* function, int64_t n, int64_t f_size, int64_t grain, oribi_activation act,
                      oribi_dtype t, Launch&& launch) {
  if (n == 0) return ORIBI_OK;
  const oribi_status status = select_device(ctx, function);
  if (status != ORIBI_OK) return status;
  dispatch_pack(t, grain, [&](auto type, auto width) {
    dispatch_activation<decltype(type)>(act, [&](auto activation) { launch(type, width, activation, f_size / decltype(width)::value); });
  });
  return launch_status(ctx, function);
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_weighted_glu_forward(oribi_ctx* ctx, void* f, const void* gu, const float* weight,
                                                   const int32_t* pair, int64_t n, int64_t f_size, oribi_activation act,
                                                   oribi_dtype t) {
  const char* const function = "oribi_weighted_glu_forward";
  Check check(ctx, function);
  if (!check_weighted_glu(check, n, f_size, act, t)) return check.status();
  check.pointer("f", f, n).pointer("gu", gu, n).pointer("weight", weight, n).pointer("pair", pair, n);
  if (!check.ok()) return check.status();
  return for_rows(ctx, function, n, f_size, aligned({f, gu}) ? f_size : 1, act, t, [&](auto type, auto width, auto activation, int64_t packs) {
    using T = decltype(type);
    forward_kernel<decltype(activation), T, decltype(width)::value><<<static_cast<unsigned>(n), kThreads, 0, stream_of(ctx)>>>(
        static_cast<T*>(f), static_cast<const T*>(gu), weight, pair, packs);
  });
}

extern "C" oribi_status oribi_weighted_glu_backward(oribi_ctx* ctx, void* dgu, void* f, float* dweight, const void* df,
                                                    const void* gu, const float* weight, const int32_t* pair, int64_t n,
                                                    int64_t f_size, oribi_activation act, oribi_dtype t) {
  const char* const function = "oribi_weighted_glu_backward";
  Check check(ctx, function);
  if (!check_weighted_glu(check, n, f_size, act, t)) return check.status();
  check.pointer("dgu", dgu, n).pointer("df", df, n).pointer("gu", gu, n).pointer("weight", weight, n).pointer("pair", pair, n);
  if (!check.ok()) return check.status();
  const int64_t grain = aligned({dgu, f, df, gu}) ? f_size : 1;
  return for_rows(ctx, function, n, f_size, grain, act, t, [&](auto type, auto width, auto activation, int64_t packs) {
    using T = decltype(type);
    constexpr int kWidth = decltype(width)::value;
    const auto kernel = f != nullptr ? backward_kernel<decltype(activation), true, T, kWidth> : backward_kernel<decltype(activation), false, T, kWidth>;
    kernel<<<static_cast<unsigned>(n), kThreads, 0, stream_of(ctx)>>>(static_cast<T*>(dgu), static_cast<T*>(f), dweight,
                                                                      static_cast<const T*>(df), static_cast<const T*>(gu), weight, pair, packs);
  });
}
