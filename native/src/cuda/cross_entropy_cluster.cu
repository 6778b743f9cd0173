/*
 * Cross-entropy where thread blocks form clusters (compute capability 9.0 and later). Mathematics, shapes and precision are
 * those of cross_entropy.cu; the difference is where a row waits for its second pass: not in the L2 cache but in the shared
 * memory of the cluster's blocks, a slice in each. So the logits are read from memory once by construction, and while one
 * block of a multiprocessor waits for its slice, others write theirs.
 *
 * Layout      rows of logits at multiples of 16 bytes: V * size a multiple of 16
 * Determinism bit-exact on one GPU; sums in another order than cross_entropy.cu's
 * Limits      a slice of at most 1 MiB / 8: V <= 262144 in fp32
 */
#include "cuda/cross_entropy.cuh"

namespace oribi {
namespace {

constexpr int kThreads = 512;
constexpr int kChunk = kThreads * 16; /* bytes that arrive together: 16 for each thread */
/* Three slices of 72 KiB fit a multiprocessor's 227 KiB: blocks that load beside blocks that store. */
constexpr int kSlice = 72 * 1024;
constexpr int kMaxCluster = 8; /* what every GPU with clusters can form */
constexpr int kMaxChunks = (1 << 20) / kMaxCluster / kChunk;

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define ORIBI_HAS_CLUSTERS 1
#endif

#ifdef ORIBI_HAS_CLUSTERS
__device__ inline uint32_t shared_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

__device__ inline void barrier_init(uint64_t* barrier) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(barrier)) : "memory");
}

/* One thread: the copy of `bytes`, a multiple of 16, and the barrier that completes with it. */
__device__ inline void copy_async(void* to, const void* from, uint32_t bytes, uint64_t* barrier) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes) : "memory");
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared_address(to)),
               "l"(from), "r"(bytes), "r"(shared_address(barrier))
               : "memory");
}

__device__ inline void barrier_wait(uint64_t* barrier) {
  asm volatile(
      "{ .reg .pred done; wait: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], 0; @done bra over; bra wait; over: }" ::"r"(
          shared_address(barrier))
      : "memory");
}

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

__device__ inline void cluster_arrive() { asm volatile("barrier.cluster.arrive.release;" ::: "memory"); }
__device__ inline void cluster_wait() { asm volatile("barrier.cluster.wait.acquire;" ::: "memory"); }

/* A number in the shared memory of another block of the cluster. */
__device__ inline float read_remote(const float* mine, int rank) {
  float value;
  asm volatile("{ .reg .b32 remote; mapa.shared::cluster.u32 remote, %1, %2; ld.shared::cluster.f32 %0, [remote]; }"
               : "=f"(value)
               : "r"(shared_address(mine)), "r"(rank)
               : "memory");
  return value;
}

/* Over all blocks of the cluster, rank after rank, the same in each. */
__device__ Running cluster_total(Running mine, int size) {
  __shared__ Running of_block;
  if (threadIdx.x == 0) of_block = mine;
  cluster_arrive();
  cluster_wait();
  Running all = Running::none();
  for (int rank = 0; rank < size; rank++) {
    const Running other{read_remote(&of_block.max, rank), read_remote(&of_block.sum, rank)};
    const float most = fmaxf(all.max, other.max);
    all.sum = all.sum * __expf(all.max - most) + other.sum * __expf(other.max - most);
    all.max = most;
  }
  cluster_arrive(); /* waited for at the end: no block leaves while another may read its shared memory */
  return all;
}

/* The row of a token that is not learned. */
template <class T>
__device__ void write_zeros(T* dx, int packs) {
  using P = Pack<T, 16 / sizeof(T)>;
  for (int i = threadIdx.x; i < packs; i += kThreads) reinterpret_cast<P*>(dx)[i] = P{};
}
#endif

/* A cluster takes a row. slice: 16-byte packs of each of its blocks but perhaps the last. */
template <class T, bool kSoftcap>
__global__ void __launch_bounds__(kThreads) cluster_kernel(const LogitRows<T> rows, int slice) {
#ifdef ORIBI_HAS_CLUSTERS
  constexpr int kWide = 16 / sizeof(T);
  using P = Pack<T, kWide>;
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ uint64_t arrived[kMaxChunks];
  const int size = cluster_size(), rank = cluster_rank();
  const int64_t row = blockIdx.x / size;
  const int first = rank * slice, packs = max(0, min(slice, rows.v / kWide - first));
  const int64_t begin = row * rows.v + static_cast<int64_t>(first) * kWide;
  const int label = rows.labels[row];
  const bool learned = label >= 0 && label < rows.v; /* the same in every block of the cluster */
  if (!learned) {
    if (rank == 0 && threadIdx.x == 0) {
      rows.loss[row] = 0;
      if (label >= rows.v) *rows.fault = kFaultLabel;
    }
    if (rows.dlogits != nullptr) write_zeros(rows.dlogits + begin, packs);
    return;
  }
  const int chunks = (packs + kThreads - 1) / kThreads;
  if (threadIdx.x == 0) {
    for (int c = 0; c < chunks; c++) barrier_init(&arrived[c]);
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    for (int c = 0; c < chunks; c++) {
      const int bytes = min(kThreads, packs - c * kThreads) * 16;
      copy_async(shared + c * kChunk, reinterpret_cast<const P*>(rows.logits + begin) + c * kThreads, bytes, &arrived[c]);
    }
  }
  /* Before the cluster's barrier: after it, a block may write its gradient over the logits. */
  const float of_label = transformed<kSoftcap>(to_float(rows.logits[row * rows.v + label]), rows.transform);
  __syncthreads(); /* the barriers are made */
  Running running = Running::none();
  const P* in = reinterpret_cast<const P*>(shared);
  for (int c = 0; c < chunks; c++) {
    barrier_wait(&arrived[c]);
    const int i = c * kThreads + threadIdx.x;
    if (i >= packs) break;
    const P value = in[i];
    float z[kWide];
#pragma unroll
    for (int k = 0; k < kWide; k++) z[k] = transformed<kSoftcap>(to_float(value.element[k]), rows.transform);
    running.add(z);
  }
  const Running total = cluster_total(block_total<kThreads>(running), size);
  if (rank == 0 && threadIdx.x == 0) rows.loss[row] = (total.max - of_label) + logf(total.sum);
  if (rows.dlogits != nullptr) {
    P* out = reinterpret_cast<P*>(rows.dlogits + begin);
    const float inverse = 1.0f / total.sum, grad_scale = *rows.grad_scale;
    const int own_label = label - first * kWide;
#pragma unroll 2
    for (int i = threadIdx.x; i < packs; i += kThreads) {
      P value = in[i];
#pragma unroll
      for (int k = 0; k < kWide; k++) {
        value.element[k] = from_float<T>(gradient<kSoftcap>(to_float(value.element[k]), rows.transform, total.max, inverse,
                                                            grad_scale, i * kWide + k == own_label));
      }
      out[i] = value;
    }
  }
  cluster_wait();
#endif
}

template <class T>
bool launch(oribi_ctx* ctx, const LogitRows<T>& rows) {
  const int64_t bytes = rows.v * static_cast<int64_t>(sizeof(T));
  if (static_cast<CudaContext*>(ctx)->architecture < 90 || bytes % 16 != 0 || bytes > kMaxCluster * kMaxChunks * int64_t{kChunk}) {
    return false;
  }
  int size = 1;
  while (size < kMaxCluster && bytes > size * int64_t{kSlice}) size *= 2;
  if (rows.n * size > INT32_MAX) return false;
  const auto kernel = rows.transform.softcap != 0 ? cluster_kernel<T, true> : cluster_kernel<T, false>;
  cudaFuncAttributes attributes;
  if (cudaFuncGetAttributes(&attributes, kernel) != cudaSuccess || attributes.ptxVersion < 90) {
    cudaGetLastError();
    return false; /* this library was built for older GPUs only: the kernel is empty */
  }
  const int slice = static_cast<int>((bytes / 16 + size - 1) / size);
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, slice * 16);
  cudaLaunchAttribute cluster;
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {static_cast<unsigned>(size), 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(rows.n * size));
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = static_cast<size_t>(slice) * 16;
  config.stream = stream_of(ctx);
  config.attrs = &cluster;
  config.numAttrs = 1;
  cudaLaunchKernelEx(&config, kernel, rows, slice); /* an error waits for launch_status */
  return true;
}

}  // namespace

bool launch_clusters(oribi_ctx* ctx, const LogitRows<float>& rows) { return launch(ctx, rows); }
bool launch_clusters(oribi_ctx* ctx, const LogitRows<__nv_bfloat16>& rows) { return launch(ctx, rows); }
bool launch_clusters(oribi_ctx* ctx, const LogitRows<__half>& rows) { return launch(ctx, rows); }

}  // namespace oribi
