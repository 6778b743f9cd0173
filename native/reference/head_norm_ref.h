/* The norm of each head as its definition reads. Real and round as in rms_norm_ref.h. */
#ifndef ORIBI_REFERENCE_HEAD_NORM_H
#define ORIBI_REFERENCE_HEAD_NORM_H

#include <cmath>
#include <cstdint>
#include <vector>

namespace reference {

struct HeadNormSizes {
  int64_t n, h, d, ld_x, ld_y;
};

/* y holds n rows of ld_y elements, of which the first h * d are written. */
template <class Real, class Round>
void head_norm_forward(std::vector<double>& y, std::vector<double>& rstd, const std::vector<double>& x,
                       const std::vector<double>& w, HeadNormSizes s, double eps, Round round) {
  rstd.resize(s.n * s.h);
  for (int64_t row = 0; row < s.n; row++) {
    for (int64_t head = 0; head < s.h; head++) {
      const int64_t in = row * s.ld_x + head * s.d, out = row * s.ld_y + head * s.d;
      Real squares = 0;
      for (int64_t i = 0; i < s.d; i++) squares += Real(x[in + i]) * Real(x[in + i]);
      const Real scale = Real(1) / std::sqrt(squares / Real(s.d) + Real(eps));
      rstd[row * s.h + head] = scale;
      for (int64_t i = 0; i < s.d; i++) y[out + i] = Real(round(Real(x[in + i]) * scale)) * Real(w[i]);
    }
  }
}

/* dx =, in rows of ld_y as dy; dw += */
template <class Real>
void head_norm_backward(std::vector<double>& dx, std::vector<double>& dw, const std::vector<double>& rstd,
                        const std::vector<double>& dy, const std::vector<double>& x, const std::vector<double>& w,
                        HeadNormSizes s) {
  for (int64_t row = 0; row < s.n; row++) {
    for (int64_t head = 0; head < s.h; head++) {
      const int64_t in = row * s.ld_x + head * s.d, out = row * s.ld_y + head * s.d;
      const Real scale = Real(rstd[row * s.h + head]);
      Real mean = 0; /* of g * xhat */
      for (int64_t i = 0; i < s.d; i++) mean += Real(dy[out + i]) * Real(w[i]) * (Real(x[in + i]) * scale) / Real(s.d);
      for (int64_t i = 0; i < s.d; i++) {
        const Real xhat = Real(x[in + i]) * scale;
        dx[out + i] = scale * (Real(dy[out + i]) * Real(w[i]) - xhat * mean);
        dw[i] = Real(dw[i]) + Real(dy[out + i]) * xhat;
      }
    }
  }
}

}  // namespace reference
#endif
