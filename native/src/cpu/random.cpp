/*
 * Math        word i of a stream is Philox(seed, stream, i / 4)[i % 4];  u = (word >> 8) / 2^24
 *             uniform: low + (high - low) * u
 *             normal, elements 2j and 2j+1 from words a, b: radius sqrt(-2 ln((a + 1/2) / 2^32)) times cos and sin of
 *             2 pi (b >> 8) / 2^24 (Box and Muller), then mean + std * z
 *             dropout: y = (accumulate ? y : 0) + x * (u >= p ? 1 / (1 - p) : 0)
 * Shapes      x, y (count)
 * Layout      any size
 * Precision   fp32, rounded once to the storage type: fp32, bf16 or fp16. Normal numbers reach 6.8 standard deviations
 * Saved       nothing: an element depends on seed, stream and its index alone
 * Writes      y = ; dropout may y +=
 * Determinism bit-exact for any number of threads
 * Limits      none
 */
#include <cmath>

#include "common/context.h"
#include "common/dtype.h"
#include "common/philox.h"
#include "cpu/parallel.h"
#include "cpu/vec.h"

namespace oribi {
namespace {

constexpr int64_t kCounters = 16;           /* made at once */
constexpr int64_t kBlock = 4 * kCounters;   /* elements at once; divides a chunk, so that chunks begin with a counter */
constexpr int64_t kChunk = 128 * kBlock;

void make_words(uint32_t* words, uint64_t seed, uint64_t stream, int64_t element) {
  const uint64_t first = static_cast<uint64_t>(element) / 4;
#pragma omp simd
  for (int64_t i = 0; i < kCounters; i++) {
    const PhiloxWords made = philox(seed, stream, first + static_cast<uint64_t>(i));
    words[4 * i] = made.word[0];
    words[4 * i + 1] = made.word[1];
    words[4 * i + 2] = made.word[2];
    words[4 * i + 3] = made.word[3];
  }
}

void make_uniforms(float* u, uint64_t seed, uint64_t stream, int64_t element) {
  uint32_t words[kBlock];
  make_words(words, seed, stream, element);
#pragma omp simd
  for (int64_t i = 0; i < kBlock; i++) u[i] = philox_uniform(words[i]);
}

void make_normals(float* z, uint64_t seed, uint64_t stream, int64_t element) {
  uint32_t words[kBlock];
  make_words(words, seed, stream, element);
#pragma omp simd
  for (int64_t i = 0; i < kBlock / 2; i++) {
    const float radius = std::sqrt(-2.0f * vlog(static_cast<float>(words[2 * i]) * 0x1p-32f + 0x1p-33f));
    float sine, cosine;
    vsincos_turn(philox_uniform(words[2 * i + 1]), sine, cosine);
    z[2 * i] = radius * cosine;
    z[2 * i + 1] = radius * sine;
  }
}

/* make(numbers, element) for blocks of [0, count), then use(element, numbers, how many of them are in range). */
template <class Make, class Use>
void for_each_block(const oribi_ctx* ctx, int64_t count, Make&& make, Use&& use) {
  parallel_ranges(ctx, count, kChunk, [&](int64_t begin, int64_t end) {
    for (int64_t element = begin; element < end; element += kBlock) {
      float numbers[kBlock];
      make(numbers, element);
      use(element, numbers, std::min(kBlock, end - element));
    }
  });
}

template <class T>
void dropout_block(T* y, const T* x, const float* u, int64_t length, float p, bool accumulate) {
  const float scale = 1.0f / (1.0f - p);
  if (accumulate) {
#pragma omp simd
    for (int64_t i = 0; i < length; i++) {
      y[i] = from_float<T>(to_float(y[i]) + to_float(x[i]) * (u[i] >= p ? scale : 0.0f));
    }
  } else {
#pragma omp simd
    for (int64_t i = 0; i < length; i++) y[i] = from_float<T>(to_float(x[i]) * (u[i] >= p ? scale : 0.0f));
  }
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_random_uniform(oribi_ctx* ctx, void* y, int64_t count, float low, float high, uint64_t seed,
                                             uint64_t stream, oribi_dtype t) {
  Check check(ctx, "oribi_random_uniform");
  check.size("count", count).elements("y", count, 1).dtype("t", t).pointer("y", y, count);
  check.that(std::isfinite(low) && std::isfinite(high) && low <= high, "low %g and high %g, expected finite, low <= high",
             low, high);
  if (!check.ok()) return check.status();
  dispatch(t, [&](auto type) {
    using T = decltype(type);
    for_each_block(
        ctx, count, [=](float* u, int64_t element) { make_uniforms(u, seed, stream, element); },
        [=](int64_t element, const float* u, int64_t length) {
          T* out = static_cast<T*>(y) + element;
          for (int64_t i = 0; i < length; i++) out[i] = from_float<T>(low + (high - low) * u[i]);
        });
  });
  return ORIBI_OK;
}

extern "C" oribi_status oribi_random_normal(oribi_ctx* ctx, void* y, int64_t count, float mean, float std, uint64_t seed,
                                            uint64_t stream, oribi_dtype t) {
  Check check(ctx, "oribi_random_normal");
  check.size("count", count).elements("y", count, 1).dtype("t", t).pointer("y", y, count);
  check.that(std::isfinite(mean) && std >= 0 && std::isfinite(std), "mean %g and std %g, expected finite, std >= 0", mean,
             std);
  if (!check.ok()) return check.status();
  dispatch(t, [&](auto type) {
    using T = decltype(type);
    for_each_block(
        ctx, count, [=](float* z, int64_t element) { make_normals(z, seed, stream, element); },
        [=](int64_t element, const float* z, int64_t length) {
          T* out = static_cast<T*>(y) + element;
          for (int64_t i = 0; i < length; i++) out[i] = from_float<T>(mean + std * z[i]);
        });
  });
  return ORIBI_OK;
}

extern "C" oribi_status oribi_dropout(oribi_ctx* ctx, void* y, const void* x, int64_t count, float p, uint64_t seed,
                                      uint64_t stream, int32_t accumulate, oribi_dtype t) {
  Check check(ctx, "oribi_dropout");
  check.size("count", count).elements("y", count, 1).dtype("t", t).pointer("y", y, count).pointer("x", x, count);
  check.that(p >= 0 && p < 1, "p is %g, expected 0 <= p < 1", p);
  if (!check.ok()) return check.status();
  dispatch(t, [&](auto type) {
    using T = decltype(type);
    for_each_block(
        ctx, count, [=](float* u, int64_t element) { make_uniforms(u, seed, stream, element); },
        [=](int64_t element, const float* u, int64_t length) {
          dropout_block(static_cast<T*>(y) + element, static_cast<const T*>(x) + element, u, length, p, accumulate != 0);
        });
  });
  return ORIBI_OK;
}
