/* What rms_norm and head_norm share: the arithmetic of a pack, sums over the threads of a row, the last step of dw. */
#ifndef ORIBI_CUDA_NORM_CUH
#define ORIBI_CUDA_NORM_CUH

#include <type_traits>

#include "cuda/elementwise.cuh"

namespace oribi {

template <class T>
constexpr int kWide = kAccess / static_cast<int>(sizeof(T));

/* Pack `i` of row `row`. */
template <int kWidth, class T>
__device__ Pack<T, kWidth>& pack_of(T* x, int64_t row, int64_t c, int64_t i) {
  return reinterpret_cast<Pack<T, kWidth>*>(x + row * c)[i];
}
template <int kWidth, class T>
__device__ const Pack<T, kWidth>& pack_of(const T* x, int64_t row, int64_t c, int64_t i) {
  return reinterpret_cast<const Pack<T, kWidth>*>(x + row * c)[i];
}

template <class T, int kWidth>
__device__ Pack<T, kWidth> add(Pack<T, kWidth> a, const Pack<T, kWidth>& b) {
#pragma unroll
  for (int k = 0; k < kWidth; k++) a.element[k] = from_float<T>(to_float(a.element[k]) + to_float(b.element[k]));
  return a;
}

template <class T, int kWidth>
__device__ float squares(const Pack<T, kWidth>& x) {
  float sum = 0;
#pragma unroll
  for (int k = 0; k < kWidth; k++) sum += to_float(x.element[k]) * to_float(x.element[k]);
  return sum;
}

/* What is added to w: 1 where the weight is 1 + w, and then nothing is rounded before the product. The kernels take it as a
   number, the same for all threads: as a template it would make twice as many kernels that wait for memory all the same. */
inline float offset_of(oribi_norm_weight weight) { return weight == ORIBI_NORM_ONE_PLUS_WEIGHT ? 1.0f : 0.0f; }

template <class T, int kWidth>
__device__ Pack<T, kWidth> normalized(Pack<T, kWidth> x, const Pack<T, kWidth>& w, float scale, float offset) {
#pragma unroll
  for (int k = 0; k < kWidth; k++) {
    const float xhat = to_float(x.element[k]) * scale;
    x.element[k] = from_float<T>((offset != 0 ? xhat : round_to<T>(xhat)) * (to_float(w.element[k]) + offset));
  }
  return x;
}

/* A part of the sum of g * x. */
template <class T, int kWidth>
__device__ float dots(const Pack<T, kWidth>& dy, const Pack<T, kWidth>& w, const Pack<T, kWidth>& x, float offset) {
  float sum = 0;
#pragma unroll
  for (int k = 0; k < kWidth; k++) {
    sum += to_float(dy.element[k]) * (to_float(w.element[k]) + offset) * to_float(x.element[k]);
  }
  return sum;
}

/* dx; `before` is what it held, for accumulate. */
template <class T, int kWidth>
__device__ Pack<T, kWidth> gradient(const Pack<T, kWidth>& dy, const Pack<T, kWidth>& w, const Pack<T, kWidth>& x,
                                    Pack<T, kWidth> before, float scale, float mean, bool accumulate, float offset) {
  const float slope = scale * mean;
#pragma unroll
  for (int k = 0; k < kWidth; k++) {
    const float g = to_float(dy.element[k]) * (to_float(w.element[k]) + offset);
    const float d = scale * (g - to_float(x.element[k]) * slope);
    before.element[k] = from_float<T>(accumulate ? to_float(before.element[k]) + d : d);
  }
  return before;
}

/* dw += dy * xhat */
template <class T, int kWidth>
__device__ void add_products(Pack<float, kWidth>& dw, const Pack<T, kWidth>& dy, const Pack<T, kWidth>& x, float scale) {
#pragma unroll
  for (int k = 0; k < kWidth; k++) dw.element[k] += to_float(dy.element[k]) * (to_float(x.element[k]) * scale);
}

/* Hides from the compiler that it has converted this pack before: otherwise it keeps the fp32 numbers in registers across
   the sum, two for each one of 16-bit storage, and fewer rows are in flight. The conversion again costs less. */
template <class T, int kWidth>
__device__ void stay_packed(Pack<T, kWidth>& x) {
  static_assert(sizeof x == kAccess, "four words");
  unsigned word[4];
  memcpy(word, &x, sizeof x);
  asm volatile("" : "+r"(word[0]), "+r"(word[1]), "+r"(word[2]), "+r"(word[3]));
  memcpy(&x, word, sizeof x);
}

/* The sum over groups of kLanes neighbouring lanes, the same bits in each of them. */
template <int kLanes>
__device__ float lane_sum(float x) {
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
  return x;
}

/* The sum over the kThreads threads of a row with one barrier; none where the row is a warp's. `warps` holds one number a
   warp and must not be read any more by an earlier sum: callers that sum again alternate between two. */
template <int kThreads>
__device__ float row_sum(float x, float* warps) {
  x = lane_sum<32>(x);
  if (kThreads == 32) return x;
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = x;
  __syncthreads();
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kThreads / 32; i++) sum += warps[i];
  return sum;
}

/* Columns and partial sums that a block adds at once. */
constexpr int kSumColumns = 32, kSumRows = 32;

/* dw[column] += the partial sums of that column: thread y takes every kSumRows-th of them, then the sums of the threads
   are added in their order. */
__global__ void __launch_bounds__(kSumColumns* kSumRows) static add_partials_kernel(float* dw, const float* partials,
                                                                                   int64_t count, int64_t c) {
  __shared__ float sums[kSumRows][kSumColumns];
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kSumColumns + threadIdx.x;
  float sum = 0;
  if (column < c) {
#pragma unroll 4
    for (int64_t p = threadIdx.y; p < count; p += kSumRows) sum += partials[p * c + column];
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= c) return;
  float total = 0;
#pragma unroll
  for (int i = 0; i < kSumRows; i++) total += sums[i][threadIdx.x];
  dw[column] += total;
}

inline void add_partials(cudaStream_t stream, float* dw, const float* partials, int64_t count, int64_t c) {
  const dim3 block(kSumColumns, kSumRows);
  add_partials_kernel<<<static_cast<unsigned>(divide_up(c, kSumColumns)), block, 0, stream>>>(dw, partials, count, c);
}

/* ---------------------------------------------------------------------------------- rows in registers: rms_norm */

/* Packs of a row that a thread holds: four loads in flight, and with x, dy and w still some 90 registers. */
constexpr int kPacks = 4;
constexpr int kLoopThreads = 256;
constexpr int kLeastThreads = 128; /* of a block; shorter rows share it, a warp or two each */

template <int kValue>
using Int = std::integral_constant<int, kValue>;

/* f(threads of a row), or false where a row of so many packs does not fit into the registers of a block. */
template <class F>
bool with_row_threads(int64_t packs, F&& f) {
  if (packs <= 32 * kPacks) return f(Int<32>{}), true;
  if (packs <= 64 * kPacks) return f(Int<64>{}), true;
  if (packs <= 128 * kPacks) return f(Int<128>{}), true;
  if (packs <= 256 * kPacks) return f(Int<256>{}), true;
  if (packs <= 512 * kPacks) return f(Int<512>{}), true;
  return false;
}

/* kernel(grid, block) for rows of kThreads threads. */
template <int kThreads, class F>
void launch_rows(int64_t n, F&& kernel) {
  constexpr int kRows = kThreads == 32 ? kLeastThreads / 32 : 1;
  kernel(static_cast<unsigned>(divide_up(n, kRows)), dim3(kThreads, kRows));
}

}  // namespace oribi
#endif
