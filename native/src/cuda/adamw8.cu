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
#include "common/dynamic_map.h"
#include "cuda/adamw.cuh"
#include "cuda/context.cuh"
#include "cuda/vector.cuh"

namespace oribi {
namespace {

constexpr int kThreads = 256;
constexpr int kEach = 8; /* elements of a lane: a warp holds one block of 256 in registers and needs no barrier */

__device__ const DynamicMap kSigned = make_dynamic_map(true);
__device__ const DynamicMap kUnsigned = make_dynamic_map(false);

/* Both maps in shared memory: lanes read different entries. */
struct Maps {
  float m[256], v[256], between_m[256], between_v[256];

  __device__ void fill() {
    for (int i = threadIdx.x; i < 256; i += kThreads) {
      m[i] = kSigned.value[i];
      v[i] = kUnsigned.value[i];
      between_m[i] = i < 255 ? kSigned.between[i] : 0;
      between_v[i] = i < 255 ? kUnsigned.between[i] : 0;
    }
  }
};

__device__ inline float warp_max(float x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
  return x;
}

/* 0 for a block of zeros, or of numbers whose reciprocal would overflow: they become zeros. */
__device__ inline float inverse_of(float largest) { return largest >= FLT_MIN ? 1.0f / largest : 0.0f; }

/* One block of 256 elements by one warp; lane's elements are i .. i + 8. kFull: all of them exist. */
template <class T, bool kFull>
__device__ void update_block(float* p, T* p16, uint8_t* m8, uint8_t* v8, float& m_max, float& v_max, const float* g,
                             float scale, const AdamwScalars& s, const Maps& maps, int64_t i, int64_t count) {
  using Codes = Pack<uint8_t, kEach>;
  using Halves = Pack<T, kEach * sizeof(T) <= 16 ? kEach : kEach / 2>;
  struct Floats {
    Pack<float, 4> half[2];
    __device__ float& operator[](int k) { return half[k / 4].element[k % 4]; }
  } a{}, d{};
  Codes codes_m{}, codes_v{};
  if constexpr (kFull) {
    for (int h = 0; h < 2; h++) {
      a.half[h] = reinterpret_cast<const Pack<float, 4>*>(p + i)[h];
      d.half[h] = reinterpret_cast<const Pack<float, 4>*>(g + i)[h];
    }
    codes_m = *reinterpret_cast<const Codes*>(m8 + i);
    codes_v = *reinterpret_cast<const Codes*>(v8 + i);
  } else {
    for (int k = 0; k < kEach; k++) {
      if (i + k >= count) break;
      a[k] = p[i + k], d[k] = g[i + k], codes_m.element[k] = m8[i + k], codes_v.element[k] = v8[i + k];
    }
  }
  const float old_m = m_max, old_v = v_max;
  float m[kEach], v[kEach], largest_m = 0, largest_v = 0;
#pragma unroll
  for (int k = 0; k < kEach; k++) {
    const float gradient = d[k] * scale;
    const bool exists = kFull || i + k < count;
    m[k] = maps.m[codes_m.element[k]] * old_m;
    v[k] = maps.v[codes_v.element[k]] * old_v;
    m[k] += s.rest1 * (gradient - m[k]);
    v[k] = s.beta2 * v[k] + s.rest2 * gradient * gradient;
    const bool finite = exists && isfinite(d[k]);
    if (finite) a[k] = a[k] * s.decay - s.step_size * (m[k] / (sqrtf(v[k]) / s.correction2_root + s.epsilon));
    m[k] = finite ? m[k] : 0;
    v[k] = finite ? v[k] : 0;
    largest_m = fmaxf(largest_m, fabsf(m[k]));
    largest_v = fmaxf(largest_v, v[k]);
  }
  largest_m = warp_max(largest_m); /* a barrier of the warp: all lanes have read the old maxima */
  largest_v = warp_max(largest_v);
  const float inverse_m = inverse_of(largest_m), inverse_v = inverse_of(largest_v);
#pragma unroll
  for (int k = 0; k < kEach; k++) {
    int code = dynamic_code(maps.between_m, m[k] * inverse_m);
    if (m[k] < 0 && code >= kSignedZero) code = kSignedZero - 1;
    if (m[k] > 0 && code < kSignedZero) code = kSignedZero + 1;
    codes_m.element[k] = static_cast<uint8_t>(code);
    codes_v.element[k] = static_cast<uint8_t>(dynamic_code(maps.between_v, v[k] * inverse_v));
  }
  if (threadIdx.x % 32 == 0) m_max = largest_m, v_max = largest_v;
  if constexpr (kFull) {
    for (int h = 0; h < 2; h++) reinterpret_cast<Pack<float, 4>*>(p + i)[h] = a.half[h];
    *reinterpret_cast<Codes*>(m8 + i) = codes_m;
    *reinterpret_cast<Codes*>(v8 + i) = codes_v;
    if (p16 == nullptr) return;
    constexpr int kWide = sizeof(Halves) / sizeof(T);
#pragma unroll
    for (int h = 0; h < kEach / kWide; h++) {
      Halves rounded;
      for (int k = 0; k < kWide; k++) rounded.element[k] = from_float<T>(a[h * kWide + k]);
      reinterpret_cast<Halves*>(p16 + i)[h] = rounded;
    }
  } else {
    for (int k = 0; k < kEach; k++) {
      if (i + k >= count) break;
      p[i + k] = a[k], m8[i + k] = codes_m.element[k], v8[i + k] = codes_v.element[k];
      if (p16 != nullptr) p16[i + k] = from_float<T>(a[k]);
    }
  }
}

/* As many blocks as run at once: each fills its maps and works out the scalars once. */
template <class T>
__global__ void __launch_bounds__(kThreads) adamw8_kernel(float* p, T* p16, uint8_t* m8, uint8_t* v8, float* m_max,
                                                          float* v_max, const float* g, const float* grad_scale,
                                                          const oribi_adamw_hyper* hyper, int64_t count) {
  __shared__ Maps maps;
  maps.fill();
  const AdamwScalars s = block_scalars(hyper); /* its barriers are the maps' as well */
  const float scale = grad_scale == nullptr ? 1.0f : *grad_scale;
  const int64_t warps = static_cast<int64_t>(gridDim.x) * (kThreads / 32), lane = threadIdx.x % 32;
  for (int64_t block = blockIdx.x * int64_t{kThreads / 32} + threadIdx.x / 32; block * kAdamw8Block < count; block += warps) {
    const int64_t i = block * kAdamw8Block + lane * kEach;
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
