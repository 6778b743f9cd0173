/*
 * Math        (x_i, x_{i+R/2}) -> (x_i cos - x_{i+R/2} sin, x_{i+R/2} cos + x_i sin) for i < R/2, the angle being that
 *             of row positions[n] of the table; inverse: sin changes its sign. R is D, or fewer: the rest of a head stays
 * Shapes      q (N,H,D)  k (N,Hkv,D)  cos, sin (max_position, R/2)  positions (N)
 * Layout      rows of q and k may be strided; D even. 16 bytes at a time where D, R/2 and the strides allow it
 * Precision   storage fp32, bf16 or fp16; the tables and the arithmetic are fp32, rounded once
 * Saved       nothing: the rotation is orthogonal, its inverse is the backward pass
 * Writes      q, k in place, in one launch. A position out of range: zeros in its row of both
 * Determinism bit-exact: every pair is written once
 * Limits      as many blocks as a grid holds; more returns UNSUPPORTED
 */
#include "common/rope.h"
#include "cuda/elementwise.cuh"

namespace oribi {
namespace {

/* Of a block, or fewer: 320 are all heads of a row of Llama 3 8B in bf16, a pair of packs each. */
constexpr int kThreads = 512;

template <class T>
struct Rope {
  T *q, *k;
  const float *cos, *sin;
  const int32_t* positions;
  oribi_rope_shape s;
  int64_t half; /* pairs of a head that turn */
};

template <class T>
__device__ T* head_of(const Rope<T>& r, int64_t row, int64_t head) {
  return head < r.s.h ? r.q + row * r.s.ld_q + head * r.s.d : r.k + row * r.s.ld_k + (head - r.s.h) * r.s.d;
}

/* x: channels of a head, y: heads, z: rows. A thread keeps the angles of its channels for all the heads it rotates. */
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads) rope_kernel(const Rope<T> r, int* fault) {
  using P = Pack<T, kWidth>;
  using Angles = Pack<float, kWidth>;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.z + threadIdx.z;
  if (row >= r.s.n) return;
  const int64_t half = r.half, heads = r.s.h + r.s.h_kv, position = r.positions[row];
  const bool inside = position >= 0 && position < r.s.max_position;
  for (int64_t i = threadIdx.x * kWidth; i < half; i += blockDim.x * kWidth) {
    Angles cosine{}, sine{};
    for (int64_t head = threadIdx.y; head < heads; head += blockDim.y) {
      T* x = head_of(r, row, head) + i;
      P low = *reinterpret_cast<const P*>(x), high = *reinterpret_cast<const P*>(x + half);
      /* The position is first looked at here, when the loads above are on their way. */
      if (!inside) *fault = kFaultRopePosition;
      if (inside && head == threadIdx.y) {
        cosine = *reinterpret_cast<const Angles*>(r.cos + position * half + i);
        sine = *reinterpret_cast<const Angles*>(r.sin + position * half + i);
      }
#pragma unroll
      for (int e = 0; e < kWidth; e++) {
        const float a = to_float(low.element[e]), b = to_float(high.element[e]), c = cosine.element[e];
        const float s = r.s.inverse != 0 ? -sine.element[e] : sine.element[e];
        low.element[e] = from_float<T>(inside ? a * c - b * s : 0.0f);
        high.element[e] = from_float<T>(inside ? b * c + a * s : 0.0f);
      }
      *reinterpret_cast<P*>(x) = low;
      *reinterpret_cast<P*>(x + half) = high;
    }
  }
}

/* Blocks of up to kThreads: threads along the channels, then the heads, then rows. */
dim3 block_of(const oribi_rope_shape& s, int64_t half, int width) {
  constexpr int64_t kMostRows = 64; /* the limit of a block's third dimension */
  constexpr int64_t kLeastThreads = 128;
  const int64_t packs = half / width, heads = s.h + s.h_kv;
  const int64_t x = packs < kThreads ? packs : kThreads;
  const int64_t y = heads < kThreads / x ? heads : kThreads / x;
  const int64_t wanted = divide_up(kLeastThreads, x * y), room = kThreads / (x * y);
  const int64_t z = wanted < room ? wanted : room;
  return dim3(static_cast<unsigned>(x), static_cast<unsigned>(y), static_cast<unsigned>(z < kMostRows ? z : kMostRows));
}

template <class T, int kWidth>
oribi_status launch(oribi_ctx* ctx, const Rope<T>& r) {
  const dim3 block = block_of(r.s, r.half, kWidth);
  const int64_t blocks = divide_up(r.s.n, block.z);
  if (!fits_grid(blocks)) return too_large(ctx, "oribi_rope", blocks);
  const oribi_status status = select_device(ctx, "oribi_rope");
  if (status != ORIBI_OK) return status;
  rope_kernel<T, kWidth><<<static_cast<unsigned>(blocks), block, 0, stream_of(ctx)>>>(r, fault_of(ctx));
  return launch_status(ctx, "oribi_rope");
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
  if (!check.ok() || s.n == 0 || s.h + s.h_kv == 0) return check.status();
  const int64_t half = rotated_of(s) / 2;
  const int64_t strides = half | s.d | (s.h > 0 ? s.ld_q : 0) | (s.h_kv > 0 ? s.ld_k : 0);
  const bool wide = aligned({s.h > 0 ? q : nullptr, s.h_kv > 0 ? k : nullptr}) && aligned({cos, sin}, 2 * kAccess);
  oribi_status status = ORIBI_OK;
  dispatch_pack(s.t, wide ? strides : 1, [&](auto type, auto width) {
    using T = decltype(type);
    status = launch<T, decltype(width)::value>(ctx, {static_cast<T*>(q), static_cast<T*>(k), cos, sin, positions, s, half});
  });
  return status;
}
