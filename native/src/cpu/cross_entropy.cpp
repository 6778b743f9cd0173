/*
 * Math        z = logits * logit_scale, then softcap * tanh(z / softcap) unless softcap is 0
 *             lse = max(z) + log(sum of exp(z - max));  loss = lse - z[label]
 *             dlogits = (exp(z - lse) - onehot(label)) * grad_scale * dz/dlogits
 * Shapes      logits, dlogits (N,V)  labels, loss (N)  grad_scale (1)
 * Layout      row-major, any V; dlogits may be logits
 * Precision   storage fp32, bf16 or fp16, arithmetic fp32; sums of exp fp32 over kBlock elements, then double. The loss is
 *             (max - z[label]) + log(sum), so that logits of 1e4 lose nothing to the subtraction
 * Saved       nothing: gradient and loss come from one call
 * Writes      dlogits =, loss =; both 0 where label < 0. A NaN or +infinity in a row makes its loss NaN
 * Determinism bit-exact for any number of threads: a row belongs to one thread
 * Limits      none
 */
#include "common/cross_entropy.h"

#include <cfloat>
#include <cmath>

#include "common/context.h"
#include "common/dtype.h"
#include "cpu/parallel.h"
#include "cpu/vec.h"

namespace oribi {
namespace {

/* 4096 positive terms summed in fp32 lanes of kLanes are off by a few units in the last place at most. */
constexpr int64_t kBlock = 4096;

/* NaN is passed over here: it turns up in the sum. */
float row_max(const float* x, int64_t v) {
  vfloat largest[4];
  for (vfloat& lane : largest) lane = vset(-INFINITY);
  int64_t j = 0;
  for (; j + 4 * kLanes <= v; j += 4 * kLanes)
    for (int64_t i = 0; i < 4; i++) {
      const vfloat y = vload(x + j + i * kLanes);
      largest[i] = y > largest[i] ? y : largest[i];
    }
  float most = -INFINITY;
  for (const vfloat& lane : largest) most = std::fmax(most, vmax(lane));
  for (; j < v; j++) most = x[j] > most ? x[j] : most;
  return most;
}

/* Sum of exp(x - max) over at most kBlock elements; e: NULL, or where the terms go, which may be x. */
float block_sum(float* e, const float* x, float max, int64_t count) {
  vfloat sum[2] = {};
  int64_t j = 0;
  for (; j + 2 * kLanes <= count; j += 2 * kLanes)
    for (int64_t i = 0; i < 2; i++) {
      const vfloat term = vexp(vload(x + j + i * kLanes) - max);
      if (e != nullptr) vstore(e + j + i * kLanes, term);
      sum[i] += term;
    }
  float total = vsum(sum[0] + sum[1]);
  for (; j < count; j++) {
    const float term = vexp(x[j] - max);
    if (e != nullptr) e[j] = term;
    total += term;
  }
  return total;
}

/* Plain fp32 rows, in three passes: the maximum; the terms and their sum; the terms times one factor. The terms wait in dx, so
   that each exponential is taken once. */
float plain_row(float* dx, const float* x, int64_t label, float grad_scale, int64_t v) {
  const float max = row_max(x, v);
  const double distance = static_cast<double>(max) - x[label]; /* before dx, which may be x, is written */
  double sum = 0;
  for (int64_t j = 0; j < v; j += kBlock)
    sum += block_sum(dx == nullptr ? nullptr : dx + j, x + j, max, std::min(kBlock, v - j));
  if (dx != nullptr) {
    const float factor = static_cast<float>(grad_scale / sum);
    const double softmax = dx[label] / sum;
#pragma omp simd
    for (int64_t j = 0; j < v; j++) dx[j] *= factor;
    dx[label] = static_cast<float>((softmax - 1) * grad_scale);
  }
  return static_cast<float>(distance + std::log(sum));
}

/* ------------------------------------------------------------------------------------ other types, scaled, soft-capped */

/* What every row has in common. */
struct Transform {
  float scale, softcap;
};

/* tanh within 3 ulp: a polynomial near 0, where 1 - 2 / (e^2x + 1) would cancel. */
template <class F>
F tanh_of(F x) {
  const F a = vabs(x), x2 = x * x;
  F p = x2 * -5.70498872745e-3f + 2.06390887954e-2f;
  p = p * x2 - 5.37397155531e-2f;
  p = p * x2 + 1.33314422036e-1f;
  p = p * x2 - 3.33332819422e-1f;
  const F near = p * x2 * x + x;
  const F far = 1.0f - 2.0f / (vexp(a + a) + 1.0f);
  return a < 0.625f ? near : vcopysign(far, x);
}

float transformed(float logit, Transform f) {
  const float z = logit * f.scale;
  return f.softcap == 0 ? z : f.softcap * tanh_of(z / f.softcap);
}

/* z of at most kBlock logits, padded with -infinity to whole vectors; returns how many that makes. */
template <class T>
int64_t load_block(float* z, const T* x, int64_t count, Transform f) {
#pragma omp simd
  for (int64_t j = 0; j < count; j++) z[j] = to_float(x[j]) * f.scale;
  int64_t padded = count;
  for (; padded % kLanes != 0; padded++) z[padded] = -INFINITY;
  if (f.softcap != 0) {
    for (int64_t j = 0; j < padded; j += kLanes) vstore(z + j, f.softcap * tanh_of(vload(z + j) / f.softcap));
    for (int64_t j = count; j < padded; j++) z[j] = -INFINITY;
  }
  return padded;
}

/* The running maximum and the sum of exp(z - max). The maximum begins finite, so that -infinity - max is no NaN. */
struct Running {
  float max = -FLT_MAX;
  double sum = 0;
};

/* NaN is passed over by the maximum: it turns up in the sum. */
void add_block(Running& running, const float* z, int64_t padded) {
  const float most = row_max(z, padded);
  if (most > running.max) {
    running.sum *= std::exp(static_cast<double>(running.max) - most);
    running.max = most;
  }
  running.sum += block_sum(nullptr, z, running.max, padded);
}

template <class T>
void gradient_block(T* dx, float* z, int64_t count, int64_t padded, float max, float factor, Transform f) {
  for (int64_t j = 0; j < padded; j += kLanes) {
    const vfloat value = vload(z + j), term = vexp(value - max) * factor;
    if (f.softcap == 0) {
      vstore(z + j, term);
    } else {
      const vfloat t = value / f.softcap;
      vstore(z + j, term * (1.0f - t * t));
    }
  }
#pragma omp simd
  for (int64_t j = 0; j < count; j++) dx[j] = from_float<T>(z[j]);
}

/* Two passes over the row, block by block in a buffer of fp32: maximum and sum together, then the gradient. */
template <class T>
float general_row(T* dx, const T* x, int64_t label, float grad_scale, int64_t v, Transform f) {
  float z[kBlock];
  const float of_label = transformed(to_float(x[label]), f); /* before dx, which may be x, is written */
  Running running;
  for (int64_t j = 0; j < v; j += kBlock) add_block(running, z, load_block(z, x + j, std::min(kBlock, v - j), f));
  const double distance = static_cast<double>(running.max) - of_label;
  if (dx != nullptr) {
    const float factor = static_cast<float>(grad_scale * static_cast<double>(f.scale) / running.sum);
    for (int64_t j = 0; j < v; j += kBlock) {
      const int64_t count = std::min(kBlock, v - j), padded = load_block(z, x + j, count, f);
      gradient_block(dx + j, z, count, padded, running.max, factor, f);
    }
    const double t = f.softcap == 0 ? 0 : of_label / f.softcap;
    const double softmax = std::exp(-distance) / running.sum;
    dx[label] = from_float<T>(static_cast<float>((softmax - 1) * grad_scale * f.scale * (1 - t * t)));
  }
  return static_cast<float>(distance + std::log(running.sum));
}

inline float row_of(float* dx, const float* x, int64_t label, float grad_scale, int64_t v, Transform f) {
  if (f.scale == 1 && f.softcap == 0) return plain_row(dx, x, label, grad_scale, v);
  return general_row(dx, x, label, grad_scale, v, f);
}

template <class T>
float row_of(T* dx, const T* x, int64_t label, float grad_scale, int64_t v, Transform f) {
  return general_row(dx, x, label, grad_scale, v, f);
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_cross_entropy(oribi_ctx* ctx, void* dlogits, float* loss, const void* logits,
                                            const int32_t* labels, const float* grad_scale, int64_t n, int64_t v,
                                            float logit_scale, float softcap, oribi_dtype t) {
  Check check(ctx, "oribi_cross_entropy");
  check.size("n", n).size("v", v, 1).elements("logits", n, v).dtype("t", t);
  check_logits(check, logit_scale, softcap);
  check.pointer("loss", loss, n).pointer("logits", logits, n).pointer("labels", labels, n);
  check.pointer("grad_scale", grad_scale, dlogits == nullptr ? 0 : n);
  for (int64_t i = 0; i < n && check.ok(); i++)
    check.that(labels[i] < v, "labels[%lld] must be below v = %lld, found %d", static_cast<long long>(i),
               static_cast<long long>(v), labels[i]);
  if (!check.ok()) return check.status();
  dispatch(t, [&](auto type) {
    using T = decltype(type);
    T* gradients = static_cast<T*>(dlogits);
    parallel_for(ctx, n, [&](int64_t i) {
      T* dx = gradients == nullptr ? nullptr : gradients + i * v;
      if (labels[i] < 0) {
        loss[i] = 0;
        if (dx != nullptr) std::fill(dx, dx + v, from_float<T>(0));
      } else {
        loss[i] = row_of(dx, static_cast<const T*>(logits) + i * v, labels[i], dx == nullptr ? 0.0f : *grad_scale, v,
                         Transform{logit_scale, softcap});
      }
    });
  });
  return ORIBI_OK;
}
