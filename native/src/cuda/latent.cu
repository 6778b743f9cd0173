/*
 * Math        forward: k of each head = nope of kv | rotate(k_rope);  v = v of kv | 0;  the last channels of q = rotate(them)
 *             backward: dkv = nope of dk | dv;  dk_rope = rotate back (sum over heads of the rest of dk);  dq rotated back
 *             rotate: (a, b) -> (a c - b s, b c + a s), c and s of the pair's angle
 * Shapes      q, k, v (N,H,D), D = nope + rope  kv (N,H,nope+v)  k_rope (N,rope)  cos, sin (positions,rope/2)
 * Layout      row-major with strides; where nope, rope, v and every stride are multiples of 16 bytes' worth of elements, what is
 *             only copied moves 16 bytes at a time
 * Precision   storage fp32, bf16 or fp16; rotations and the sum over heads fp32, each result rounded once
 * Saved       nothing: the rotation's inverse is its backward pass
 * Writes      q rotated in place, k =, v =, dkv =, dk_rope =, dq rotated in place. A position out of range: zeros where rotated
 *             channels would stand
 * Determinism bit-exact on one GPU: a block has a row; the heads are summed in eight parts, in a fixed order
 * Limits      rope <= 256, N < 2^31
 */
#include "common/latent.h"

#include "cuda/elementwise.cuh"

namespace oribi {
namespace {

constexpr int kThreads = 256;
constexpr int kParts = 8; /* of the sum over heads: with 64 channels that are rotated all threads but half have a part */

/* The cosines and sines of a position, zeros outside of the table. */
struct Rotation {
  const float *cos, *sin;
  int half, apart, step;
  float sign;
  bool inside;

  __device__ Rotation(const float* cosines, const float* sines, int64_t position, const oribi_latent_shape& s, float sign_)
      : half(static_cast<int>(s.rope / 2)), apart(s.interleaved != 0 ? 1 : half), step(s.interleaved != 0 ? 2 : 1), sign(sign_),
        inside(position >= 0 && position < s.max_position) {
    cos = cosines + (inside ? position : 0) * half;
    sin = sines + (inside ? position : 0) * half;
  }

  /* Pair i of x as y; y may be x. */
  template <class T, class X>
  __device__ void pair(T* y, const X* x, int i) const {
    const int low = i * step, high = low + apart;
    const float a = to_float(x[low]), b = to_float(x[high]), c = inside ? cos[i] : 0.0f, s = inside ? sign * sin[i] : 0.0f;
    y[low] = from_float<T>(a * c - b * s);
    y[high] = from_float<T>(b * c + a * s);
  }
};

/* y[h][i] = x[h][i] for all heads and i < count, kWidth elements at a time. */
template <int kWidth, class T>
__device__ void copy_heads(T* y, const T* x, int64_t y_apart, int64_t x_apart, int heads, int count) {
  using P = Pack<T, kWidth>;
  const int packs = count / kWidth;
  for (int i = threadIdx.x; i < heads * packs; i += kThreads) {
    const int h = i / packs, at = (i - h * packs) * kWidth;
    *reinterpret_cast<P*>(y + h * y_apart + at) = *reinterpret_cast<const P*>(x + h * x_apart + at);
  }
}

/* The rotated channels of all heads, in place. */
template <class T>
__device__ void rotate_heads(T* q, int64_t d, int heads, const Rotation& r) {
  for (int i = threadIdx.x; i < heads * r.half; i += kThreads) r.pair(q + i / r.half * d, q + i / r.half * d, i % r.half);
}

template <class T>
struct Latent {
  T *q, *k, *v, *kv, *r; /* or their gradients */
  const float *cos, *sin;
  const int32_t* positions;
  oribi_latent_shape s;
};

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads) forward_kernel(const Latent<T> l, int* fault) {
  __shared__ alignas(16) T rotated[kMostRope];
  __shared__ alignas(16) T zeros[16 / sizeof(T)];
  const oribi_latent_shape& s = l.s;
  const int64_t row = blockIdx.x, d = s.nope + s.rope;
  const int heads = static_cast<int>(s.h), nope = static_cast<int>(s.nope), rope = static_cast<int>(s.rope), v = static_cast<int>(s.v);
  const Rotation rotation(l.cos, l.sin, l.positions[row], s, 1);
  if (!rotation.inside && threadIdx.x == 0) *fault = kFaultLatentPosition;
  const T* kv = l.kv + row * s.ld_kv;
  T *k = l.k + row * s.ld_k, *values = l.v + row * s.ld_v;
  for (int i = threadIdx.x; i < rotation.half; i += kThreads) rotation.pair(rotated, l.r + row * s.ld_r, i);
  if (threadIdx.x < 16 / sizeof(T)) zeros[threadIdx.x] = from_float<T>(0);
  copy_heads<kWidth>(k, kv, d, s.nope + s.v, heads, nope);
  copy_heads<kWidth>(values, kv + s.nope, d, s.nope + s.v, heads, v);
  if (l.q != nullptr) rotate_heads(l.q + row * s.ld_q + s.nope, d, heads, rotation);
  __syncthreads();
  copy_heads<kWidth>(k + s.nope, rotated, d, 0, heads, rope);
  using P = Pack<T, kWidth>;
  const int padding = (static_cast<int>(d) - v) / kWidth;
  for (int i = threadIdx.x; i < heads * padding; i += kThreads) {
    *reinterpret_cast<P*>(values + i / padding * d + v + i % padding * kWidth) = *reinterpret_cast<const P*>(zeros);
  }
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads) backward_kernel(const Latent<T> l, int* fault) {
  __shared__ float sums[kParts][kMostRope];
  const oribi_latent_shape& s = l.s;
  const int64_t row = blockIdx.x, d = s.nope + s.rope;
  const int heads = static_cast<int>(s.h), rope = static_cast<int>(s.rope);
  const Rotation back(l.cos, l.sin, l.positions[row], s, -1);
  if (!back.inside && threadIdx.x == 0) *fault = kFaultLatentPosition;
  const T *dk = l.k + row * s.ld_k, *dv = l.v + row * s.ld_v;
  T* dkv = l.kv + row * s.ld_kv;
  copy_heads<kWidth>(dkv, dk, s.nope + s.v, d, heads, static_cast<int>(s.nope));
  copy_heads<kWidth>(dkv + s.nope, dv, s.nope + s.v, d, heads, static_cast<int>(s.v));
  rotate_heads(l.q + row * s.ld_q + s.nope, d, heads, back);
  for (int i = threadIdx.x; i < kParts * rope; i += kThreads) {
    const int part = i / rope, channel = i % rope;
    float sum = 0;
    for (int h = part; h < heads; h += kParts) sum += to_float(dk[h * d + s.nope + channel]);
    sums[part][channel] = sum;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < rope; i += kThreads) {
    for (int part = 1; part < kParts; part++) sums[0][i] += sums[part][i];
  }
  __syncthreads();
  for (int i = threadIdx.x; i < back.half; i += kThreads) back.pair(l.r + row * s.ld_r, sums[0], i);
}

/* launch(storage type, width) for arrays that begin at `pointers`, and its status. */
template <class Launch>
oribi_status for_rows(oribi_ctx* ctx, const char* function, const oribi_latent_shape& s, bool wide, Launch&& launch) {
  if (s.n == 0) return ORIBI_OK;
  if (!fits_grid(s.n)) return too_large(ctx, function, s.n);
  const oribi_status status = select_device(ctx, function);
  if (status != ORIBI_OK) return status;
  dispatch_pack(s.t, wide ? s.nope | s.rope | s.v | s.ld_k | s.ld_v | s.ld_kv : 1, launch);
  return launch_status(ctx, function);
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_latent_forward(oribi_ctx* ctx, void* q, void* k, void* v, const void* kv, const void* k_rope,
                                             const float* cos, const float* sin, const int32_t* positions,
                                             const oribi_latent_shape* shape) {
  const char* const function = "oribi_latent_forward";
  Check check(ctx, function);
  if (!check_latent(check, shape, cos, sin, positions)) return check.status();
  const oribi_latent_shape s = *shape;
  check.pointer("k", k, s.n).pointer("v", v, s.n).pointer("kv", kv, s.n).pointer("k_rope", k_rope, s.n);
  if (!check.ok()) return check.status();
  return for_rows(ctx, function, s, aligned({k, v, kv}), [&](auto type, auto width) {
    using T = decltype(type);
    const Latent<T> l{static_cast<T*>(q), static_cast<T*>(k), static_cast<T*>(v), static_cast<T*>(const_cast<void*>(kv)),
                      static_cast<T*>(const_cast<void*>(k_rope)), cos, sin, positions, s};
    forward_kernel<T, decltype(width)::value><<<static_cast<unsigned>(s.n), kThreads, 0, stream_of(ctx)>>>(l, fault_of(ctx));
  });
}

extern "C" oribi_status oribi_latent_backward(oribi_ctx* ctx, void* dq, void* dkv, void* dk_rope, const void* dk,
                                              const void* dv, const float* cos, const float* sin, const int32_t* positions,
                                              const oribi_latent_shape* shape) {
  const char* const function = "oribi_latent_backward";
  Check check(ctx, function);
  if (!check_latent(check, shape, cos, sin, positions)) return check.status();
  const oribi_latent_shape s = *shape;
  check.pointer("dq", dq, s.n).pointer("dkv", dkv, s.n).pointer("dk_rope", dk_rope, s.n);
  if (!check.pointer("dk", dk, s.n).pointer("dv", dv, s.n).ok()) return check.status();
  return for_rows(ctx, function, s, aligned({dk, dv, dkv}), [&](auto type, auto width) {
    using T = decltype(type);
    const Latent<T> l{static_cast<T*>(dq), static_cast<T*>(const_cast<void*>(dk)), static_cast<T*>(const_cast<void*>(dv)),
                      static_cast<T*>(dkv), static_cast<T*>(dk_rope), cos, sin, positions, s};
    backward_kernel<T, decltype(width)::value><<<static_cast<unsigned>(s.n), kThreads, 0, stream_of(ctx)>>>(l, fault_of(ctx));
  });
}
