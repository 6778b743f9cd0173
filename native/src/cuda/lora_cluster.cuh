/*
 * The skinny products on sm_90 where all units fit on the card at once: the blocks that share a unit are a cluster, which adds
 * its parts of the sum through its shared memory. No partial sum goes to the workspace, and no second kernel is launched, which
 * for a few hundred tokens is half of the time.
 */
#ifndef ORIBI_CUDA_LORA_CLUSTER_CUH
#define ORIBI_CUDA_LORA_CLUSTER_CUH

#include <atomic>

#include "cuda/lora_split.cuh"
#include "cuda/lora_support.cuh"

namespace oribi::lora {

/* 16 is more than every card promises: it is asked whether it can. */
constexpr int kLargestCluster = 16;

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
__device__ inline int cluster_rank() {
  int rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ inline int cluster_size() {
  int size;
  asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
  return size;
}
/* All threads of all blocks, and what they wrote before. */
__device__ inline void cluster_barrier() {
  asm volatile("barrier.cluster.arrive.release; barrier.cluster.wait.acquire;" ::: "memory");
}
/* Four numbers in the shared memory of a block of the cluster. */
__device__ inline float4 read_remote(uint32_t mine, int rank) {
  float4 x;
  asm volatile("{ .reg .b32 remote; mapa.shared::cluster.u32 remote, %4, %5; ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [remote]; }"
               : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w)
               : "r"(mine), "r"(rank)
               : "memory");
  return x;
}
#endif

/* A unit's steps in equal parts, a block for each; then each block adds its part of the sum's elements, rank after rank. P has, beside
   what run_steps asks for, store(sum) and write(unit, element, four numbers). */
template <class P>
__device__ void run_cluster(P& p, int64_t steps, int stages, float* memory) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  const int rank = cluster_rank(), size = cluster_size();
  const int64_t unit = blockIdx.x / size, first = rank * steps / size;
  run_steps(p, unit * steps + first, (rank + 1) * steps / size - first, steps, stages);
  wait_for_copies(0);
  __syncthreads(); /* the ring is free for the sum */
  p.store(memory);
  cluster_barrier();
  constexpr int kFours = P::kSumFloats / 4;
  for (int i = rank * kFours / size + threadIdx.x; i < (rank + 1) * kFours / size; i += P::kThreads) {
    float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll 4
    for (int from = 0; from < size; from++) {
      const float4 part = read_remote(shared_address(memory + 4 * i), from);
      sum.x += part.x;
      sum.y += part.y;
      sum.z += part.z;
      sum.w += part.w;
    }
    p.write(unit, 4 * i, sum);
  }
  cluster_barrier(); /* a block's memory must last until the others have read it */
#endif
}

/* How many clusters of this many blocks the card runs at once; 0: it has none. Asked once for each card and size. */
template <auto kKernel>
int active_clusters(const oribi_ctx* ctx, cudaLaunchConfig_t config, int size) {
  constexpr int kCards = 64, kSizes = kLargestCluster + 1;
  static std::atomic<int> known[kCards][kSizes];
  const int index = static_cast<const CudaContext*>(ctx)->index;
  int count = index < kCards ? known[index][size].load() : 0;
  if (count != 0) return count - 1;
  config.gridDim = dim3(static_cast<unsigned>(size));
  if (cudaFuncSetAttribute(kKernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1) != cudaSuccess ||
      cudaOccupancyMaxActiveClusters(&count, kKernel, &config) != cudaSuccess) {
    cudaGetLastError(); /* then the other kernels do it */
    count = 0;
  }
  if (index < kCards) known[index][size].store(count + 1);
  return count;
}

/* Launches a cluster for each unit, if all of them fit on the card at once with most_blocks blocks; the larger a cluster the
   better, as long as they do. false: nothing was launched. */
template <auto kKernel, class P, class Arguments>
bool launch_cluster(oribi_ctx* ctx, const Arguments& at, int64_t most_blocks, cudaError_t* error) {
  if (lora_code(ctx) < 90) return false;
  *error = allow_shared_memory<kKernel>(ctx);
  if (*error != cudaSuccess) return true;
  cudaLaunchAttribute cluster;
  cluster.id = cudaLaunchAttributeClusterDimension;
  cudaLaunchConfig_t config{};
  config.blockDim = dim3(P::kThreads);
  config.dynamicSmemBytes = static_cast<size_t>(at.stages) * P::kStageBytes;
  config.stream = stream_of(ctx);
  config.attrs = &cluster;
  config.numAttrs = 1;
  for (int size = kLargestCluster; size >= 1; size /= 2) {
    cluster.val.clusterDim = {static_cast<unsigned>(size), 1, 1};
    if (at.split.steps < size || at.split.units * at.chunks * size > most_blocks) continue;
    if (at.split.units * at.chunks > active_clusters<kKernel>(ctx, config, size)) continue;
    config.gridDim = dim3(static_cast<unsigned>(at.split.units * size), static_cast<unsigned>(at.chunks));
    *error = cudaLaunchKernelEx(&config, kKernel, at);
    return true;
  }
  return false;
}

}  // namespace oribi::lora
#endif
