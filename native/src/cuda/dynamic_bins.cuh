/*
 * Codes of the dynamic 8-bit maps without a search. The leading bits of a float, its exponent and some of its fraction, number
 * bins so narrow that each holds at most one halfway point between neighbouring values: a table tells how many lie below the
 * bin, and one comparison decides about the one inside. Codes are counted by magnitude from zero, which makes one table serve
 * both signs: halfway goes to the even code on either side.
 */
#ifndef ORIBI_CUDA_DYNAMIC_BINS_CUH
#define ORIBI_CUDA_DYNAMIC_BINS_CUH

#include "common/dynamic_map.h"

namespace oribi {

/* kFraction: bits of the fraction that count. The signed map has 64 values in its last decade, the unsigned one 128. */
template <bool kSignedMap, int kFraction>
struct DynamicBins {
  static constexpr int kZero = kSignedMap ? kSignedZero : 0;
  static constexpr int kPoints = 255 - kZero;      /* halfway points above zero */
  static constexpr int kFirst = 104;               /* exponent of 2^-23, below the lowest point */
  static constexpr int kShift = 23 - kFraction;
  static constexpr int kBins = (127 - kFirst) << kFraction;

  float value[256];          /* by code */
  float halfway[kPoints];    /* between magnitudes d and d + 1 */
  unsigned char below[kBins];

  /* Copies a table in global memory to shared memory, with all threads of the block; a barrier must follow. */
  __device__ void fill(const DynamicBins& from, int threads) {
    static_assert(sizeof(DynamicBins) % 4 == 0, "copied as words");
    for (int i = threadIdx.x; i < static_cast<int>(sizeof(DynamicBins) / 4); i += threads) {
      reinterpret_cast<uint32_t*>(this)[i] = reinterpret_cast<const uint32_t*>(&from)[i];
    }
  }

  /* The number of values between zero and the one nearest to x >= 0. */
  __device__ int magnitude(float x) const {
    const int bin = min(max((__float_as_int(x) >> kShift) - (kFirst << kFraction), 0), kBins - 1);
    const int d = below[bin];
    const bool up = (kZero + d) % 2 != 0; /* the even code is the next one */
    return d + (x > halfway[d] || (up && x == halfway[d]) ? 1 : 0);
  }
};

template <bool kSignedMap, int kFraction>
constexpr DynamicBins<kSignedMap, kFraction> make_dynamic_bins() {
  using Bins = DynamicBins<kSignedMap, kFraction>;
  const DynamicMap map = make_dynamic_map(kSignedMap);
  Bins bins{};
  for (int i = 0; i < 256; i++) bins.value[i] = map.value[i];
  for (int d = 0; d < Bins::kPoints; d++) bins.halfway[d] = map.between[Bins::kZero + d];
  int d = 0;
  float power = 1.0f / (1 << 23);
  for (int bin = 0; bin < Bins::kBins; bin++) {
    const int fraction = bin % (1 << kFraction);
    const float low = power * (1.0f + static_cast<float>(fraction) / (1 << kFraction));
    while (d < Bins::kPoints && bins.halfway[d] < low) d++;
    bins.below[bin] = static_cast<unsigned char>(d);
    if (fraction == (1 << kFraction) - 1) power *= 2;
  }
  return bins;
}

/* Whether no bin holds two halfway points: those that are below the next bin, less those below this one. */
template <bool kSignedMap, int kFraction>
constexpr bool bins_hold_one() {
  using Bins = DynamicBins<kSignedMap, kFraction>;
  const Bins bins = make_dynamic_bins<kSignedMap, kFraction>();
  for (int bin = 0; bin < Bins::kBins; bin++) {
    const int next = bin + 1 < Bins::kBins ? bins.below[bin + 1] : Bins::kPoints;
    if (next - bins.below[bin] > 1) return false;
  }
  return bins.below[0] == 0;
}

}  // namespace oribi
#endif
