/*
 * Math        as adamw, with m = signed map[m8] * m_max and v = unsigned map[v8] * v_max of the block; after the update
 *             m_max = max |m|, v_max = max v, m8 and v8 the nearest codes of m / m_max and v / v_max
 * Shapes      p, p16, m8, v8, g (count)  m_max, v_max (ceil(count/256))
 * Layout      any count; blocks of 256 elements, the last one shorter; 16-byte aligned
 * Precision   fp32; p moves by the moments before they are rounded to 8 bits. Rounding never turns the sign of m: a small
 *             negative m gets the code below zero's, as in bitsandbytes
 * Saved       m8, v8, m_max, v_max from step to step
 * Writes      p, m8, v8, m_max, v_max in place; p16 =
 * Determinism bit-exact on one GPU
 * Limits      an element whose gradient is not finite keeps its p and loses its moments, as in bitsandbytes; hyper and
 *             grad_scale are read on the device: their ranges are not checked here
 */
#include <cfloat>

#include "common/adamw.h"
#include "cuda/adamw.cuh"
#include "cuda/context.cuh"
#include "cuda/dynamic_bins.cuh"
#include "cuda/vector.cuh"

namespace oribi {
namespace {

constexpr int kThreads = 256;
constexpr int kEach = 8; /* elements of a lane: a warp holds one block of 256 in registers and needs no barrier */

using BinsM = DynamicBins<true, 6>;
using BinsV = DynamicBins<false, 7>;
static_assert(bins_hold_one<true, 6>() && bins_hold_one<false, 7>(), "one comparison decides");
__device__ const BinsM kBinsM = make_dynamic_bins<true, 6>();
__device__ const BinsV kBinsV = make_dynamic_bins<false, 7>();

/* Both maps in shared memory: lanes read different entries. */
struct Maps {
  BinsM m;
  BinsV v;
};

/* Rounding never turns the sign: a small negative moment gets the code below zero's. There is no -1. */
__device__ inline uint8_t code_of_m(const Maps& maps, float m, float inverse) {
  const int d = maps.m.magnitude(fabsf(m * inverse));
  return static_cast<uint8_t>(m < 0 ? kSignedZero - min(max(d, 1), kSignedZero) : kSignedZero + d);
}

__device__ inline float warp_max(float x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
  return x;
}

/* 0 for a block of zeros, or of numbers whose reciprocal would overflow: they become zeros. */
__device__ inline float inverse_of(float largest) { return largest >= FLT_MIN ? 1.0f / largest : 0.0f; }

/* A lane's eight elements are two runs of four, 128 apart: each access of the warp is one stretch of memory. Runs of eight would
   write half a sector at a time. */
constexpr int kRun = 4, kApart = 32 * kRun;
__device__ inline int64_t place(int64_t i, int k) { return i + k / kRun * kApart + k % kRun; }

/* The eight elements of a lane in an array, moved a run at a time where all of them exist. */
template <class T>
struct Lane {
  Pack<T, kRun> run[kEach / kRun];

  __device__ T& operator[](int k) { return run[k / kRun].element[k % kRun]; }
  template <bool kFull>
  __device__ void load(const T* p, int64_t i, int64_t count) {
    if constexpr (kFull) {
      for (int r = 0; r < kEach / kRun; r++) run[r] = *reinterpret_cast<const Pack<T, kRun>*>(p + i + r * kApart);
    } else {
      for (int k = 0; k < kEach; k++) (*this)[k] = place(i, k) < count ? p[place(i, k)] : T{};
    }
  }
  template <bool kFull>
  __device__ void store(T* p, int64_t i, int64_t count) {
    if constexpr (kFull) {
      for (int r = 0; r < kEach / kRun; r++) *reinterpret_cast<Pack<T, kRun>*>(p + i + r * kApart) = run[r];
    } else {
      for (int k = 0; k < kEach; k++) {
        if (place(i, k) < count) p[place(i, k)] = (*this)[k];
      }
    }
  }
};

/* One block of 256 elements by one warp; the lane's first element is i. kFull: all of them exist. */
template <class T, bool kFull>
__device__ void update_block(float* p, T* p16, uint8_t* m8, uint8_t* v8, float& m_max, float& v_max, const float* g,
                             float scale, const AdamwScalars& s, const Maps& maps, int64_t i, int64_t count) {
  Lane<float> a, d;
  Lane<uint8_t> codes_m, codes_v;
  a.load<kFull>(p, i, count);
  d.load<kFull>(g, i, count);
  codes_m.load<kFull>(m8, i, count);
  codes_v.load<kFull>(v8, i, count);
  const float old_m = m_max, old_v = v_max;
  float m[kEach], v[kEach], largest_m = 0, largest_v = 0;
#pragma unroll
  for (int k = 0; k < kEach; k++) {
    const float gradient = d[k] * scale;
    m[k] = maps.m.value[codes_m[k]] * old_m;
    v[k] = maps.v.value[codes_v[k]] * old_v;
    m[k] += s.rest1 * (gradient - m[k]);
    v[k] = s.beta2 * v[k] + s.rest2 * gradient * gradient;
    const bool finite = isfinite(d[k]) && (kFull || place(i, k) < count);
    if (finite) a[k] = a[k] * s.decay - s.step_size * (m[k] / (sqrtf(v[k]) / s.correction2_root + s.epsilon));
    m[k] = finite ? m[k] : 0;
    v[k] = finite ? v[k] : 0;
    largest_m = fmaxf(largest_m, fabsf(m[k]));
    largest_v = fmaxf(largest_v, v[k]);
  }
  largest_m = warp_max(largest_m); /* a barrier of the warp: all lanes have read the old maxima */
  largest_v = warp_max(largest_v);
  const float inverse_m = inverse_of(largest_m), inverse_v = inverse_of(largest_v);
  Lane<T> rounded;
#pragma unroll
  for (int k = 0; k < kEach; k++) {
    codes_m[k] = code_of_m(maps, m[k], inverse_m);
    codes_v[k] = static_cast<uint8_t>(maps.v.magnitude(v[k] * inverse_v));
    rounded[k] = from_float<T>(a[k]);
  }
  if (threadIdx.x % 32 == 0) m_max = largest_m, v_max = largest_v;
  a.store<kFull>(p, i, count);
  codes_m.store<kFull>(m8, i, count);
  codes_v.store<kFull>(v8, i, count);
  if (p16 != nullptr) rounded.template store<kFull>(p16, i, count);
}

/* As many blocks as run at once: each fills its maps and works out the scalars once. */
template <class T>
__global__ void __launch_bounds__(kThreads) adamw8_kernel(float* p, T* p16, uint8_t* m8, uint8_t* v8, float* m_max,
                                                          float* v_max, const float* g, const float* grad_scale,
                                                          const oribi_adamw_hyper* hyper, int64_t count) {
  __shared__ Maps maps;
  maps.m.fill(kBinsM, kThreads);
  maps.v.fill(kBinsV, kThreads);
  const AdamwScalars s = block_scalars(hyper); /* its barriers are the maps' as well */
  const float scale = grad_scale == nullptr ? 1.0f : *grad_scale;
  const int64_t warps = static_cast<int64_t>(gridDim.x) * (kThreads / 32), lane = threadIdx.x % 32;
  for (int64_t block = blockIdx.x * int64_t{kThreads / 32} + threadIdx.x / 32; block * kAdamw8Block < count; block += warps) {
    const int64_t i = block * kAdamw8Block + lane * kRun;
    if ((block + 1) * kAdamw8Block <= count) {
      update_block<T, true>(p, p16, m8, v8, m_max[block], v_max[block], g, scale, s, maps, i, count);
    } else {
      update_block<T, false>(p, p16, m8, v8, m_max[block], v_max[block], g, scale, s, maps, i, count);
    }
  }
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_adamw8(oribi_ctx* ctx, float* p, void* p16, uint8_t* m8, uint8_t* v8, float* m_max,
                                     float* v_max, const float* g, const float* grad_scale, const oribi_adamw_hyper* hyper,
                                     int64_t count, oribi_dtype t16) {
  const char* const function = "oribi_adamw8";
  Check check(ctx, function);
  check_adamw(check, p, m8, v8, g, hyper, count, t16);
  check.pointer("m_max", m_max, count).pointer("v_max", v_max, count);
  if (!check.ok() || count == 0) return check.status();
  const oribi_status status = select_device(ctx, function);
  if (status != ORIBI_OK) return status;
  constexpr int64_t kOfBlock = kThreads * kEach;
  dispatch_pack(t16, 1, [&](auto type, auto) {
    using T = decltype(type);
    const unsigned blocks = resident_blocks(ctx, adamw8_kernel<T>, kThreads, (count + kOfBlock - 1) / kOfBlock);
    adamw8_kernel<<<blocks, kThreads, 0, stream_of(ctx)>>>(p, static_cast<T*>(p16), m8, v8, m_max, v_max, g, grad_scale,
                                                           hyper, count);
  });
  return launch_status(ctx, function);
}
