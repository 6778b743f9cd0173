/*
 * Math        (x_i, x_{i+R/2}) -> (x_i cos - x_{i+R/2} sin, x_{i+R/2} cos + x_i sin) for i < R/2, the angle being that
 *             of row positions[n] of the table; inverse: sin changes its sign. R is D, or fewer: the rest of a head stays
 * Shapes      q (N,H,D)  k (N,Hkv,D)  cos, sin (max_position, R/2)  positions (N)
 * Layout      rows of q and k may be strided; D even. 16 bytes at a time where D, R/2 and the strides allow it
 * Precision   storage fp32, bf16 or fp16; the tables and the arithmetic are fp32, rounded once
 * Saved       nothing: the rotation is orthogonal, its inverse is the backward pass
 * Writes      q, k in place, in one launch. A position out of range: zeros in the channels of its row
 *             that would turn
 * Determinism bit-exact: every pair is written once
 * Limits      as many blocks as a grid holds, heads and d below 2^30; more returns UNSUPPORTED
 */
#include "common/rope.h"
#include "cuda/elementwise.cuh"

namespace oribi {
namespace {

/* Of a block, or fewer: 320 are all heads of a row of Llama 3 8B in bf16, a pair of packs each. Four such blocks in a
   multiprocessor leave 48 registers a thread; Turing holds three. */
constexpr int kThreads = 320;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
constexpr int kResident = 3;
#else
constexpr int kResident = 4;
#endif

constexpr int64_t kMostHeads = int64_t{1} << 30; /* and channels of one: counted in 32 bits, which spares registers */

template <class T>
struct Rope {
  T *q, *k;
  const float *cos, *sin;
  const int32_t* positions;
  oribi_rope_shape s;
  int half; /* pairs of a head that turn */
};

/* Both halves of the pairs of kWidth channels. Angles are taken from the cache 16 bytes at a time: all at once, they would cost
   registers, and so threads. */
template <class T, int kWidth>
__device__ void rotate(Pack<T, kWidth>& low, Pack<T, kWidth>& high, const float* cos, const float* sin, bool inverse) {
  constexpr int kAngles = kWidth < 4 ? kWidth : 4;
  using Angles = Pack<float, kAngles>;
#pragma unroll
  for (int first = 0; first < kWidth; first += kAngles) {
    const Angles cosine = *reinterpret_cast<const Angles*>(cos + first), sine = *reinterpret_cast<const Angles*>(sin + first);
#pragma unroll
    for (int e = 0; e < kAngles; e++) {
      T &x = low.element[first + e], &y = high.element[first + e];
      const float a = to_float(x), b = to_float(y), c = cosine.element[e], s = inverse ? -sine.element[e] : sine.element[e];
      x = from_float<T>(a * c - b * s);
      y = from_float<T>(b * c + a * s);
    }
  }
}

/* x: channels of a head, y: heads, z: rows. */
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads, kResident) rope_kernel(const Rope<T> r, int* fault) {
  using P = Pack<T, kWidth>;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.z + threadIdx.z;
  if (row >= r.s.n) return;
  const int position = r.positions[row], half = r.half, heads_of_q = static_cast<int>(r.s.h);
  const int heads = heads_of_q + static_cast<int>(r.s.h_kv);
  const bool inside = position >= 0 && position < r.s.max_position;
  T* const q = r.q + row * r.s.ld_q;
  T* const k = r.k + row * r.s.ld_k - r.s.h * r.s.d; /* where head 0 would be, if q's heads came first */
#pragma unroll 1
  for (int i = threadIdx.x * kWidth; i < half; i += blockDim.x * kWidth) {
#pragma unroll 1
    for (int head = threadIdx.y; head < heads; head += blockDim.y) {
      T* x = (head < heads_of_q ? q : k) + head * r.s.d + i;
      P low = *reinterpret_cast<const P*>(x), high = *reinterpret_cast<const P*>(x + half);
      /* The position is first looked at here, when the loads above are on their way. */
      if (inside) {
        const int64_t angle = static_cast<int64_t>(position) * half + i;
        rotate(low, high, r.cos + angle, r.sin + angle, r.s.inverse != 0);
        *reinterpret_cast<P*>(x) = low;
        *reinterpret_cast<P*>(x + half) = high;
      } else {
        *fault = kFaultRopePosition;
        *reinterpret_cast<P*>(x) = P{};
        *reinterpret_cast<P*>(x + half) = P{};
      }
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
  if (s.h + s.h_kv >= kMostHeads || s.d >= kMostHeads) {
    return fail(ctx, ORIBI_UNSUPPORTED, "oribi_rope: h + h_kv is %lld and d is %lld, on a GPU both must be below 2^30",
                static_cast<long long>(s.h + s.h_kv), static_cast<long long>(s.d));
  }
  const int half = static_cast<int>(rotated_of(s) / 2);
  const int64_t strides = half | s.d | (s.h > 0 ? s.ld_q : 0) | (s.h_kv > 0 ? s.ld_k : 0);
  const bool wide = aligned({s.h > 0 ? q : nullptr, s.h_kv > 0 ? k : nullptr}) && aligned({cos, sin}, 2 * kAccess);
  oribi_status status = ORIBI_OK;
  dispatch_pack(s.t, wide ? strides : 1, [&](auto type, auto width) {
    using T = decltype(type);
    status = launch<T, decltype(width)::value>(ctx, {static_cast<T*>(q), static_cast<T*>(k), cos, sin, positions, s, half});
  });
  return status;
}
