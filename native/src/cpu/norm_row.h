/* One row of a root-mean-square norm, forward and backward: what rms_norm and head_norm repeat. */
#ifndef ORIBI_CPU_NORM_ROW_H
#define ORIBI_CPU_NORM_ROW_H

#include <algorithm>
#include <cmath>

#include "common/dtype.h"
#include "cpu/parallel.h"

namespace oribi {

/* Terms that are summed by themselves: with four lanes to a register 256 each, so that the rounding of a long row's sum
   does not grow with its length. */
constexpr int64_t kSummedAtOnce = 1024;

template <class T>
float sum_of_squares(const T* x, int64_t c) {
  float sum = 0;
  for (int64_t begin = 0; begin < c; begin += kSummedAtOnce) {
    const int64_t end = std::min(c, begin + kSummedAtOnce);
    float part = 0;
#pragma omp simd reduction(+ : part)
    for (int64_t i = begin; i < end; i++) part += to_float(x[i]) * to_float(x[i]);
    sum += part;
  }
  return sum;
}

/* Of g * x. `offset` is 1 where the weight is 1 + w. */
template <class T>
float sum_of_products(const T* dy, const T* w, const T* x, int64_t c, float offset) {
  float sum = 0;
  for (int64_t begin = 0; begin < c; begin += kSummedAtOnce) {
    const int64_t end = std::min(c, begin + kSummedAtOnce);
    float part = 0;
#pragma omp simd reduction(+ : part)
    for (int64_t i = begin; i < end; i++) part += to_float(dy[i]) * (to_float(w[i]) + offset) * to_float(x[i]);
    sum += part;
  }
  return sum;
}

template <class T>
void normalize_row(T* y, float* rstd, const T* x, const T* w, int64_t c, float eps, oribi_norm_weight weight) {
  const float scale = 1.0f / std::sqrt(sum_of_squares(x, c) / static_cast<float>(c) + eps);
  *rstd = scale;
  if (weight == ORIBI_NORM_ONE_PLUS_WEIGHT) {
#pragma omp simd
    for (int64_t i = 0; i < c; i++) y[i] = from_float<T>(to_float(x[i]) * scale * (1.0f + to_float(w[i])));
    return;
  }
#pragma omp simd
  for (int64_t i = 0; i < c; i++) y[i] = from_float<T>(round_to<T>(to_float(x[i]) * scale) * to_float(w[i]));
}

/* One row. dw, the partial sum of this row's chunk, may be NULL. dy is read before dx is written: they may be one. */
template <class T>
void backward_row(T* dx, float* dw, float rstd, const T* dy, const T* x, const T* w, int64_t c, bool accumulate,
                  oribi_norm_weight weight) {
  const float offset = weight == ORIBI_NORM_ONE_PLUS_WEIGHT ? 1.0f : 0.0f;
  const float mean = sum_of_products(dy, w, x, c, offset) * rstd / static_cast<float>(c);
  if (dw != nullptr) {
#pragma omp simd
    for (int64_t i = 0; i < c; i++) dw[i] += to_float(dy[i]) * (to_float(x[i]) * rstd);
  }
  if (accumulate) {
#pragma omp simd
    for (int64_t i = 0; i < c; i++) {
      const float d = rstd * (to_float(dy[i]) * (to_float(w[i]) + offset) - to_float(x[i]) * rstd * mean);
      dx[i] = from_float<T>(to_float(dx[i]) + d);
    }
  } else {
#pragma omp simd
    for (int64_t i = 0; i < c; i++) {
      dx[i] = from_float<T>(rstd * (to_float(dy[i]) * (to_float(w[i]) + offset) - to_float(x[i]) * rstd * mean));
    }
  }
}

inline void add_partials(const oribi_ctx* ctx, float* dw, const float* partials, int64_t count, int64_t c) {
  constexpr int64_t kColumns = 1024;
  parallel_ranges(ctx, c, kColumns, [=](int64_t begin, int64_t end) {
    for (int64_t p = 0; p < count; p++) {
      const float* partial = partials + p * c;
#pragma omp simd
      for (int64_t i = begin; i < end; i++) dw[i] += partial[i];
    }
  });
}

}  // namespace oribi
#endif
