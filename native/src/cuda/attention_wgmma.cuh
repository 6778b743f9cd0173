/*
 * The products of attention by Hopper's warpgroups (wgmma), and how a head's tiles lie in shared memory for them.
 *
 * Layout      a tile of kRows rows of a head is one or two slabs of 64 columns, one after the other; a slab is kRows rows of 128 bytes
 *             in the swizzle of cuda/sm90.cuh. The same tile can be either operand: its rows along the result (K-major), or
 *             its rows summed over (MN-major, "transposed" below), so that q, k and do need no second copy
 * Limits      heads of 128 elements in shared memory, smaller ones padded with zeros by TMA; code for sm_90a alone
 *
 * Accumulators are those of mma.sync, a warp owning 16 of the 64 rows: lane / 4 is the row (and + 8), and of each 8 columns the
 * thread holds 2 * (lane % 4) and the next. Rounded and packed they are the left operand of the next product, from registers.
 */
#ifndef ORIBI_CUDA_ATTENTION_WGMMA_CUH
#define ORIBI_CUDA_ATTENTION_WGMMA_CUH

#include "cuda/attention_mma.cuh"
#include "cuda/sm90.cuh"

namespace oribi {
namespace attention90 {

constexpr int kSlab = 64;
constexpr int kRowBytes = 2 * kSlab; /* of a slab */
constexpr int kBoxRows = 64;         /* of one copy by TMA */

#define ORIBI_D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define ORIBI_D16(i) ORIBI_D4(i), ORIBI_D4(i + 4), ORIBI_D4(i + 8), ORIBI_D4(i + 12)
#define ORIBI_D32 ORIBI_D16(0), ORIBI_D16(16)
#define ORIBI_D64 ORIBI_D32, ORIBI_D16(32), ORIBI_D16(48)
#define ORIBI_R32                                                                                                      \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30," \
  "%31"
#define ORIBI_R64                                                                                                    \
  ORIBI_R32 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56," \
            "%57,%58,%59,%60,%61,%62,%63"
#define ORIBI_WGMMA_ROWS_64(type)                                                                          \
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %34, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type \
               " {" ORIBI_R32 "}, %32, %33, p, 1, 1, 0, 0; }"                                               \
               : ORIBI_D32                                                                                  \
               : "l"(a), "l"(b), "r"(add))
#define ORIBI_WGMMA_ROWS_128(type)                                                                          \
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %66, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type \
               " {" ORIBI_R64 "}, %64, %65, p, 1, 1, 0, 0; }"                                                \
               : ORIBI_D64                                                                                   \
               : "l"(a), "l"(b), "r"(add))
#define ORIBI_WGMMA_COLUMNS_64(type)                                                                              \
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %37, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type \
               " {" ORIBI_R32 "}, {%32, %33, %34, %35}, %36, p, 1, 1, 1; }"                                       \
               : ORIBI_D32                                                                                        \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(1))
#define ORIBI_WGMMA_COLUMNS_128(type)                                                           \
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %69, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type \
               " {" ORIBI_R64 "}, {%64, %65, %66, %67}, %68, p, 1, 1, 1; }"                                       \
               : ORIBI_D64                                                                                        \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(1))

/* d[64][16 kCount / 8] = (add ? d : 0) + a[64][16] * transpose(b), both K-major. */
template <class T>
__device__ inline void wgmma_rows(float (&d)[32], uint64_t a, uint64_t b, int add) {
  if constexpr (std::is_same<T, __nv_bfloat16>::value) {
    ORIBI_WGMMA_ROWS_64("bf16");
  } else {
    ORIBI_WGMMA_ROWS_64("f16");
  }
}
template <class T>
__device__ inline void wgmma_rows(float (&d)[64], uint64_t a, uint64_t b, int add) {
  if constexpr (std::is_same<T, __nv_bfloat16>::value) {
    ORIBI_WGMMA_ROWS_128("bf16");
  } else {
    ORIBI_WGMMA_ROWS_128("f16");
  }
}
/* d[64][kHead] += a[64][16] * b[16][kHead], a in registers and b MN-major. */
template <class T>
__device__ inline void wgmma_columns(float (&d)[32], const uint32_t (&a)[4], uint64_t b) {
  if constexpr (std::is_same<T, __nv_bfloat16>::value) {
    ORIBI_WGMMA_COLUMNS_64("bf16");
  } else {
    ORIBI_WGMMA_COLUMNS_64("f16");
  }
}
template <class T>
__device__ inline void wgmma_columns(float (&d)[64], const uint32_t (&a)[4], uint64_t b) {
  if constexpr (std::is_same<T, __nv_bfloat16>::value) {
    ORIBI_WGMMA_COLUMNS_128("bf16");
  } else {
    ORIBI_WGMMA_COLUMNS_128("f16");
  }
}

#undef ORIBI_D4
#undef ORIBI_D16
#undef ORIBI_D32
#undef ORIBI_D64
#undef ORIBI_R32
#undef ORIBI_R64
#undef ORIBI_WGMMA_ROWS_64
#undef ORIBI_WGMMA_ROWS_128
#undef ORIBI_WGMMA_COLUMNS_64
#undef ORIBI_WGMMA_COLUMNS_128

/* s[64][n] = a * transpose(b) over the head: a a tile of 64 rows, b one of kRows >= n rows. Not waited for. */
template <class T, int kHead, int kRows, int kCount>
__device__ inline void multiply_rows(float (&s)[kCount], uint32_t a, uint32_t b) {
#pragma unroll
  for (int k = 0; k < kHead / 16; k++) {
    const uint32_t slab = k / 4, column = k % 4 * 32;
    wgmma_rows<T>(s, sm90::tile_descriptor(a + slab * (64 * kRowBytes) + column, 0),
                  sm90::tile_descriptor(b + slab * (kRows * kRowBytes) + column, 0), k > 0);
  }
}

/* d[64][kHead] += a * b over the rows of b, a tile of kRows. Not waited for. */
template <class T, int kHead, int kRows>
__device__ inline void multiply_columns(float (&d)[kHead / 2], const uint32_t (&a)[kRows / 16][4], uint32_t b) {
#pragma unroll
  for (int k = 0; k < kRows / 16; k++) wgmma_columns<T>(d, a[k], sm90::tile_descriptor(b + k * (16 * kRowBytes), kRows * kRowBytes));
}

/* An accumulator of 8 kCount / 4 columns, rounded, as the left operand of multiply_columns. */
template <class T, int kCount>
__device__ inline void pack_left(uint32_t (&a)[kCount / 8][4], const float (&c)[kCount]) {
#pragma unroll
  for (int k = 0; k < kCount / 8; k++)
#pragma unroll
    for (int i = 0; i < 4; i++) a[k][i] = sm90::pair<T>(c[8 * k + 2 * i], c[8 * k + 2 * i + 1]);
}

/* A copy of kBoxRows rows and 64 columns of a head: a slab, or a part of its rows. */
__device__ inline void load_box(uint32_t to, const CUtensorMap* map, int column, int head, int row, uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], [%5];" ::"r"(to),
      "l"(map), "r"(column), "r"(head), "r"(row), "r"(barrier)
      : "memory");
}

/* As many elements as the map's box has, from `first` on of what the map takes for one line. Measured: where that is not a multiple of
   16 bytes the card reports an illegal instruction. */
__device__ inline void load_line(uint32_t to, const CUtensorMap* map, int first, uint32_t barrier) {
  asm volatile("cp.async.bulk.tensor.1d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2}], [%3];" ::"r"(to),
               "l"(map), "r"(first), "r"(barrier)
               : "memory");
}

/* A tile of kRows rows from `row` on; what lies beyond the head or the last row of all arrives as zeros. */
template <int kHead, int kRows>
__device__ inline void load_tile(uint32_t to, const CUtensorMap* map, int head, int row, uint32_t barrier) {
#pragma unroll
  for (int slab = 0; slab < kHead / kSlab; slab++)
#pragma unroll
    for (int part = 0; part < kRows; part += kBoxRows)
      load_box(to + (slab * kRows + part) * kRowBytes, map, slab * kSlab, head, row + part, barrier);
}

/* Zeros in rows first to last - 1 of kSlabCount slabs of kRows: rows of another sequence, whose NaN must not be met. Called by
   all kThreads consumers, of whom none has begun to multiply what lies there. */
template <int kRows, int kSlabCount, int kThreads, int kBarrier>
__device__ inline void clear_rows(uint32_t slabs, int first, int last) {
#pragma unroll 1
  for (int slab = 0; slab < kSlabCount; slab++)
#pragma unroll 1
    for (int at = first * kRowBytes + (static_cast<int>(threadIdx.x) % kThreads) * 16; at < last * kRowBytes; at += kThreads * 16)
      store_16(slabs + slab * (kRows * kRowBytes) + at, make_uint4(0, 0, 0, 0));
  sm90::async_proxy_fence();
  sm90::named_barrier(kBarrier, kThreads);
}

}  // namespace attention90
}  // namespace oribi
#endif
