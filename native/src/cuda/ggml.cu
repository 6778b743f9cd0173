/*
 * Math        w = the elements of ggml's blocks (common/ggml.h);  y[i,:] = table[ids[i],:]
 * Shapes      w (rows, cols), written with stride ld  blocks (rows, cols)  y (N,C)  table (V,C)  ids (N)
 * Layout      a row is whole blocks; blocks begin at multiples of 2 bytes, which all their sizes are
 * Precision   fp32, each operation rounded, none fused; rounded once to the storage type
 * Saved       nothing
 * Writes      w =, y =. An id out of range: a row of zeros
 * Determinism bit-exact, and the CPU's bits
 * Limits      fewer than 2^31 blocks of 256 threads, 8 elements each. F32, F16 and BF16, which are not packed, are UNSUPPORTED here:
 *             oribi_cast does them. No product: a GPU expands the weight and leaves the product to the library
 */
#include "common/ggml.h"

#include "cuda/context.cuh"
#include "cuda/elementwise.cuh"
#include "cuda/vector.cuh"

namespace oribi {
namespace {

/* A thread decodes 8 elements: they share a scale in every type, and in 16 bits are one store of 16 bytes. */
constexpr int kVector = 8, kThreads = 256;

__device__ inline uint32_t two_bytes(const uint8_t* p) { return *reinterpret_cast<const uint16_t*>(p); }

__device__ inline float half_at(const uint8_t* p) { return __half2float(__ushort_as_half(*reinterpret_cast<const uint16_t*>(p))); }

/* 8 bytes at a multiple of 2. */
struct Bytes {
  uint32_t word[2];
  __device__ explicit Bytes(const uint8_t* p) {
    word[0] = two_bytes(p) | two_bytes(p + 2) << 16;
    word[1] = two_bytes(p + 4) | two_bytes(p + 6) << 16;
  }
  __device__ uint32_t operator[](int i) const { return word[i / 4] >> i % 4 * 8 & 0xffu; }
};

/* Elements first .. first + 7 of a block. */
template <int kType>
struct Eight;

/* Q4_0, Q4_1, Q5_0, Q5_1 */
template <int kBits, bool kMin>
struct SmallEight {
  __device__ static void decode(float* w, const uint8_t* block, int first) {
    constexpr int kHead = kMin ? 4 : 2, kCodes = kHead + (kBits == 5 ? 4 : 0), kMiddle = kMin ? 0 : kBits == 5 ? 16 : 8;
    const float d = half_at(block), min = kMin ? half_at(block + 2) : 0;
    const Bytes q(block + kCodes + first % 16);
    const int shift = first / 16 * 4;
    const uint32_t high = kBits == 5 ? (two_bytes(block + kHead) | two_bytes(block + kHead + 2) << 16) >> first : 0;
#pragma unroll
    for (int i = 0; i < kVector; i++) {
      const int code = static_cast<int>((q[i] >> shift & 15) | (high >> i & 1) << 4) - kMiddle;
      const float product = __fmul_rn(static_cast<float>(code), d);
      w[i] = kMin ? __fadd_rn(product, min) : product;
    }
  }
};
template <>
struct Eight<ORIBI_GGML_Q4_0> : SmallEight<4, false> {};
template <>
struct Eight<ORIBI_GGML_Q4_1> : SmallEight<4, true> {};
template <>
struct Eight<ORIBI_GGML_Q5_0> : SmallEight<5, false> {};
template <>
struct Eight<ORIBI_GGML_Q5_1> : SmallEight<5, true> {};

template <>
struct Eight<ORIBI_GGML_Q8_0> {
  __device__ static void decode(float* w, const uint8_t* block, int first) {
    const float d = half_at(block);
    const Bytes q(block + 2 + first);
#pragma unroll
    for (int i = 0; i < kVector; i++) w[i] = __fmul_rn(static_cast<float>(static_cast<int8_t>(q[i])), d);
  }
};

/* Q4_K, Q5_K: groups of 32 with a scale and a smallest value of 6 bits */
template <int kBits>
struct GroupEight {
  __device__ static void decode(float* w, const uint8_t* block, int first) {
    const int g = first / 32, l = first % 32;
    const uint8_t* scales = block + 4;
    const uint32_t own = scales[g % 4], other = scales[g % 4 + 4], late = scales[g % 4 + 8];
    const uint32_t sc = g < 4 ? own & 63 : (late & 15) | own >> 6 << 4;
    const uint32_t m = g < 4 ? other & 63 : late >> 4 | other >> 6 << 4;
    const float step = __fmul_rn(half_at(block), static_cast<float>(sc));
    const float min = __fmul_rn(half_at(block + 2), static_cast<float>(m));
    const Bytes q(block + (kBits == 5 ? 48 : 16) + g / 2 * 32 + l), high(block + 16 + (kBits == 5 ? l : 0));
#pragma unroll
    for (int i = 0; i < kVector; i++) {
      const uint32_t fifth = kBits == 5 ? (high[i] >> g & 1) << 4 : 0;
      w[i] = __fsub_rn(__fmul_rn(step, static_cast<float>((q[i] >> g % 2 * 4 & 15) | fifth)), min);
    }
  }
};
template <>
struct Eight<ORIBI_GGML_Q4_K> : GroupEight<4> {};
template <>
struct Eight<ORIBI_GGML_Q5_K> : GroupEight<5> {};

template <>
struct Eight<ORIBI_GGML_Q6_K> {
  __device__ static void decode(float* w, const uint8_t* block, int first) {
    const int half = first / 128, quarter = first % 128 / 32, l = first % 32;
    const Bytes low(block + half * 64 + quarter % 2 * 32 + l), high(block + 128 + half * 32 + l);
    const float step = __fmul_rn(half_at(block + 208), static_cast<float>(static_cast<int8_t>(block[192 + first / 16])));
#pragma unroll
    for (int i = 0; i < kVector; i++) {
      const int code = static_cast<int>((low[i] >> quarter / 2 * 4 & 15) | (high[i] >> quarter * 2 & 3) << 4);
      w[i] = __fmul_rn(step, static_cast<float>(code - 32));
    }
  }
};

template <class T>
__device__ inline void store(T* w, const float* values, bool wide) {
  constexpr int kWidth = kAccess / sizeof(T);
#pragma unroll
  for (int i = 0; i < kVector; i += kWidth) {
    Pack<T, kWidth> x;
#pragma unroll
    for (int k = 0; k < kWidth; k++) x.element[k] = from_float<T>(values[i + k]);
    if (wide) {
      *reinterpret_cast<Pack<T, kWidth>*>(w + i) = x;
    } else {
      for (int k = 0; k < kWidth; k++) w[i + k] = x.element[k];
    }
  }
}

/* ids NULL: row r is row r; otherwise it is row ids[r] of a table of v rows. */
struct Rows {
  const uint8_t* blocks;
  const int32_t* ids;
  int64_t rows, cols, ld, v;
  bool wide; /* rows of w begin at multiples of 16 bytes */
};

template <int kElements, int kBytes, int kType, class T>
__global__ void __launch_bounds__(kThreads) decode_kernel(T* w, const Rows r, int* fault) {
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x, of_row = r.cols / kVector;
  const int64_t row = thread / of_row, col = thread % of_row * kVector;
  if (row >= r.rows) return;
  const int64_t from = r.ids == nullptr ? row : r.ids[row];
  const bool inside = from >= 0 && from < r.v;
  float values[kVector] = {};
  if (inside) {
    const uint8_t* block = r.blocks + (from * (r.cols / kElements) + col / kElements) * kBytes;
    Eight<kType>::decode(values, block, static_cast<int>(col % kElements));
  } else if (col == 0) {
    *fault = kFaultEmbeddingId;
  }
  store(w + row * r.ld + col, values, r.wide);
}

template <int kType>
void launch(oribi_ctx* ctx, void* w, const Rows& r, oribi_dtype t, unsigned grid) {
  constexpr GgmlLayout kLayout = ggml_layout(kType);
  dispatch_pack(t, 1, [&](auto type, auto) {
    using T = decltype(type);
    decode_kernel<kLayout.elements, kLayout.bytes, kType><<<grid, kThreads, 0, stream_of(ctx)>>>(static_cast<T*>(w), r, fault_of(ctx));
  });
}

oribi_status decode(oribi_ctx* ctx, const char* function, void* w, Rows r, oribi_ggml_type type, oribi_dtype t) {
  if (ggml_layout(type).elements == 1) {
    return fail(ctx, ORIBI_UNSUPPORTED, "%s: type %d is not packed; oribi_cast converts it", function, static_cast<int>(type));
  }
  const int64_t grid = divide_up(r.rows * (r.cols / kVector), kThreads);
  if (!fits_grid(grid)) return too_large(ctx, function, grid);
  const oribi_status status = select_device(ctx, function);
  if (status != ORIBI_OK) return status;
  r.wide = aligned({w}) && r.ld * (t == ORIBI_F32 ? 4 : 2) % kAccess == 0;
  const unsigned blocks = static_cast<unsigned>(grid);
  switch (type) {
    case ORIBI_GGML_Q4_0: launch<ORIBI_GGML_Q4_0>(ctx, w, r, t, blocks); break;
    case ORIBI_GGML_Q4_1: launch<ORIBI_GGML_Q4_1>(ctx, w, r, t, blocks); break;
    case ORIBI_GGML_Q5_0: launch<ORIBI_GGML_Q5_0>(ctx, w, r, t, blocks); break;
    case ORIBI_GGML_Q5_1: launch<ORIBI_GGML_Q5_1>(ctx, w, r, t, blocks); break;
    case ORIBI_GGML_Q8_0: launch<ORIBI_GGML_Q8_0>(ctx, w, r, t, blocks); break;
    case ORIBI_GGML_Q4_K: launch<ORIBI_GGML_Q4_K>(ctx, w, r, t, blocks); break;
    case ORIBI_GGML_Q5_K: launch<ORIBI_GGML_Q5_K>(ctx, w, r, t, blocks); break;
    default: launch<ORIBI_GGML_Q6_K>(ctx, w, r, t, blocks); break;
  }
  return launch_status(ctx, function);
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_ggml_dequantize(oribi_ctx* ctx, void* w, const void* blocks, int64_t rows, int64_t cols, int64_t ld,
                                              oribi_ggml_type type, oribi_dtype t) {
  const char* const function = "oribi_ggml_dequantize";
  Check check(ctx, function);
  if (!check_ggml_dequantize(check, w, blocks, rows, cols, ld, type, t).ok() || rows == 0 || cols == 0) return check.status();
  return decode(ctx, function, w, {static_cast<const uint8_t*>(blocks), nullptr, rows, cols, ld, rows, false}, type, t);
}

extern "C" oribi_status oribi_ggml_embedding(oribi_ctx* ctx, void* y, const void* table, const int32_t* ids, int64_t n,
                                             int64_t c, int64_t v, oribi_ggml_type type, oribi_dtype t) {
  const char* const function = "oribi_ggml_embedding";
  Check check(ctx, function);
  if (!check_ggml_embedding(check, y, table, ids, n, c, v, type, t).ok() || n == 0) return check.status();
  return decode(ctx, function, y, {static_cast<const uint8_t*>(table), ids, n, c, c, v, false}, type, t);
}

extern "C" oribi_status oribi_ggml_matmul(oribi_ctx* ctx, float*, const float*, const void*, int64_t, int64_t, int64_t, int64_t,
                                          int64_t, oribi_ggml_type) {
  return fail(ctx, ORIBI_UNSUPPORTED, "oribi_ggml_matmul: not on a GPU; expand the weight with oribi_ggml_dequantize");
}

extern "C" oribi_status oribi_ggml_matmul_q8(oribi_ctx* ctx, float*, const float*, const void*, int64_t, int64_t, int64_t, int64_t,
                                             int64_t, oribi_ggml_type) {
  return fail(ctx, ORIBI_UNSUPPORTED, "oribi_ggml_matmul_q8: not on a GPU; expand the weight with oribi_ggml_dequantize");
}
