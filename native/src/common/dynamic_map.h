/*
 * The dynamic 8-bit data type of bitsandbytes (Dettmers, 8-bit approximations for parallelism in deep learning, 2015; Dettmers
 * et al., 8-bit optimizers via block-wise quantization, 2022): 256 values in ascending order. Decade i of 7, from 1e-6 to 1,
 * holds 2^i midpoints of evenly spaced numbers in [0.1, 1), of both signs in the signed map and twice as many without a sign
 * in the other; 0 and 1 complete it.
 *
 * The values are bitsandbytes' to the last bit: fp32 in the order of torch.linspace, whose product and sum are fused. Made at
 * compile time, so that every library holds the same bits and device code reads a table that needs no launch to fill.
 */
#ifndef ORIBI_COMMON_DYNAMIC_MAP_H
#define ORIBI_COMMON_DYNAMIC_MAP_H

namespace oribi {

struct DynamicMap {
  float value[256];
  float between[255]; /* halfway from each value to the next */
};

constexpr int kDynamicDecades = 7;
constexpr int kSignedZero = 127; /* the code of 0 in the signed map; in the unsigned one it is 0 */

/* Point i of n + 1 evenly spaced ones from 0.1 to 1; from the nearer end, as torch.linspace counts. The product of the fp32
   step is exact in double, the sum rounded to fp32. */
constexpr float dynamic_point(int i, int n) {
  const double step = (1.0f - 0.1f) / static_cast<float>(n);
  return static_cast<float>(i < (n + 1) / 2 ? static_cast<double>(0.1f) + step * i : 1.0 - step * (n - i));
}

constexpr DynamicMap make_dynamic_map(bool is_signed) {
  constexpr float kPowers[kDynamicDecades] = {1e-6f, 1e-5f, 1e-4f, 1e-3f, 1e-2f, 1e-1f, 1.0f};
  DynamicMap map{};
  const int zero = is_signed ? kSignedZero : 0;
  int distance = 1; /* from zero, in codes */
  for (int decade = 0; decade < kDynamicDecades; decade++) {
    const int n = (is_signed ? 1 : 2) << decade;
    for (int i = 0; i < n; i++, distance++) {
      const float middle = (dynamic_point(i, n) + dynamic_point(i + 1, n)) / 2.0f;
      map.value[zero + distance] = kPowers[decade] * middle;
      if (is_signed) map.value[zero - distance] = -(kPowers[decade] * middle);
    }
  }
  map.value[255] = 1.0f;
  for (int i = 0; i < 255; i++) map.between[i] = (map.value[i] + map.value[i + 1]) * 0.5f;
  return map;
}

/* The code whose value is nearest to x: a binary search among the halfway points. A number exactly halfway gets the even
   code, which is what bitsandbytes' search does; NaN gets 0. `between` may lie in shared memory. */
#if defined(__CUDACC__)
__host__ __device__
#endif
inline int dynamic_code(const float* between, float x) {
  int code = 0;
  for (int step = 128; step > 1; step /= 2) code += x >= between[code + step - 1] ? step : 0; /* those indices are odd */
  return code + (x > between[code] ? 1 : 0);
}

}  // namespace oribi
#endif
