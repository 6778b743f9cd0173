/*
 * Math        v = round(act(gate)) * up;  f = w v, w = weight[pair[i]] of row i
 *             dweight[pair[i]] = sum over columns of df * v;  dup = w df * round(act(gate));  dgate = w df * up * act'(gate)
 *             act as in glu.cpp
 * Shapes      gu, dgu (n,2F): gate, then up, in each row;  f, df (n,F)  weight, dweight, pair (n)
 * Layout      row-major, any F
 * Precision   storage fp32, bf16 or fp16, weight and dweight fp32; arithmetic fp32, each result rounded once; act(gate) is
 *             rounded to the storage type, as in Hugging Face's experts
 * Saved       gu, weight; act(gate) is computed again, and f too where the caller asks for it
 * Writes      f =, dgu =, dweight =; dgu may be gu, f may be df
 * Determinism bit-exact for any number of threads: a row is one thread's; f is the same from both passes
 * Limits      n < 2^31
 */
#include "common/dtype.h"
#include "common/experts.h"
#include "cpu/activation.h"
#include "cpu/parallel.h"

namespace oribi {
namespace {

template <class Activation, class T>
void forward(const oribi_ctx* ctx, T* f, const T* gu, const float* weight, const int32_t* pair, int64_t n, int64_t size) {
  parallel_ranges(ctx, n, rows_per_chunk(size), [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      const T *gate = gu + row * 2 * size, *up = gate + size;
      const float w = weight[pair[row]];
      T* out = f + row * size;
#pragma omp simd
      for (int64_t i = 0; i < size; i++) {
        out[i] = from_float<T>(round_to<T>(Activation::value(to_float(gate[i]))) * to_float(up[i]) * w);
      }
    }
  });
}

/* An iteration reads what it overwrites before it writes, as dgu may be gu and f may be df. */
template <class Activation, bool kAgain, class T>
float backward_row(T* dgate, T* dup, T* f, const T* df, const T* gate, const T* up, float w, int64_t size) {
  float dot = 0;
#pragma omp simd reduction(+ : dot)
  for (int64_t i = 0; i < size; i++) {
    const float g = to_float(gate[i]), u = to_float(up[i]), d = to_float(df[i]);
    const float value = round_to<T>(Activation::value(g));
    dot += d * (value * u);
    if (kAgain) f[i] = from_float<T>(value * u * w);
    dup[i] = from_float<T>(w * d * value);
    dgate[i] = from_float<T>(w * d * u * Activation::derivative(g));
  }
  return dot;
}

template <class Activation, class T>
void backward(const oribi_ctx* ctx, T* dgu, T* f, float* dweight, const T* df, const T* gu, const float* weight,
              const int32_t* pair, int64_t n, int64_t size) {
  parallel_ranges(ctx, n, rows_per_chunk(size), [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      const T* gate = gu + row * 2 * size;
      T* dgate = dgu + row * 2 * size;
      const auto run = f != nullptr ? backward_row<Activation, true, T> : backward_row<Activation, false, T>;
      const float dot = run(dgate, dgate + size, f != nullptr ? f + row * size : nullptr, df + row * size, gate, gate + size,
                            weight[pair[row]], size);
      if (dweight != nullptr) dweight[pair[row]] = dot;
    }
  });
}

bool check_pairs(Check& check, const int32_t* pair, int64_t n) {
  for (int64_t i = 0; check.ok() && i < n; i++) {
    check.that(pair[i] >= 0 && pair[i] < n, "pair[%lld] is %d, expected 0 to %lld", static_cast<long long>(i), pair[i],
               static_cast<long long>(n) - 1);
  }
  return check.ok();
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_weighted_glu_forward(oribi_ctx* ctx, void* f, const void* gu, const float* weight,
                                                   const int32_t* pair, int64_t n, int64_t f_size, oribi_activation act,
                                                   oribi_dtype t) {
  Check check(ctx, "oribi_weighted_glu_forward");
  if (!check_weighted_glu(check, n, f_size, act, t)) return check.status();
  check.pointer("f", f, n).pointer("gu", gu, n).pointer("weight", weight, n).pointer("pair", pair, n);
  if (!check_pairs(check, pair, n)) return check.status();
  dispatch(t, [&](auto type) {
    using T = decltype(type);
    dispatch_activation(act, [&](auto activation) {
      forward<decltype(activation)>(ctx, static_cast<T*>(f), static_cast<const T*>(gu), weight, pair, n, f_size);
    });
  });
  return ORIBI_OK;
}

extern "C" oribi_status oribi_weighted_glu_backward(oribi_ctx* ctx, void* dgu, void* f, float* dweight, const void* df,
                                                    const void* gu, const float* weight, const int32_t* pair, int64_t n,
                                                    int64_t f_size, oribi_activation act, oribi_dtype t) {
  Check check(ctx, "oribi_weighted_glu_backward");
  if (!check_weighted_glu(check, n, f_size, act, t)) return check.status();
  check.pointer("dgu", dgu, n).pointer("df", df, n).pointer("gu", gu, n).pointer("weight", weight, n).pointer("pair", pair, n);
  if (!check_pairs(check, pair, n)) return check.status();
  dispatch(t, [&](auto type) {
    using T = decltype(type);
    dispatch_activation(act, [&](auto activation) {
      backward<decltype(activation)>(ctx, static_cast<T*>(dgu), static_cast<T*>(f), dweight, static_cast<const T*>(df),
                                     static_cast<const T*>(gu), weight, pair, n, f_size);
    });
  });
  return ORIBI_OK;
}
