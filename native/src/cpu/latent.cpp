/*
 * Math        forward: k of each head = nope of kv | rotate(k_rope);  v = v of kv | 0;  the last channels of q = rotate(them)
 *             backward: dkv = nope of dk | dv;  dk_rope = rotate back (sum over heads of the rest of dk);  dq rotated back
 *             rotate: (a, b) -> (a c - b s, b c + a s), c and s of the pair's angle
 * Shapes      q, k, v (N,H,D), D = nope + rope  kv (N,H,nope+v)  k_rope (N,rope)  cos, sin (positions,rope/2)
 * Layout      row-major with strides, any sizes
 * Precision   storage fp32, bf16 or fp16; rotations and the sum over heads fp32, each result rounded once
 * Saved       nothing: the rotation's inverse is its backward pass
 * Writes      q rotated in place, k =, v =, dkv =, dk_rope =, dq rotated in place
 * Determinism bit-exact for any number of threads: a row is one thread's, its heads are summed in their order
 * Limits      rope <= 256
 */
#include "common/latent.h"

#include "common/dtype.h"
#include "cpu/parallel.h"

namespace oribi {
namespace {

struct Angles {
  const float *cos, *sin; /* of a position */
  int64_t half, apart, step; /* pair i is channels i * step and i * step + apart */
  float sign;
};

Angles angles_of(const float* cos, const float* sin, int64_t position, const oribi_latent_shape& s, float sign) {
  const int64_t half = s.rope / 2;
  return {cos + position * half, sin + position * half, half, s.interleaved != 0 ? 1 : half, s.interleaved != 0 ? 2 : 1, sign};
}

/* y[rope] = x[rope] rotated; y may be x. */
template <class T, class X>
void rotate(T* y, const X* x, const Angles& at) {
  for (int64_t i = 0; i < at.half; i++) {
    const int64_t low = i * at.step, high = low + at.apart;
    const float a = to_float(x[low]), b = to_float(x[high]), s = at.sign * at.sin[i];
    y[low] = from_float<T>(a * at.cos[i] - b * s);
    y[high] = from_float<T>(b * at.cos[i] + a * s);
  }
}

template <class T>
void copy(T* y, const T* x, int64_t count) {
  for (int64_t i = 0; i < count; i++) y[i] = x[i];
}

template <class T>
void forward_row(T* q, T* k, T* v, const T* kv, const T* k_rope, const Angles& at, const oribi_latent_shape& s) {
  const int64_t d = s.nope + s.rope;
  T rotated[kMostRope];
  rotate(rotated, k_rope, at);
  for (int64_t h = 0; h < s.h; h++) {
    const T* from = kv + h * (s.nope + s.v);
    copy(k + h * d, from, s.nope);
    copy(k + h * d + s.nope, rotated, s.rope);
    copy(v + h * d, from + s.nope, s.v);
    for (int64_t i = s.v; i < d; i++) v[h * d + i] = from_float<T>(0);
    if (q != nullptr) rotate(q + h * d + s.nope, q + h * d + s.nope, at);
  }
}

template <class T>
void backward_row(T* dq, T* dkv, T* dk_rope, const T* dk, const T* dv, const Angles& at, const oribi_latent_shape& s) {
  const int64_t d = s.nope + s.rope;
  float sum[kMostRope] = {};
  for (int64_t h = 0; h < s.h; h++) {
    T* to = dkv + h * (s.nope + s.v);
    copy(to, dk + h * d, s.nope);
    copy(to + s.nope, dv + h * d, s.v);
    for (int64_t i = 0; i < s.rope; i++) sum[i] += to_float(dk[h * d + s.nope + i]);
    rotate(dq + h * d + s.nope, dq + h * d + s.nope, at);
  }
  rotate(dk_rope, sum, at);
}

bool check_positions(Check& check, const int32_t* positions, const oribi_latent_shape& s) {
  for (int64_t i = 0; check.ok() && i < s.n; i++) {
    check.that(positions[i] >= 0 && positions[i] < s.max_position, "positions[%lld] is %d, expected 0 to %lld",
               static_cast<long long>(i), positions[i], static_cast<long long>(s.max_position) - 1);
  }
  return check.ok();
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_latent_forward(oribi_ctx* ctx, void* q, void* k, void* v, const void* kv, const void* k_rope,
                                             const float* cos, const float* sin, const int32_t* positions,
                                             const oribi_latent_shape* shape) {
  Check check(ctx, "oribi_latent_forward");
  if (!check_latent(check, shape, cos, sin, positions)) return check.status();
  const oribi_latent_shape s = *shape;
  check.pointer("k", k, s.n).pointer("v", v, s.n).pointer("kv", kv, s.n).pointer("k_rope", k_rope, s.n);
  if (!check_positions(check, positions, s)) return check.status();
  dispatch(s.t, [&](auto type) {
    using T = decltype(type);
    parallel_ranges(ctx, s.n, rows_per_chunk(s.h * (s.nope + s.rope)), [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) {
        forward_row(q != nullptr ? static_cast<T*>(q) + i * s.ld_q : nullptr, static_cast<T*>(k) + i * s.ld_k,
                    static_cast<T*>(v) + i * s.ld_v, static_cast<const T*>(kv) + i * s.ld_kv,
                    static_cast<const T*>(k_rope) + i * s.ld_r, angles_of(cos, sin, positions[i], s, 1), s);
      }
    });
  });
  return ORIBI_OK;
}

extern "C" oribi_status oribi_latent_backward(oribi_ctx* ctx, void* dq, void* dkv, void* dk_rope, const void* dk,
                                              const void* dv, const float* cos, const float* sin, const int32_t* positions,
                                              const oribi_latent_shape* shape) {
  Check check(ctx, "oribi_latent_backward");
  if (!check_latent(check, shape, cos, sin, positions)) return check.status();
  const oribi_latent_shape s = *shape;
  check.pointer("dq", dq, s.n).pointer("dkv", dkv, s.n).pointer("dk_rope", dk_rope, s.n);
  check.pointer("dk", dk, s.n).pointer("dv", dv, s.n);
  if (!check_positions(check, positions, s)) return check.status();
  dispatch(s.t, [&](auto type) {
    using T = decltype(type);
    parallel_ranges(ctx, s.n, rows_per_chunk(s.h * (s.nope + s.rope)), [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) {
        backward_row(static_cast<T*>(dq) + i * s.ld_q, static_cast<T*>(dkv) + i * s.ld_kv, static_cast<T*>(dk_rope) + i * s.ld_r,
                     static_cast<const T*>(dk) + i * s.ld_k, static_cast<const T*>(dv) + i * s.ld_v,
                     angles_of(cos, sin, positions[i], s, -1), s);
      }
    });
  });
  return ORIBI_OK;
}
