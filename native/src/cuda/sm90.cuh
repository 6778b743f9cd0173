/*
 * What Hopper's matrix products are built from: barriers in shared memory, copies of tiles by the tensor memory
 * accelerator (TMA), and products of a whole warpgroup (wgmma). One function an instruction; PTX ISA 8.0 describes each.
 * Only code for sm_90a may call these. With ORIBI_SM90_DEBUG every wait is bounded and tells who waited for what.
 *
 * Layout      a tile lies in shared memory as rows of 128 bytes (64 elements), eight rows in 1024 bytes; the 16-byte chunk
 *             c of row r is found at chunk c ^ (r & 7), which is TMA's and wgmma's 128-byte swizzle
 * Limits      tiles begin at multiples of 1024 bytes; 16-bit element types
 */
#ifndef ORIBI_CUDA_SM90_CUH
#define ORIBI_CUDA_SM90_CUH

#include <cuda.h> /* types only: no function of the driver is linked */
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

namespace oribi {
namespace sm90 {

__device__ inline uint32_t shared_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

/* ------------------------------------------------------------------------------------------------------- registers */

template <int kRegisters>
__device__ inline void shrink_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void grow_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

/* -------------------------------------------------------------------------------------------------------- barriers */

__device__ inline void barrier_init(uint32_t barrier, uint32_t count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}
/* Makes initialised barriers visible to TMA and to the other block of the cluster. */
__device__ inline void barrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

__device__ inline void barrier_arrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
/* Arrives at the barrier of the same address in another block of the cluster. Without .release.cluster, which waits for
   all earlier memory accesses of the thread, a microsecond each time (see docs/results/lora-matmul.md): who only read
   through wgmma has nothing to release. */
__device__ inline void barrier_arrive_at(uint32_t barrier, uint32_t block) {
  asm volatile(
      "{ .reg .b32 remote; mapa.shared::cluster.u32 remote, %0, %1; "
      "mbarrier.arrive.shared::cluster.b64 _, [remote]; }" ::"r"(barrier),
      "r"(block)
      : "memory");
}
/* Arrives, and makes the phase wait for so many bytes of TMA as well. */
__device__ inline void barrier_arrive_expect(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

__device__ inline bool barrier_try(uint32_t barrier, uint32_t parity) {
  uint32_t done;
  asm volatile(
      "{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
      : "=r"(done)
      : "r"(barrier), "r"(parity)
      : "memory");
  return done != 0;
}

enum class Role { producer, consumer, adapter_consumer, codes_producer, decoder_of_codes, decoder, h_producer, h_consumer };

#ifdef ORIBI_SM90_DEBUG
/* The number of waits that gave up, then block, thread, role, stage and parity of the first ones. After the first, all
   waits give up: the kernel ends, with nonsense as its result, and the host can read this. */
constexpr int kStuckReports = 16, kStuckFields = 5;
__device__ int stuck[1 + kStuckReports * kStuckFields];
#endif

/* Waits for the end of the barrier's phase of this parity. role and stage name the waiter in a debug build. */
__device__ inline void barrier_wait(uint32_t barrier, uint32_t parity, Role role, int stage) {
#ifdef ORIBI_SM90_DEBUG
  constexpr int64_t kPatience = 200000000; /* clocks: a tenth of a second */
  const int64_t begin = clock64();
  while (!barrier_try(barrier, parity)) {
    if (*static_cast<volatile int*>(stuck) != 0) return;
    if (clock64() - begin < kPatience) continue;
    const int report = atomicAdd(stuck, 1);
    if (report < kStuckReports) {
      int* to = stuck + 1 + report * kStuckFields;
      to[0] = blockIdx.x, to[1] = threadIdx.x, to[2] = static_cast<int>(role), to[3] = stage, to[4] = parity;
    }
    return;
  }
#else
  (void)role, (void)stage;
  while (!barrier_try(barrier, parity)) {
  }
#endif
}

/* A place in a ring of stages, and the parity of the lap. */
template <int kStages>
struct Ring {
  int stage = 0;
  uint32_t parity = 0;
  __device__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
  __device__ void advance(int steps) {
    const int to = stage + steps;
    stage = to % kStages;
    parity ^= to / kStages & 1;
  }
};

/* A barrier of some of the block's threads, all of them in whole warps; 0 is that of __syncthreads. */
__device__ inline void named_barrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
/* Counts this warp at a named barrier without waiting there. */
__device__ inline void named_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
/* Shared memory of this address in another block of the cluster. */
__device__ inline uint32_t address_in(uint32_t address, uint32_t block) {
  uint32_t there;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(block));
  return there;
}
__device__ inline void store_4_at(uint32_t to, float a, float b, float c, float d) {
  asm volatile("st.shared::cluster.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(to), "f"(a), "f"(b), "f"(c), "f"(d) : "memory");
}
__device__ inline float4 load_4(uint32_t from) {
  float4 v;
  asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "r"(from) : "memory");
  return v;
}
__device__ inline void cluster_barrier() {
  asm volatile("barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
__device__ inline uint32_t cluster_rank() {
  uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

/* ------------------------------------------------------------------------------------------------------------- TMA */

__device__ inline void prefetch_map(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}
/* The tile whose first element is (column, row), elements outside the tensor as zeros; all its bytes count at barrier. */
__device__ inline void load_tile(uint32_t to, const CUtensorMap* map, int column, int row, uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(to),
      "l"(map), "r"(column), "r"(row), "r"(barrier)
      : "memory");
}
/* The same of a stack of matrices. */
__device__ inline void load_tile(uint32_t to, const CUtensorMap* map, int column, int row, int matrix, uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], [%5];" ::"r"(to),
      "l"(map), "r"(column), "r"(row), "r"(matrix), "r"(barrier)
      : "memory");
}
/* The same into each block of the cluster in mask, at the same address, counting at the same barrier of each. */
__device__ inline void load_tile_to(uint32_t to, const CUtensorMap* map, int column, int row, uint32_t barrier, uint16_t mask) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster"
      " [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(to),
      "l"(map), "r"(column), "r"(row), "r"(barrier), "h"(mask)
      : "memory");
}
/* What lies outside the tensor is not written. */
__device__ inline void store_tile(const CUtensorMap* map, int column, int row, uint32_t from) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%1, %2}], [%3];" ::"l"(map), "r"(column),
               "r"(row), "r"(from)
               : "memory");
}
/* Adds a tile of fp32 to one of a stack of matrices, in the cache; sums below 2^-126 become 0. */
__device__ inline void add_tile(const CUtensorMap* map, int column, int row, int matrix, uint32_t from) {
  asm volatile("cp.reduce.async.bulk.tensor.3d.global.shared::cta.add.tile.bulk_group [%0, {%1, %2, %3}], [%4];" ::"l"(map),
               "r"(column), "r"(row), "r"(matrix), "r"(from)
               : "memory");
}
__device__ inline void store_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
/* Until at most kPending of this thread's stores still read shared memory. */
template <int kPending>
__device__ inline void store_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
}
__device__ inline void store_wait() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }
/* What this thread wrote to shared memory becomes visible to TMA and wgmma. */
__device__ inline void async_proxy_fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/* Four bytes from global memory, of which the last 4 - present are not read and arrive as zeros. Unlike a load, a copy in
   flight does not hold up async_proxy_fence. */
__device__ inline void copy_word(uint32_t to, const void* from, uint32_t present) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(present) : "memory");
}
/* Sixteen of them, past the first cache. */
__device__ inline void copy_chunk(uint32_t to, const void* from, uint32_t present) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(present) : "memory");
}
/* Arrives at the barrier when this thread's copies so far are done. The barrier's count must have a place for each thread. */
__device__ inline void copy_arrive(uint32_t barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}
__device__ inline void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kPending>
__device__ inline void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

/* Four 8x8 matrices of 16-bit elements, a row's address from each lane. */
__device__ inline void store_matrices(uint32_t to, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(a), "r"(b), "r"(c), "r"(d)
               : "memory");
}

__device__ inline void store_pair(uint32_t to, float a, float b) {
  asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(to), "f"(a), "f"(b) : "memory");
}

/* Two numbers, rounded to the nearest, as one register. */
template <class T>
__device__ inline uint32_t pair(float low, float high) {
  if constexpr (std::is_same<T, __nv_bfloat16>::value) {
    const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&both);
  } else {
    const __half2 both = __floats2half2_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&both);
  }
}

/* ----------------------------------------------------------------------------------------------------------- wgmma */

/* A tile for wgmma. K-major operands (rows of 64 k): group = 1024, slab is ignored. MN-major: slabs of 64 columns, each
   [k][64], slab bytes from one to the next. */
__device__ inline uint64_t tile_descriptor(uint32_t address, uint32_t slab) {
  constexpr uint64_t kGroup = 1024, kSwizzle128 = 1;
  return static_cast<uint64_t>((address & 0x3FFFF) >> 4) | static_cast<uint64_t>(slab >> 4) << 16 | kGroup >> 4 << 32 |
         kSwizzle128 << 62;
}

__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kPending>
__device__ inline void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
/* Keeps the compiler from reading accumulators before the wait above it. */
template <int kCount>
__device__ inline void hold(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; i++) asm volatile("" : "+f"(d[i])::"memory");
}

#define ORIBI_D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define ORIBI_D16(i) ORIBI_D4(i), ORIBI_D4(i + 4), ORIBI_D4(i + 8), ORIBI_D4(i + 12)
#define ORIBI_D64(i) ORIBI_D16(i), ORIBI_D16(i + 16), ORIBI_D16(i + 32), ORIBI_D16(i + 48)
#define ORIBI_R64                                                                                                      \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30," \
  "%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,"    \
  "%59,%60,%61,%62,%63"
#define ORIBI_D32(i) ORIBI_D16(i), ORIBI_D16(i + 16)
#define ORIBI_R88                                                                                                     \
  ORIBI_R64 ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87"
#define ORIBI_D8(i) ORIBI_D4(i), ORIBI_D4(i + 4)
#define ORIBI_R96                                                                                                     \
  ORIBI_R64 ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,"    \
            "%89,%90,%91,%92,%93,%94,%95"
#define ORIBI_R112                                                                                                    \
  ORIBI_R96 ",%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111"
#define ORIBI_R128                                                                                                    \
  ORIBI_R96 ",%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113,%114,%115,%116,"  \
            "%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define ORIBI_WGMMA_128(type)                                                                                          \
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %66, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type     \
               " {" ORIBI_R64 "}, %64, %65, p, 1, 1, %68, %67; }"                                                        \
               : ORIBI_D64(0)                                                                                          \
               : "l"(a), "l"(b), "r"(add), "n"(kTransposed), "n"(kLeftTransposed))
#define ORIBI_WGMMA_176(type)                                                                                          \
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %90, 0; wgmma.mma_async.sync.aligned.m64n176k16.f32." type "." type     \
               " {" ORIBI_R88 "}, %88, %89, p, 1, 1, %92, %91; }"                                                        \
               : ORIBI_D64(0), ORIBI_D16(64), ORIBI_D8(80)                                                             \
               : "l"(a), "l"(b), "r"(add), "n"(kTransposed), "n"(kLeftTransposed))
#define ORIBI_WGMMA_192(type)                                                                                          \
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %98, 0; wgmma.mma_async.sync.aligned.m64n192k16.f32." type "." type     \
               " {" ORIBI_R96 "}, %96, %97, p, 1, 1, %100, %99; }"                                                        \
               : ORIBI_D64(0), ORIBI_D32(64)                                                                           \
               : "l"(a), "l"(b), "r"(add), "n"(kTransposed), "n"(kLeftTransposed))
#define ORIBI_WGMMA_224(type)                                                                                          \
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %114, 0; wgmma.mma_async.sync.aligned.m64n224k16.f32." type "." type    \
               " {" ORIBI_R112 "}, %112, %113, p, 1, 1, %116, %115; }"                                                    \
               : ORIBI_D64(0), ORIBI_D32(64), ORIBI_D16(96)                                                            \
               : "l"(a), "l"(b), "r"(add), "n"(kTransposed), "n"(kLeftTransposed))
#define ORIBI_WGMMA_256(type)                                                                                          \
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %130, 0; wgmma.mma_async.sync.aligned.m64n256k16.f32." type "." type    \
               " {" ORIBI_R128 "}, %128, %129, p, 1, 1, %132, %131; }"                                                    \
               : ORIBI_D64(0), ORIBI_D64(64)                                                                           \
               : "l"(a), "l"(b), "r"(add), "n"(kTransposed), "n"(kLeftTransposed))

/* d[64,kN] = (add ? d : 0) + a[64,16]·b, b being [kN,16], or [16,kN] with kTransposed 1; a likewise [16,64] with
   kLeftTransposed 1. d of a thread: for each 8 columns c, elements 2·(lane%4) and + 1 of row 16·warp + lane/4, then those of the row eight further. */
template <class T, int kTransposed, int kLeftTransposed = 0>
__device__ inline void wgmma(float (&d)[64], uint64_t a, uint64_t b, int add) {
  if constexpr (std::is_same<T, __nv_bfloat16>::value) {
    ORIBI_WGMMA_128("bf16");
  } else {
    ORIBI_WGMMA_128("f16");
  }
}
template <class T, int kTransposed, int kLeftTransposed = 0>
__device__ inline void wgmma(float (&d)[88], uint64_t a, uint64_t b, int add) {
  if constexpr (std::is_same<T, __nv_bfloat16>::value) {
    ORIBI_WGMMA_176("bf16");
  } else {
    ORIBI_WGMMA_176("f16");
  }
}
template <class T, int kTransposed, int kLeftTransposed = 0>
__device__ inline void wgmma(float (&d)[96], uint64_t a, uint64_t b, int add) {
  if constexpr (std::is_same<T, __nv_bfloat16>::value) {
    ORIBI_WGMMA_192("bf16");
  } else {
    ORIBI_WGMMA_192("f16");
  }
}
template <class T, int kTransposed, int kLeftTransposed = 0>
__device__ inline void wgmma(float (&d)[112], uint64_t a, uint64_t b, int add) {
  if constexpr (std::is_same<T, __nv_bfloat16>::value) {
    ORIBI_WGMMA_224("bf16");
  } else {
    ORIBI_WGMMA_224("f16");
  }
}
template <class T, int kTransposed, int kLeftTransposed = 0>
__device__ inline void wgmma(float (&d)[128], uint64_t a, uint64_t b, int add) {
  if constexpr (std::is_same<T, __nv_bfloat16>::value) {
    ORIBI_WGMMA_256("bf16");
  } else {
    ORIBI_WGMMA_256("f16");
  }
}

/* Of few columns, for thin products. */
#define ORIBI_R8 "%0,%1,%2,%3,%4,%5,%6,%7"
#define ORIBI_R16 ORIBI_R8 ",%8,%9,%10,%11,%12,%13,%14,%15"
#define ORIBI_R24 ORIBI_R16 ",%16,%17,%18,%19,%20,%21,%22,%23"
#define ORIBI_R32 ORIBI_R24 ",%24,%25,%26,%27,%28,%29,%30,%31"
#define ORIBI_WGMMA_16(type)                                                                                           \
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %10, 0; wgmma.mma_async.sync.aligned.m64n16k16.f32." type "." type      \
               " {" ORIBI_R8 "}, %8, %9, p, 1, 1, 0, %11; }"                                                           \
               : ORIBI_D8(0)                                                                                           \
               : "l"(a), "l"(b), "r"(add), "n"(kTransposed))
#define ORIBI_WGMMA_32(type)                                                                                           \
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %18, 0; wgmma.mma_async.sync.aligned.m64n32k16.f32." type "." type      \
               " {" ORIBI_R16 "}, %16, %17, p, 1, 1, 0, %19; }"                                                        \
               : ORIBI_D16(0)                                                                                          \
               : "l"(a), "l"(b), "r"(add), "n"(kTransposed))
#define ORIBI_WGMMA_48(type)                                                                                           \
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %26, 0; wgmma.mma_async.sync.aligned.m64n48k16.f32." type "." type      \
               " {" ORIBI_R24 "}, %24, %25, p, 1, 1, 0, %27; }"                                                        \
               : ORIBI_D16(0), ORIBI_D8(16)                                                                            \
               : "l"(a), "l"(b), "r"(add), "n"(kTransposed))
#define ORIBI_WGMMA_64(type)                                                                                           \
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %34, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type      \
               " {" ORIBI_R32 "}, %32, %33, p, 1, 1, 0, %35; }"                                                        \
               : ORIBI_D32(0)                                                                                          \
               : "l"(a), "l"(b), "r"(add), "n"(kTransposed))
template <class T, int kTransposed>
__device__ inline void wgmma(float (&d)[8], uint64_t a, uint64_t b, int add) {
  if constexpr (std::is_same<T, __nv_bfloat16>::value) {
    ORIBI_WGMMA_16("bf16");
  } else {
    ORIBI_WGMMA_16("f16");
  }
}
template <class T, int kTransposed>
__device__ inline void wgmma(float (&d)[16], uint64_t a, uint64_t b, int add) {
  if constexpr (std::is_same<T, __nv_bfloat16>::value) {
    ORIBI_WGMMA_32("bf16");
  } else {
    ORIBI_WGMMA_32("f16");
  }
}
template <class T, int kTransposed>
__device__ inline void wgmma(float (&d)[24], uint64_t a, uint64_t b, int add) {
  if constexpr (std::is_same<T, __nv_bfloat16>::value) {
    ORIBI_WGMMA_48("bf16");
  } else {
    ORIBI_WGMMA_48("f16");
  }
}
template <class T, int kTransposed>
__device__ inline void wgmma(float (&d)[32], uint64_t a, uint64_t b, int add) {
  if constexpr (std::is_same<T, __nv_bfloat16>::value) {
    ORIBI_WGMMA_64("bf16");
  } else {
    ORIBI_WGMMA_64("f16");
  }
}

#undef ORIBI_D4
#undef ORIBI_D16
#undef ORIBI_D32
#undef ORIBI_D64
#undef ORIBI_R8
#undef ORIBI_R16
#undef ORIBI_R24
#undef ORIBI_R32
#undef ORIBI_R64
#undef ORIBI_R88
#undef ORIBI_D8
#undef ORIBI_R96
#undef ORIBI_R112
#undef ORIBI_R128
#undef ORIBI_WGMMA_16
#undef ORIBI_WGMMA_32
#undef ORIBI_WGMMA_48
#undef ORIBI_WGMMA_64
#undef ORIBI_WGMMA_128
#undef ORIBI_WGMMA_176
#undef ORIBI_WGMMA_192
#undef ORIBI_WGMMA_224
#undef ORIBI_WGMMA_256

}  // namespace sm90
}  // namespace oribi
#endif
