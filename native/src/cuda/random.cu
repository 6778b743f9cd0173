/*
 * Math        word i of a stream is Philox(seed, stream, i / 4)[i % 4];  u = (word >> 8) / 2^24
 *             uniform: low + (high - low) * u
 *             normal, elements 2j and 2j+1 from words a, b: radius sqrt(-2 ln((a + 1/2) / 2^32)) times cos and sin of
 *             2 pi (b >> 8) / 2^24 (Box and Muller), then mean + std * z
 *             dropout: y = (accumulate ? y : 0) + x * (u >= p ? 1 / (1 - p) : 0)
 * Shapes      x, y (count)
 * Layout      any size
 * Precision   fp32, rounded once to the storage type: fp32, bf16 or fp16. Words, u and so the masks of dropout are those of
 *             the CPU, bit for bit; normal numbers differ from the CPU's by the last bits of logarithm, sine and cosine
 * Saved       nothing: an element depends on seed, stream and its index alone
 * Writes      y = ; dropout may y +=
 * Determinism bit-exact
 * Limits      as many blocks as a grid holds; more returns UNSUPPORTED
 */
#include <cmath>

#include "common/philox.h"
#include "cuda/elementwise.cuh"

namespace oribi {
namespace {

struct Stream {
  uint64_t seed, stream;

  __device__ PhiloxWords words(int64_t counter) const { return philox(seed, stream, static_cast<uint64_t>(counter)); }

  /* The words of elements 4j .. 4j + kWidth - 1 at once, or that of one element. */
  template <int kWidth>
  __device__ void fill(uint32_t* word, int64_t element) const {
    if constexpr (kWidth % 4 == 0) {
#pragma unroll
      for (int c = 0; c < kWidth / 4; c++) {
        const PhiloxWords made = words(element / 4 + c);
#pragma unroll
        for (int k = 0; k < 4; k++) word[4 * c + k] = made.word[k];
      }
    } else {
      static_assert(kWidth == 1, "packs begin with a counter, or are one element");
      const PhiloxWords made = words(element / 4);
      const int k = static_cast<int>(element % 4);
      word[0] = k == 0 ? made.word[0] : k == 1 ? made.word[1] : k == 2 ? made.word[2] : made.word[3];
    }
  }
};

struct Uniform {
  Stream stream;
  float low, range;

  template <int kWidth>
  __device__ void make(float* number, int64_t element) const {
    uint32_t word[kWidth];
    stream.fill<kWidth>(word, element);
#pragma unroll
    for (int k = 0; k < kWidth; k++) number[k] = low + range * philox_uniform(word[k]);
  }
};

struct Normal {
  Stream stream;
  float mean, std;

  __device__ static float radius(uint32_t word) {
    return sqrtf(-2.0f * logf(static_cast<float>(word) * 0x1p-32f + 0x1p-33f));
  }

  template <int kWidth>
  __device__ void make(float* number, int64_t element) const {
    if constexpr (kWidth == 1) {
      float four[4];
      make<4>(four, element / 4 * 4);
      const int k = static_cast<int>(element % 4);
      number[0] = k == 0 ? four[0] : k == 1 ? four[1] : k == 2 ? four[2] : four[3];
    } else {
      uint32_t word[kWidth];
      stream.fill<kWidth>(word, element);
#pragma unroll
      for (int k = 0; k < kWidth; k += 2) {
        float sine, cosine;
        sincospif(2.0f * philox_uniform(word[k + 1]), &sine, &cosine);
        number[k] = mean + std * (radius(word[k]) * cosine);
        number[k + 1] = mean + std * (radius(word[k]) * sine);
      }
    }
  }
};

/* y = numbers of a generator. */
template <class Generator, class T, int kW>
struct Draw {
  static constexpr int kWidth = kW;
  struct Loaded {};
  T* y;
  Generator generator;

  __device__ Loaded load(int64_t) const { return {}; }
  __device__ void store(int64_t i, Loaded) const {
    float number[kWidth];
    generator.template make<kWidth>(number, i * kWidth);
    Pack<T, kWidth> out;
#pragma unroll
    for (int k = 0; k < kWidth; k++) out.element[k] = from_float<T>(number[k]);
    reinterpret_cast<Pack<T, kWidth>*>(y)[i] = out;
  }
  __device__ void one(int64_t i) const {
    float number;
    generator.template make<1>(&number, i);
    y[i] = from_float<T>(number);
  }
};

template <class T, int kW, bool kAccumulate>
struct Dropout {
  static constexpr int kWidth = kW;
  struct Loaded {
    Pack<T, kWidth> x, y;
  };
  T* y;
  const T* x;
  Stream stream;
  float p, scale;

  __device__ T drop(T in, T before, uint32_t word) const {
    const float kept = to_float(in) * (philox_uniform(word) >= p ? scale : 0.0f);
    return from_float<T>(kAccumulate ? to_float(before) + kept : kept);
  }
  __device__ Loaded load(int64_t i) const {
    Loaded in{reinterpret_cast<const Pack<T, kWidth>*>(x)[i], {}};
    if (kAccumulate) in.y = reinterpret_cast<const Pack<T, kWidth>*>(y)[i];
    return in;
  }
  __device__ void store(int64_t i, const Loaded& in) const {
    uint32_t word[kWidth];
    stream.fill<kWidth>(word, i * kWidth);
    Pack<T, kWidth> out;
#pragma unroll
    for (int k = 0; k < kWidth; k++) out.element[k] = drop(in.x.element[k], in.y.element[k], word[k]);
    reinterpret_cast<Pack<T, kWidth>*>(y)[i] = out;
  }
  __device__ void one(int64_t i) const {
    uint32_t word;
    stream.fill<1>(&word, i);
    y[i] = drop(x[i], y[i], word);
  }
};

template <class Generator>
oribi_status draw(oribi_ctx* ctx, const char* function, void* y, int64_t count, const Generator& generator, oribi_dtype t) {
  oribi_status status = ORIBI_OK;
  dispatch_pack(t, aligned({y}) ? 0 : 1, [&](auto type, auto width) {
    using T = decltype(type);
    status = launch_map(ctx, function, Draw<Generator, T, decltype(width)::value>{static_cast<T*>(y), generator}, count);
  });
  return status;
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_random_uniform(oribi_ctx* ctx, void* y, int64_t count, float low, float high, uint64_t seed,
                                             uint64_t stream, oribi_dtype t) {
  const char* const function = "oribi_random_uniform";
  Check check(ctx, function);
  check.size("count", count).elements("y", count, 1).dtype("t", t).pointer("y", y, count);
  check.that(std::isfinite(low) && std::isfinite(high) && low <= high, "low %g and high %g, expected finite, low <= high",
             low, high);
  if (!check.ok()) return check.status();
  return draw(ctx, function, y, count, Uniform{{seed, stream}, low, high - low}, t);
}

extern "C" oribi_status oribi_random_normal(oribi_ctx* ctx, void* y, int64_t count, float mean, float std, uint64_t seed,
                                            uint64_t stream, oribi_dtype t) {
  const char* const function = "oribi_random_normal";
  Check check(ctx, function);
  check.size("count", count).elements("y", count, 1).dtype("t", t).pointer("y", y, count);
  check.that(std::isfinite(mean) && std >= 0 && std::isfinite(std), "mean %g and std %g, expected finite, std >= 0", mean,
             std);
  if (!check.ok()) return check.status();
  return draw(ctx, function, y, count, Normal{{seed, stream}, mean, std}, t);
}

extern "C" oribi_status oribi_dropout(oribi_ctx* ctx, void* y, const void* x, int64_t count, float p, uint64_t seed,
                                      uint64_t stream, int32_t accumulate, oribi_dtype t) {
  const char* const function = "oribi_dropout";
  Check check(ctx, function);
  check.size("count", count).elements("y", count, 1).dtype("t", t).pointer("y", y, count).pointer("x", x, count);
  check.that(p >= 0 && p < 1, "p is %g, expected 0 <= p < 1", p);
  if (!check.ok()) return check.status();
  const float scale = 1.0f / (1.0f - p);
  oribi_status status = ORIBI_OK;
  dispatch_pack(t, aligned({y, x}) ? 0 : 1, [&](auto type, auto width) {
    using T = decltype(type);
    constexpr int kWidth = decltype(width)::value;
    T* out = static_cast<T*>(y);
    const T* in = static_cast<const T*>(x);
    status = accumulate != 0
                 ? launch_map(ctx, function, Dropout<T, kWidth, true>{out, in, {seed, stream}, p, scale}, count)
                 : launch_map(ctx, function, Dropout<T, kWidth, false>{out, in, {seed, stream}, p, scale}, count);
  });
  return status;
}
