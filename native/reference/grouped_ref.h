/* The grouped products as their definitions read: for each row the matrix of its expert. */
#ifndef ORIBI_REFERENCE_GROUPED_H
#define ORIBI_REFERENCE_GROUPED_H

#include <cstdint>
#include <vector>

#include "oribi.h"

namespace reference {

using Values = std::vector<double>;

/* What the shape's pointers lead to, in the host's memory; no rows: NULL. */
struct Grouping {
  std::vector<int32_t> offsets, x_row, y_row;

  int64_t expert(int64_t i) const {
    int64_t e = 0;
    while (i >= offsets[e + 1]) e++;
    return e;
  }
  int64_t x_at(int64_t i) const { return x_row.empty() ? i : x_row[i]; }
  int64_t y_at(int64_t i) const { return y_row.empty() ? i : y_row[i]; }
};

template <class Real>
Values grouped_matmul(Values y, const Values& x, const Values& w, const Grouping& g, const oribi_grouped_shape& s) {
  for (int64_t i = 0; i < g.offsets.back(); i++) {
    const double *x_i = x.data() + g.x_at(i) * s.ld_x, *w_e = w.data() + g.expert(i) * s.expert_w;
    for (int64_t o = 0; o < s.out; o++) {
      Real sum = 0;
      for (int64_t k = 0; k < s.in; k++) sum += Real(x_i[k]) * Real(w_e[o * s.ld_w + k]);
      double& to = y[i * s.ld_y + o];
      to = (s.accumulate != 0 ? Real(to) : Real(0)) + Real(s.scale) * sum;
    }
  }
  return y;
}

template <class Real>
Values grouped_matmul_dx(Values dx, const Values& dy, const Values& w, const Grouping& g, const oribi_grouped_shape& s) {
  for (int64_t i = 0; i < g.offsets.back(); i++) {
    const double *dy_i = dy.data() + g.y_at(i) * s.ld_y, *w_e = w.data() + g.expert(i) * s.expert_w;
    for (int64_t k = 0; k < s.in; k++) {
      Real sum = 0;
      for (int64_t o = 0; o < s.out; o++) sum += Real(dy_i[o]) * Real(w_e[o * s.ld_w + k]);
      double& to = dx[i * s.ld_x + k];
      to = (s.accumulate != 0 ? Real(to) : Real(0)) + Real(s.scale) * sum;
    }
  }
  return dx;
}

template <class Real>
Values grouped_matmul_dw(Values dw, const Values& dy, const Values& x, const Grouping& g, const oribi_grouped_shape& s) {
  for (int64_t e = 0; e < s.experts; e++) {
    for (int64_t o = 0; o < s.out; o++) {
      for (int64_t k = 0; k < s.in; k++) {
        Real sum = 0;
        for (int64_t i = g.offsets[e]; i < g.offsets[e + 1]; i++) sum += Real(dy[g.y_at(i) * s.ld_y + o]) * Real(x[g.x_at(i) * s.ld_x + k]);
        double& to = dw[e * s.expert_w + o * s.ld_w + k];
        to = Real(to) + Real(s.scale) * sum;
      }
    }
  }
  return dw;
}

}  // namespace reference
#endif
