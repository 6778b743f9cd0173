/*
 * What the LoRA kernels of every card are made of beside fragments and mma.sync (cuda/mma.cuh): copies to shared memory that
 * are some steps ahead of the arithmetic.
 *
 * From sm_80 on a copy is cp.async. Below, it passes through registers: `fetch` begins it and `deposit`, after the arithmetic
 * of the step before, ends it, and bf16 is refused by the entry points.
 */
#ifndef ORIBI_CUDA_LORA_TILE_CUH
#define ORIBI_CUDA_LORA_TILE_CUH

#include "cuda/dependent.cuh"
#include "cuda/mma.cuh"

namespace oribi::lora {

/* Whether this compilation has code for T on tensor cores; kernels are empty where it has not. */
template <class T>
__device__ constexpr bool has_code() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
  return sizeof(T) == 2 && !std::is_same<T, __nv_bfloat16>::value;
#else
  return true;
#endif
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

}  // namespace oribi::lora
#endif
