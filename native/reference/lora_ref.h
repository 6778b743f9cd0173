/*
 * A stack of projections with LoRA adapters as its definition reads. Real is double for the exact result, float for a
 * plain implementation. Matrices are vectors of rows without gaps; the shape's ld_x and ld_y are not read.
 */
#ifndef ORIBI_REFERENCE_LORA_H
#define ORIBI_REFERENCE_LORA_H

#include <cstdint>
#include <vector>

#include "oribi.h"

namespace reference {

using Matrix = std::vector<double>;

/* The adapter whose columns of y contain `column`, or -1; then the row of b that belongs to the column. */
inline int adapter_of(const oribi_lora_shape& s, int64_t column, int64_t* row_of_b) {
  int64_t begin = 0;
  for (int p = 0; p < s.adapters; p++) {
    *row_of_b = begin + column - s.first_out[p];
    if (column >= s.first_out[p] && column < s.first_out[p] + s.outs[p]) return p;
    begin += s.outs[p];
  }
  return -1;
}

/* h = scale * x·Aᵀ */
template <class Real>
Matrix lora_h(const Matrix& x, const Matrix& a, const oribi_lora_shape& s) {
  const int64_t width = s.adapters * s.rank;
  Matrix h(s.n * width);
  for (int64_t i = 0; i < s.n; i++) {
    for (int64_t r = 0; r < width; r++) {
      Real sum = 0;
      for (int64_t k = 0; k < s.in; k++) sum += Real(x[i * s.in + k]) * Real(a[r * s.in + k]);
      h[i * width + r] = Real(s.scale[r / s.rank]) * sum;
    }
  }
  return h;
}

/* y = x·Wᵀ + h·Bᵀ */
template <class Real>
Matrix lora_matmul(const Matrix& x, const Matrix& w, const Matrix& h, const Matrix& b, const oribi_lora_shape& s) {
  const int64_t width = s.adapters * s.rank;
  Matrix y(s.n * s.out);
  for (int64_t i = 0; i < s.n; i++) {
    for (int64_t o = 0; o < s.out; o++) {
      Real sum = 0;
      for (int64_t k = 0; k < s.in; k++) sum += Real(x[i * s.in + k]) * Real(w[o * s.in + k]);
      int64_t row = 0;
      const int p = adapter_of(s, o, &row);
      for (int64_t r = 0; p >= 0 && r < s.rank; r++) sum += Real(h[i * width + p * s.rank + r]) * Real(b[row * s.rank + r]);
      y[i * s.out + o] = sum;
    }
  }
  return y;
}

/* g = scale * dy·B */
template <class Real>
Matrix lora_g(const Matrix& dy, const Matrix& b, const oribi_lora_shape& s) {
  const int64_t width = s.adapters * s.rank;
  std::vector<Real> g(s.n * width);
  for (int64_t i = 0; i < s.n; i++) {
    for (int64_t o = 0; o < s.out; o++) {
      int64_t row = 0;
      const int p = adapter_of(s, o, &row);
      for (int64_t r = 0; p >= 0 && r < s.rank; r++) {
        g[i * width + p * s.rank + r] += Real(dy[i * s.out + o]) * Real(b[row * s.rank + r]);
      }
    }
    for (int64_t r = 0; r < width; r++) g[i * width + r] *= Real(s.scale[r / s.rank]);
  }
  return Matrix(g.begin(), g.end());
}

/* db += dyᵀ·h */
template <class Real>
Matrix lora_db(const Matrix& db, const Matrix& dy, const Matrix& h, const oribi_lora_shape& s) {
  const int64_t width = s.adapters * s.rank;
  std::vector<Real> sum(db.size());
  for (int64_t i = 0; i < s.n; i++) {
    for (int64_t o = 0; o < s.out; o++) {
      int64_t row = 0;
      const int p = adapter_of(s, o, &row);
      for (int64_t r = 0; p >= 0 && r < s.rank; r++) {
        sum[row * s.rank + r] += Real(dy[i * s.out + o]) * Real(h[i * width + p * s.rank + r]);
      }
    }
  }
  for (size_t i = 0; i < db.size(); i++) sum[i] += Real(db[i]);
  return Matrix(sum.begin(), sum.end());
}

/* dx = dy·W + g·A */
template <class Real>
Matrix lora_matmul_dx(const Matrix& dy, const Matrix& w, const Matrix& g, const Matrix& a, const oribi_lora_shape& s) {
  const int64_t width = s.adapters * s.rank;
  Matrix dx(s.n * s.in);
  std::vector<Real> sum(s.in);
  for (int64_t i = 0; i < s.n; i++) {
    sum.assign(s.in, 0);
    for (int64_t o = 0; o < s.out; o++) {
      for (int64_t k = 0; k < s.in; k++) sum[k] += Real(dy[i * s.out + o]) * Real(w[o * s.in + k]);
    }
    for (int64_t r = 0; r < width; r++) {
      for (int64_t k = 0; k < s.in; k++) sum[k] += Real(g[i * width + r]) * Real(a[r * s.in + k]);
    }
    for (int64_t k = 0; k < s.in; k++) dx[i * s.in + k] = sum[k];
  }
  return dx;
}

/* da += gᵀ·x */
template <class Real>
Matrix lora_da(const Matrix& da, const Matrix& g, const Matrix& x, const oribi_lora_shape& s) {
  const int64_t width = s.adapters * s.rank;
  std::vector<Real> sum(da.size());
  for (int64_t i = 0; i < s.n; i++) {
    for (int64_t r = 0; r < width; r++) {
      for (int64_t k = 0; k < s.in; k++) sum[r * s.in + k] += Real(g[i * width + r]) * Real(x[i * s.in + k]);
    }
  }
  for (size_t i = 0; i < da.size(); i++) sum[i] += Real(da[i]);
  return Matrix(sum.begin(), sum.end());
}

}  // namespace reference
#endif
