/*
 * NF4 with double quantization, one number at a time, in the operations that bitsandbytes rounds: its results are defined by
 * them, bit by bit, so Real is float here.
 */
#ifndef ORIBI_REFERENCE_NF4_H
#define ORIBI_REFERENCE_NF4_H

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace reference {

/* Quantiles of the normal distribution, as published (Dettmers et al. 2023, appendix E). */
constexpr float kNf4[16] = {-1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f,
                            -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
                            0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f,
                            0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f};

/* Where bitsandbytes' decision tree changes from code i to i + 1: halfway, but for a last bit here and there. */
constexpr float kNf4Halves[15] = {-0.8480964004993439f, -0.6106329262256622f, -0.4599952697753906f, -0.33967943489551544f,
                                  -0.23460740596055984f, -0.13791173323988914f, -0.045525018125772476f,
                                  0.03979014977812767f, 0.1202552504837513f, 0.2035212516784668f, 0.2920137718319893f,
                                  0.3893125355243683f, 0.5016634166240692f, 0.6427869200706482f, 0.8614784181118011f};

/* The nearest of the sixteen to x * inverse; halfway the lower one; the first for NaN. */
inline int nf4_code(float x, float inverse) {
  const float scaled = x * inverse;
  int code = 0;
  while (code < 15 && scaled > kNf4Halves[code]) code++;
  return code;
}

/* The dynamic data type by its definition, in double; ascending. */
inline std::vector<double> dynamic_map(bool is_signed) {
  std::vector<double> values{0, 1};
  for (int decade = 0; decade < 7; decade++) {
    const int n = (is_signed ? 1 : 2) << decade;
    for (int i = 0; i < n; i++) {
      const double middle = std::pow(10, decade - 6) * (0.1 + 0.9 * (i + 0.5) / n);
      values.push_back(middle);
      if (is_signed) values.push_back(-middle);
    }
  }
  std::sort(values.begin(), values.end());
  return values;
}

/* bitsandbytes' search in a map of 256: seven steps from the middle, then the nearest of three neighbours. */
inline int dynamic_code(const float* map, float x) {
  int pivot = 127, low = 0, high = 255;
  for (int step = 64; step > 0; step /= 2) {
    if (x > map[pivot]) {
      low = pivot;
      pivot += step;
    } else {
      high = pivot;
      pivot -= step;
    }
  }
  if (x > map[pivot]) return x > (map[pivot] + map[high]) * 0.5f ? high : pivot;
  return x < (map[pivot] + map[low]) * 0.5f ? low : pivot;
}

struct Nf4 {
  std::vector<uint8_t> codes, absmax;
  std::vector<float> absmax2, plain; /* plain: the blocks' absmax before they are quantized */
};

inline double mean_absmax(const std::vector<float>& absmax) {
  long double sum = 0;
  for (float x : absmax) sum += x;
  return static_cast<double>(sum / static_cast<long double>(absmax.size()));
}

inline void nf4_codes(Nf4& q, const std::vector<double>& w) {
  for (size_t begin = 0; begin < w.size(); begin += 64) {
    float absmax = 0;
    for (size_t i = begin; i < begin + 64; i++) absmax = std::fmax(absmax, std::fabs(static_cast<float>(w[i])));
    q.plain.push_back(absmax);
    for (size_t i = begin; i < begin + 64; i += 2) {
      const int first = nf4_code(static_cast<float>(w[i]), 1.0f / absmax);
      const int second = nf4_code(static_cast<float>(w[i + 1]), 1.0f / absmax);
      q.codes.push_back(static_cast<uint8_t>(first * 16 + second));
    }
  }
}

inline void nf4_absmax(Nf4& q, const float* map, float offset) {
  for (size_t begin = 0; begin < q.plain.size(); begin += 256) {
    const size_t end = std::min(begin + 256, q.plain.size());
    float largest = 0;
    for (size_t i = begin; i < end; i++) largest = std::fmax(largest, std::fabs(q.plain[i] - offset));
    q.absmax2.push_back(largest);
    for (size_t i = begin; i < end; i++) {
      q.absmax.push_back(static_cast<uint8_t>(dynamic_code(map, (q.plain[i] - offset) * (1.0f / largest))));
    }
  }
}

/* Element i, before it is rounded to its storage type. */
inline float nf4_value(const Nf4& q, const float* map, float offset, size_t i) {
  const float scaled = map[q.absmax[i / 64]] * q.absmax2[i / 64 / 256];
  const float absmax = scaled + offset;
  const int code = i % 2 == 0 ? q.codes[i / 2] / 16 : q.codes[i / 2] % 16;
  return kNf4[code] * absmax;
}

}  /* namespace reference */
#endif
