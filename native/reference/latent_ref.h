/* The heads of latent attention as their definition reads. Real is double for the exact result, float for a plain one. */
#ifndef ORIBI_REFERENCE_LATENT_H
#define ORIBI_REFERENCE_LATENT_H

#include <cstdint>
#include <vector>

#include "oribi.h"

namespace reference {

struct LatentAngles {
  std::vector<double> cos, sin; /* [max_position, rope/2] */
  std::vector<int32_t> positions;
};

/* Channels first .. first + rope of x at `at`, rotated by the angles of a row, or back. */
template <class Real>
void rotate_latent(std::vector<double>& x, int64_t at, int64_t row, const LatentAngles& a, const oribi_latent_shape& s, bool back) {
  for (int64_t i = 0; i < s.rope / 2; i++) {
    const int64_t low = at + (s.interleaved != 0 ? 2 * i : i), high = s.interleaved != 0 ? low + 1 : low + s.rope / 2;
    const Real c = Real(a.cos[a.positions[row] * (s.rope / 2) + i]);
    const Real sine = Real(a.sin[a.positions[row] * (s.rope / 2) + i]) * (back ? -1 : 1);
    const Real first = Real(x[low]), second = Real(x[high]);
    x[low] = first * c - second * sine;
    x[high] = second * c + first * sine;
  }
}

template <class Real>
void latent_forward(std::vector<double>& q, std::vector<double>& k, std::vector<double>& v, const std::vector<double>& kv,
                    const std::vector<double>& k_rope, const LatentAngles& a, const oribi_latent_shape& s) {
  const int64_t d = s.nope + s.rope;
  for (int64_t n = 0; n < s.n; n++) {
    std::vector<double> rotated(k_rope.begin() + n * s.ld_r, k_rope.begin() + n * s.ld_r + s.rope);
    rotate_latent<Real>(rotated, 0, n, a, s, false);
    for (int64_t h = 0; h < s.h; h++) {
      const int64_t from = n * s.ld_kv + h * (s.nope + s.v);
      for (int64_t i = 0; i < s.nope; i++) k[n * s.ld_k + h * d + i] = kv[from + i];
      for (int64_t i = 0; i < s.rope; i++) k[n * s.ld_k + h * d + s.nope + i] = rotated[i];
      for (int64_t i = 0; i < d; i++) v[n * s.ld_v + h * d + i] = i < s.v ? kv[from + s.nope + i] : 0;
      rotate_latent<Real>(q, n * s.ld_q + h * d + s.nope, n, a, s, false);
    }
  }
}

template <class Real>
void latent_backward(std::vector<double>& dq, std::vector<double>& dkv, std::vector<double>& dk_rope, const std::vector<double>& dk,
                     const std::vector<double>& dv, const LatentAngles& a, const oribi_latent_shape& s) {
  const int64_t d = s.nope + s.rope;
  for (int64_t n = 0; n < s.n; n++) {
    std::vector<double> sum(s.rope);
    for (int64_t h = 0; h < s.h; h++) {
      const int64_t to = n * s.ld_kv + h * (s.nope + s.v);
      for (int64_t i = 0; i < s.nope; i++) dkv[to + i] = dk[n * s.ld_k + h * d + i];
      for (int64_t i = 0; i < s.v; i++) dkv[to + s.nope + i] = dv[n * s.ld_v + h * d + i];
      for (int64_t i = 0; i < s.rope; i++) sum[i] = Real(sum[i]) + Real(dk[n * s.ld_k + h * d + s.nope + i]);
      rotate_latent<Real>(dq, n * s.ld_q + h * d + s.nope, n, a, s, true);
    }
    rotate_latent<Real>(sum, 0, n, a, s, true);
    for (int64_t i = 0; i < s.rope; i++) dk_rope[n * s.ld_r + i] = sum[i];
  }
}

}  // namespace reference
#endif
