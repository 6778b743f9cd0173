/*
 * What the LoRA kernels of every card are made of: 16-byte copies to shared memory, fragments, mma.sync.
 *
 * From sm_80 on a copy is cp.async, k is 16 and bf16 is a type of the tensor cores. Below, a copy passes through registers:
 * `fetch` begins it and `deposit`, after the arithmetic of the step before, ends it; one k16 step is two m16n8k8, whose
 * fragments are the halves of its fragments, and bf16 is refused by the entry points.
 *
 * Fragments are those of mma.m16n8k16: lane / 4 is the row (and + 8), 2 * (lane % 4) the column of a pair.
 */
#ifndef ORIBI_CUDA_LORA_TILE_CUH
#define ORIBI_CUDA_LORA_TILE_CUH

#include "cuda/vector.cuh"

namespace oribi::lora {

constexpr int kChunk = 8; /* elements in 16 bytes */

/* Whether this compilation has code for T on tensor cores; kernels are empty where it has not. */
template <class T>
__device__ constexpr bool has_code() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
  return sizeof(T) == 2 && !std::is_same<T, __nv_bfloat16>::value;
#else
  return true;
#endif
}

__device__ inline uint32_t shared_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

__device__ inline void store_16(uint32_t to, uint4 x) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(x.x), "r"(x.y), "r"(x.z), "r"(x.w) : "memory");
}

__device__ inline uint4 load_16(uint32_t from) {
  uint4 x;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];" : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w) : "r"(from) : "memory");
  return x;
}

__device__ inline void store_4(uint32_t to, uint32_t x) { asm volatile("st.shared.b32 [%0], %1;" ::"r"(to), "r"(x) : "memory"); }

/* What the cache should do with a copy's bytes. Those of a tensor that is read once and is larger than the cache are best the
   first to go, so that the partial sums written meanwhile are still there when they are added. */
enum class Keep { kUsual, kBriefly };

/* kCount chunks of 16 bytes of one step, on their way from global to shared memory; zeros where not inside. */
template <int kCount>
struct Transfer {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  template <Keep kKeep = Keep::kUsual>
  __device__ void fetch(int, uint32_t to, const void* from, bool inside) {
    if constexpr (kKeep == Keep::kBriefly) {
      uint64_t policy;
      asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
      asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2, %3;" ::"r"(to), "l"(from), "r"(inside ? 16 : 0), "l"(policy)
                   : "memory");
      return;
    }
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(inside ? 16 : 0) : "memory");
  }
  __device__ void deposit(int, uint32_t) {}
#else
  uint4 chunk[kCount];
  template <Keep kKeep = Keep::kUsual>
  __device__ void fetch(int i, uint32_t, const void* from, bool inside) {
    chunk[i] = inside ? __ldg(static_cast<const uint4*>(from)) : make_uint4(0, 0, 0, 0);
  }
  __device__ void deposit(int i, uint32_t to) { store_16(to, chunk[i]); }
#endif
};

/* The kernel that adds the partial sums is launched while the one that leaves them still runs: it may begin when every block
   of that one has called release_next, and waits in wait_for_previous for its results. Before sm_90 kernels follow each
   other, and these do nothing. */
__device__ inline void release_next() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
__device__ inline void wait_for_previous() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* Ends a step's group of copies; every step has one, an empty one if need be, so that they can be counted. */
__device__ inline void close_copies() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/* Until at most `left` of the steps begun are still under way; left is one of 0 to 4. */
__device__ inline void wait_for_copies(int left) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  switch (left) {
    case 0: asm volatile("cp.async.wait_group 0;" ::: "memory"); break;
    case 1: asm volatile("cp.async.wait_group 1;" ::: "memory"); break;
    case 2: asm volatile("cp.async.wait_group 2;" ::: "memory"); break;
    case 3: asm volatile("cp.async.wait_group 3;" ::: "memory"); break;
    default: asm volatile("cp.async.wait_group 4;" ::: "memory"); break;
  }
#endif
}
constexpr int kMostStages = 6; /* steps in flight plus the one that is computed, as far as wait_for_copies counts */

__device__ inline void load_matrices(uint32_t (&x)[4], uint32_t from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "r"(from) : "memory");
}

__device__ inline void load_matrices_transposed(uint32_t (&x)[4], uint32_t from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "r"(from) : "memory");
}

/* c[16][8] += a[16][16] * b[16][8] */
template <class T>
__device__ inline void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);

template <>
__device__ inline void mma<__half>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(b0));
  asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[2]), "r"(a[3]), "r"(b1));
#endif
}

template <>
__device__ inline void mma<__nv_bfloat16>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

template <class T>
__device__ inline uint32_t pack_pair(float low, float high);
template <>
__device__ inline uint32_t pack_pair<__half>(float low, float high) {
  const __half2 pair = __floats2half2_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
template <>
__device__ inline uint32_t pack_pair<__nv_bfloat16>(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

}  // namespace oribi::lora
#endif
