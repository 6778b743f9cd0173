/*
 * Math        lse = max(x) + log(sum of exp(x - max));  loss = lse - x[label]
 *             dx = (exp(x - lse) - onehot(label)) * grad_scale
 * Shapes      logits, dlogits (N,V)  labels, loss (N)
 * Layout      row-major, any V; dlogits may be logits
 * Precision   fp32; sums of exp fp32 over kBlock elements, then double. The loss is (max - x[label]) + log(sum), so
 *             that logits of 1e4 lose nothing to the subtraction
 * Saved       nothing: gradient and loss come from one call
 * Writes      dlogits =, loss =; both 0 where label < 0. A NaN or +infinity in a row makes its loss NaN
 * Determinism bit-exact for any number of threads: a row belongs to one thread
 * Limits      none
 */
#include <cmath>

#include "common/context.h"
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

/* Three passes over the row: the maximum; the terms and their sum; the terms times one factor. */
float cross_entropy_row(float* dx, const float* x, int64_t label, float grad_scale, int64_t v) {
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

}  // namespace
}  // namespace oribi

extern "C" oribi_status oribi_cross_entropy(oribi_ctx* ctx, void* dlogits_of_t, float* loss, const void* logits_of_t,
                                            const int32_t* labels, const float* grad_scale, int64_t n, int64_t v,
                                            float logit_scale, float softcap, oribi_dtype t) {
  float* dlogits = static_cast<float*>(dlogits_of_t);
  const float* logits = static_cast<const float*>(logits_of_t);
  oribi::Check check(ctx, "oribi_cross_entropy");
  if (t != ORIBI_F32 || logit_scale != 1 || softcap != 0)
    return oribi::fail(ctx, ORIBI_UNSUPPORTED, "oribi_cross_entropy: fp32 without scale or softcap only");
  check.size("n", n).size("v", v, 1).elements("logits", n, v);
  check.pointer("loss", loss, n).pointer("logits", logits, n).pointer("labels", labels, n);
  check.pointer("grad_scale", grad_scale, dlogits == nullptr ? 0 : n);
  for (int64_t i = 0; i < n && check.ok(); i++)
    check.that(labels[i] < v, "labels[%lld] must be below v = %lld, found %d", static_cast<long long>(i),
               static_cast<long long>(v), labels[i]);
  if (!check.ok()) return check.status();
  oribi::parallel_for(ctx, n, [&](int64_t i) {
    float* dx = dlogits == nullptr ? nullptr : dlogits + i * v;
    if (labels[i] < 0) {
      loss[i] = 0;
      if (dx != nullptr) std::fill(dx, dx + v, 0.0f);
    } else {
      loss[i] = oribi::cross_entropy_row(dx, logits + i * v, labels[i], dx == nullptr ? 0.0f : *grad_scale, v);
    }
  });
  return ORIBI_OK;
}
