/*
 * Math        f = round(act(gate)) * up;  dup = df * round(act(gate));  dgate = df * up * act'(gate)
 *             silu       s = sigmoid(x):            act = x s                act' = s (1 + x (1 - s))
 *             gelu_tanh  t = tanh(k (x + a x^3)):   act = x (1 + t) / 2      act' = (1 + t) / 2 + x (1 - t^2) k (1 + 3 a x^2) / 2
 *                        k = sqrt(2 / pi), a = 0.044715, computed by (1 + t) / 2 = sigmoid(2 k (x + a x^3))
 *             gelu_erf   e = erf(x / sqrt(2)):      act = x (1 + e) / 2      act' = (1 + e) / 2 + x exp(-x^2 / 2) / sqrt(2 pi)
 * Shapes      gu, dgu (N,2F): gate, then up, in each row;  f, df (N,F)
 * Layout      row-major, any F
 * Precision   storage fp32, bf16 or fp16; arithmetic fp32; act(gate) is rounded to the storage type, as in Hugging
 *             Face's Llama
 * Saved       gu; act(gate) is computed again, and f too where the caller asks for it
 * Writes      f =, dgu =; dgu may be gu, f may be df
 * Determinism bit-exact for any number of threads: every element is written once; f is the same from both passes
 * Limits      none
 */
#include "common/context.h"
#include "common/dtype.h"
#include "cpu/activation.h"
#include "cpu/parallel.h"

namespace oribi {
namespace {

template <class Activation, class T>
void forward(const oribi_ctx* ctx, T* f, const T* gu, int64_t n, int64_t size) {
  parallel_ranges(ctx, n, rows_per_chunk(size), [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      const T* gate = gu + row * 2 * size;
      const T* up = gate + size;
      T* out = f + row * size;
#pragma omp simd
      for (int64_t i = 0; i < size; i++) {
        out[i] = from_float<T>(round_to<T>(Activation::value(to_float(gate[i]))) * to_float(up[i]));
      }
    }
  });
}

/* kAgain: f is wanted once more. An iteration reads what it overwrites before it writes, as dgu may be gu and f may be df. */
template <class Activation, bool kAgain, class T>
void backward(const oribi_ctx* ctx, T* dgu, T* f, const T* df, const T* gu, int64_t n, int64_t size) {
  parallel_ranges(ctx, n, rows_per_chunk(size), [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      const T* gate = gu + row * 2 * size;
      const T* up = gate + size;
      const T* in = df + row * size;
      T* dgate = dgu + row * 2 * size;
      T* dup = dgate + size;
      T* again = kAgain ? f + row * size : nullptr;
#pragma omp simd
      for (int64_t i = 0; i < size; i++) {
        const float g = to_float(gate[i]), u = to_float(up[i]), d = to_float(in[i]);
        const float value = round_to<T>(Activation::value(g));
        if (kAgain) again[i] = from_float<T>(value * u);
        dup[i] = from_float<T>(d * value);
        dgate[i] = from_float<T>(d * u * Activation::derivative(g));
      }
    }
  });
}

Check& check_sizes(Check& check, int64_t n, int64_t f_size, oribi_activation act, oribi_dtype t) {
  check.size("n", n).size("f_size", f_size, 1).dtype("t", t);
  check.that(act == ORIBI_SILU || act == ORIBI_GELU_TANH || act == ORIBI_GELU_ERF,
             "act is %d, expected ORIBI_SILU, ORIBI_GELU_TANH or ORIBI_GELU_ERF", static_cast<int>(act));
  return check.elements("half of gu", n, f_size);
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_glu_forward(oribi_ctx* ctx, void* f, const void* gu, int64_t n, int64_t f_size,
                                          oribi_activation act, oribi_dtype t) {
  Check check(ctx, "oribi_glu_forward");
  check_sizes(check, n, f_size, act, t).pointer("f", f, n * f_size).pointer("gu", gu, 2 * n * f_size);
  if (!check.ok()) return check.status();
  dispatch(t, [&](auto type) {
    using T = decltype(type);
    dispatch_activation(act, [&](auto activation) {
      forward<decltype(activation)>(ctx, static_cast<T*>(f), static_cast<const T*>(gu), n, f_size);
    });
  });
  return ORIBI_OK;
}

extern "C" oribi_status oribi_glu_backward(oribi_ctx* ctx, void* dgu, void* f, const void* df, const void* gu, int64_t n,
                                           int64_t f_size, oribi_activation act, oribi_dtype t) {
  Check check(ctx, "oribi_glu_backward");
  check_sizes(check, n, f_size, act, t).pointer("dgu", dgu, 2 * n * f_size).pointer("df", df, n * f_size);
  check.pointer("gu", gu, 2 * n * f_size);
  if (!check.ok()) return check.status();
  dispatch(t, [&](auto type) {
    using T = decltype(type);
    dispatch_activation(act, [&](auto activation) {
      const auto run = f != nullptr ? backward<decltype(activation), true, T> : backward<decltype(activation), false, T>;
      run(ctx, static_cast<T*>(dgu), static_cast<T*>(f), static_cast<const T*>(df), static_cast<const T*>(gu), n, f_size);
    });
  });
  return ORIBI_OK;
}
