/*
 * Math        as adamw, with m = signed map[m8] * m_max and v = unsigned map[v8] * v_max of the block; after the update
 *             m_max = max |m|, v_max = max v, m8 and v8 the nearest codes of m / m_max and v / v_max
 * Shapes      p, p16, m8, v8, g (count)  m_max, v_max (ceil(count/256))
 * Layout      any count; blocks of 256 elements, the last one shorter
 * Precision   fp32; p moves by the moments before they are rounded to 8 bits. Rounding never turns the sign of m: a small
 *             negative m gets the code below zero's, as in bitsandbytes
 * Saved       m8, v8, m_max, v_max from step to step
 * Writes      p, m8, v8, m_max, v_max in place; p16 =
 * Determinism bit-exact for any number of threads: a block belongs to one thread
 * Limits      an element whose gradient is not finite keeps its p and loses its moments, as in bitsandbytes
 */
#include <cfloat>
#include <cmath>

#include "common/adamw.h"
#include "common/context.h"
#include "common/dtype.h"
#include "common/dynamic_map.h"
#include "cpu/parallel.h"

namespace oribi {
namespace {

constexpr DynamicMap kSigned = make_dynamic_map(true);
constexpr DynamicMap kUnsigned = make_dynamic_map(false);

/* Nearest codes of x * inverse, all elements a step of the search at a time: dynamic_code for vectors. */
void find_codes(int32_t* code, const DynamicMap& map, const float* x, float inverse, int64_t count) {
  for (int64_t i = 0; i < count; i++) code[i] = 0;
  for (int32_t step = 128; step > 1; step /= 2) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++) code[i] += x[i] * inverse >= map.between[code[i] + step - 1] ? step : 0;
  }
#pragma omp simd
  for (int64_t i = 0; i < count; i++) code[i] += x[i] * inverse > map.between[code[i]] ? 1 : 0;
}

/* 0 for a block of zeros, or of numbers whose reciprocal would overflow: they become zeros. */
float inverse_of(float largest) { return largest >= FLT_MIN ? 1.0f / largest : 0.0f; }

float largest_of(const float* x, int64_t count) {
  float largest = 0;
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < count; i++) largest = std::fabs(x[i]) > largest ? std::fabs(x[i]) : largest;
  return largest;
}

/* One block of at most 256 elements. */
void update_block(float* p, uint8_t* m8, uint8_t* v8, float* m_max, float* v_max, const float* g, float scale,
                  const AdamwScalars& s, int64_t count) {
  float m[kAdamw8Block] = {}, v[kAdamw8Block] = {};
  int32_t code[kAdamw8Block];
#pragma omp simd
  for (int64_t i = 0; i < count; i++) {
    const float gradient = g[i] * scale;
    const float old_m = kSigned.value[m8[i]] * *m_max, old_v = kUnsigned.value[v8[i]] * *v_max;
    const float new_m = old_m + s.rest1 * (gradient - old_m);
    const float new_v = s.beta2 * old_v + s.rest2 * gradient * gradient;
    const float new_p = p[i] * s.decay - s.step_size * (new_m / (std::sqrt(new_v) / s.correction2_root + s.epsilon));
    const bool finite = std::fabs(g[i]) <= FLT_MAX;
    m[i] = finite ? new_m : 0.0f;
    v[i] = finite ? new_v : 0.0f;
    p[i] = finite ? new_p : p[i];
  }
  *m_max = largest_of(m, count);
  *v_max = largest_of(v, count);
  find_codes(code, kSigned, m, inverse_of(*m_max), count);
  for (int64_t i = 0; i < count; i++) {
    if (m[i] < 0 && code[i] >= kSignedZero) code[i] = kSignedZero - 1;
    if (m[i] > 0 && code[i] < kSignedZero) code[i] = kSignedZero + 1;
    m8[i] = static_cast<uint8_t>(code[i]);
  }
  find_codes(code, kUnsigned, v, inverse_of(*v_max), count);
  for (int64_t i = 0; i < count; i++) v8[i] = static_cast<uint8_t>(code[i]);
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_adamw8(oribi_ctx* ctx, float* p, void* p16, uint8_t* m8, uint8_t* v8, float* m_max,
                                     float* v_max, const float* g, const float* grad_scale, const oribi_adamw_hyper* hyper,
                                     int64_t count, oribi_dtype t16) {
  Check check(ctx, "oribi_adamw8");
  check_adamw(check, p, m8, v8, g, hyper, count, t16);
  check.pointer("m_max", m_max, count).pointer("v_max", v_max, count);
  check_hyper(check, hyper);
  if (!check.ok()) return check.status();
  const AdamwScalars scalars = adamw_scalars(*hyper);
  const float scale = grad_scale == nullptr ? 1.0f : *grad_scale;
  dispatch(t16, [&](auto type) {
    using T = decltype(type);
    T* rounded = static_cast<T*>(p16);
    parallel_ranges(ctx, count, kChunkElements, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i += kAdamw8Block) {
        const int64_t block = i / kAdamw8Block;
        update_block(p + i, m8 + i, v8 + i, m_max + block, v_max + block, g + i, scale, scalars,
                     std::min(kAdamw8Block, end - i));
      }
      if (rounded == nullptr) return;
#pragma omp simd
      for (int64_t i = begin; i < end; i++) rounded[i] = from_float<T>(p[i]);
    });
  });
  return ORIBI_OK;
}
