/*
 * The kernel of lora_matmul_sm90.cu: what a block does. A warpgroup of producers fills a ring of stages, two warpgroups of
 * consumers multiply what is in them, 64 rows each; a block computes one tile of y after another.
 */
#ifndef ORIBI_CUDA_LORA_MATMUL_SM90_KERNEL_CUH
#define ORIBI_CUDA_LORA_MATMUL_SM90_KERNEL_CUH

#include "cuda/lora_matmul_sm90_nf4.cuh"
#include "cuda/lora_matmul_sm90_producer.cuh"

namespace oribi {
namespace lora90 {

/* -------------------------------------------------------------------------------------------------------- consumer */

/* Tells the producers of all blocks that fill this stage that one more warp has done with it. */
template <class P>
__device__ inline void release(const Shared<P>& s, int stage) {
  const int lane = threadIdx.x % 32;
  if constexpr (P::kCluster == 1) {
    if (lane == 0) sm90::barrier_arrive(s.empty(stage));
  } else {
    if (lane < P::kCluster) sm90::barrier_arrive_at(s.empty(stage), lane);
  }
}

/* d = (add ? d : 0) + the products of 16 of a stage's 64 inner elements. */
template <class P, int kCount>
__device__ inline void multiply(float (&d)[kCount], const Shared<P>& s, int stage, int consumer, int k16, int add) {
  constexpr uint32_t kWStep = P::kDx ? 16 * kRowBytes : 32; /* bytes from one k16 to the next */
  const uint64_t x = sm90::tile_descriptor(s.x(stage) + consumer * (64 * kRowBytes) + k16 * 32, 0);
  const uint64_t w = sm90::tile_descriptor(s.w(stage) + k16 * kWStep, P::kDx ? kDepth * kRowBytes : 0);
  sm90::wgmma<typename P::T, P::kDx ? 1 : 0>(d, x, w, add);
}

/* The second consumer begins after the first one's second step. From then on they store their rows at different times,
   and one has the tensor cores for itself while the other stores. */
constexpr int kStaggerBarrier = 3, kStaggerThreads = 256;

/* One tile: after it d holds y's 64 rows of this consumer, in fp32. After step `signal` the other consumer may begin. */
template <class P, int kCount>
__device__ inline void accumulate(float (&d)[kCount], const Arguments& a, const Shared<P>& s, Ring<P::kStages>& ring, int consumer,
                                  int column, int64_t signal) {
  int last = -1; /* the stage that the products in flight before this one read */
  for (int64_t step = 0; step < a.steps; step++) {
    sm90::barrier_wait(s.full(ring.stage), ring.parity, sm90::Role::consumer, ring.stage);
    sm90::wgmma_fence();
#pragma unroll
    for (int k16 = 0; k16 < kDepth / 16; k16++) multiply<P>(d, s, ring.stage, consumer, k16, k16 > 0 || step > 0);
    sm90::wgmma_commit();
    sm90::wgmma_wait<1>();
    if (last >= 0) release<P>(s, last);
    if (step == signal) sm90::named_arrive(kStaggerBarrier, kStaggerThreads);
    last = ring.stage;
    ring.advance();
  }
  sm90::wgmma_wait<0>();
  release<P>(s, last);
  for (int part = 0; part < a.parts; part++) {
    if (!meets<P>(a, part, column)) continue;
    for (int inner = 0; inner < a.rank; inner += kDepth) {
      const int count = min(kDepth, a.rank - inner + 15) / 16; /* of a rank of 16, three quarters of the stage are zeros */
      sm90::barrier_wait(s.full(ring.stage), ring.parity, sm90::Role::adapter_consumer, ring.stage);
      int k16 = 0;
#pragma unroll 1
      do { /* with the fence outside the loop, or products in flight around it, ptxas adds fences of its own */
        sm90::wgmma_fence();
        multiply<P>(d, s, ring.stage, consumer, k16, 1);
        sm90::wgmma_commit();
        sm90::wgmma_wait<0>();
      } while (++k16 < count);
      release<P>(s, ring.stage);
      ring.advance();
    }
  }
  sm90::hold(d);
}

/* Rounds d and stores it, 64 columns at a time, through two buffers. TMA leaves out what lies beyond y's edges. */
template <class P, int kCount>
__device__ inline void store(const float (&d)[kCount], const Arguments& a, const Shared<P>& s, int consumer, int row, int column) {
  const int thread = threadIdx.x % 128, lane = thread % 32;
  const int staged_row = thread / 32 * 16 + lane % 16; /* the row whose address this lane gives to stmatrix */
#pragma unroll
  for (int slab = 0; slab < P::kColumns / kSlab; slab++) {
    const uint32_t buffer = s.staging(consumer, slab % kSlabBuffers);
    if (thread == 0) sm90::store_wait_read<kSlabBuffers - 1>();
    /* With an odd number of slabs the tile before has ended with the buffer that this one begins with. */
    if (thread == 0 && slab == 0 && P::kColumns / kSlab % kSlabBuffers != 0) sm90::store_wait_read<0>();
    sm90::named_barrier(1 + consumer, 128); /* the buffer is free */
#pragma unroll
    for (int c = 0; c < kSlab / 8; c += 2) {
      const float* v = &d[(slab * (kSlab / 8) + c) * 4];
      const uint32_t to = buffer + staged_row * kRowBytes + (((c + lane / 16) ^ (staged_row & 7)) << 4);
      using T = typename P::T;
      sm90::store_matrices(to, sm90::pair<T>(v[0], v[1]), sm90::pair<T>(v[2], v[3]), sm90::pair<T>(v[4], v[5]), sm90::pair<T>(v[6], v[7]));
    }
    sm90::async_proxy_fence();
    sm90::named_barrier(1 + consumer, 128); /* the buffer is full */
    if (thread == 0) {
      sm90::store_tile(&a.y, column + slab * kSlab, row, buffer);
      sm90::store_commit();
    }
  }
}

template <class P>
__device__ inline void consume(const Arguments& a, const Shared<P>& s, int consumer, int rank) {
  float d[P::kColumns / 2];
  Ring<P::kStages> ring;
  int64_t signal = consumer == 0 ? min(int64_t{1}, a.steps - 1) : -1;
  if (consumer == 1) sm90::named_barrier(kStaggerBarrier, kStaggerThreads);
  for (int tile = first_tile<P>(); tile < a.tiles; tile += tile_stride<P>()) {
    const Place place = place_of<P>(a, tile, rank);
    accumulate<P>(d, a, s, ring, consumer, place.column, signal);
    signal = -1;
    store<P>(d, a, s, consumer, place.row + consumer * 64, place.column);
  }
  if (threadIdx.x % 128 == 0) sm90::store_wait(); /* shared memory must live until TMA has read it */
}

/* ---------------------------------------------------------------------------------------------------------- kernel */

template <class P>
__device__ inline void run(const typename P::Args& a, const void* memory) {
  const Shared<P> s(memory);
  const int rank = P::kCluster > 1 ? static_cast<int>(sm90::cluster_rank()) : 0;
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < P::kStages; stage++) {
      sm90::barrier_init(s.full(stage), P::kFullCount);
      sm90::barrier_init(s.empty(stage), kConsumers * 4 * P::kCluster);
    }
    for (int stage = 0; stage < P::kCodeStages; stage++) {
      sm90::barrier_init(s.codes_full(stage), 1);
      sm90::barrier_init(s.codes_empty(stage), 4);
    }
    sm90::barrier_init_fence();
    sm90::prefetch_map(&a.x), sm90::prefetch_map(&a.w), sm90::prefetch_map(&a.y);
  }
  if constexpr (P::kNf4) {
    asm volatile("st.shared.f32 [%0], %1;" ::"r"(s.map() + threadIdx.x % 256 * 4), "f"(a.map[threadIdx.x % 256]) : "memory");
  }
  __syncwarp();
  if constexpr (P::kCluster > 1) {
    sm90::cluster_barrier();
  } else {
    __syncthreads();
  }
  const int consumer = static_cast<int>(threadIdx.x) / 128 - 1;
  if (consumer < 0) {
    sm90::shrink_registers<P::kProducerRegisters>();
    if constexpr (P::kNf4) {
      produce_nf4<P>(a, s);
    } else {
      if (threadIdx.x == 0) produce<P>(a, s, rank);
    }
  } else {
    sm90::grow_registers<P::kConsumerRegisters>();
    consume<P>(a, s, consumer, rank);
  }
  __syncwarp();
  if constexpr (P::kCluster > 1) sm90::cluster_barrier(); /* neither block leaves while the other writes or arrives there */
}

}  // namespace lora90
}  // namespace oribi
#endif
