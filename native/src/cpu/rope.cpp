/*
 * Math        (x_i, x_{i+R/2}) -> (x_i cos - x_{i+R/2} sin, x_{i+R/2} cos + x_i sin) for i < R/2, the angle being that
 *             of row positions[n] of the table; inverse: sin changes its sign. R is D, or fewer: the rest of a head stays
 * Shapes      q (N,H,D)  k (N,Hkv,D)  cos, sin (max_position, R/2)  positions (N)
 * Layout      rows of q and k may be strided; D even
 * Precision   storage fp32, bf16 or fp16; the tables and the arithmetic are fp32, rounded once
 * Saved       nothing: the rotation is orthogonal, its inverse is the backward pass
 * Writes      q, k in place
 * Determinism bit-exact for any number of threads: every pair is written once
 * Limits      none; positions are checked before anything is written
 */
#include "common/context.h"
#include "common/dtype.h"
#include "common/rope.h"
#include "cpu/parallel.h"

namespace oribi {
namespace {

template <class T>
void rotate_heads(T* x, const float* cos, const float* sin, int64_t heads, int64_t d, int64_t half, float sign) {
  for (int64_t head = 0; head < heads; head++) {
    T* low = x + head * d;
    T* high = low + half;
#pragma omp simd
    for (int64_t i = 0; i < half; i++) {
      const float a = to_float(low[i]), b = to_float(high[i]), s = sign * sin[i];
      low[i] = from_float<T>(a * cos[i] - b * s);
      high[i] = from_float<T>(b * cos[i] + a * s);
    }
  }
}

template <class T>
void rope(const oribi_ctx* ctx, T* q, T* k, const float* cos, const float* sin, const int32_t* positions,
          const oribi_rope_shape& s) {
  const int64_t half = rotated_of(s) / 2;
  const float sign = s.inverse != 0 ? -1.0f : 1.0f;
  parallel_ranges(ctx, s.n, rows_per_chunk((s.h + s.h_kv) * s.d), [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      const float* row_cos = cos + positions[row] * half;
      const float* row_sin = sin + positions[row] * half;
      if (s.h > 0) rotate_heads(q + row * s.ld_q, row_cos, row_sin, s.h, s.d, half, sign);
      if (s.h_kv > 0) rotate_heads(k + row * s.ld_k, row_cos, row_sin, s.h_kv, s.d, half, sign);
    }
  });
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_rope(oribi_ctx* ctx, void* q, void* k, const float* cos, const float* sin,
                                   const int32_t* positions, const oribi_rope_shape* shape) {
  Check check(ctx, "oribi_rope");
  if (!check.pointer("shape", shape).ok()) return check.status();
  const oribi_rope_shape s = *shape;
  check_rope(check, s, q, k, cos, sin, positions);
  for (int64_t i = 0; check.ok() && i < s.n; i++) {
    check.that(positions[i] >= 0 && positions[i] < s.max_position, "positions[%lld] is %d, expected 0 to %lld",
               static_cast<long long>(i), positions[i], static_cast<long long>(s.max_position) - 1);
  }
  if (!check.ok()) return check.status();
  dispatch(s.t, [&](auto type) {
    using T = decltype(type);
    rope(ctx, static_cast<T*>(q), static_cast<T*>(k), cos, sin, positions, s);
  });
  return ORIBI_OK;
}
