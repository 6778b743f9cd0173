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

/* d = (add ? d : 0) + the products of 16 of a stage's 64 inner elements, for the tile's first or second 64 rows. */
template <class P, int kCount>
__device__ inline void multiply(float (&d)[kCount], const Shared<P>& s, int stage, int rows, int k16, int add) {
  constexpr uint32_t kWStep = P::kDx ? 16 * kRowBytes : 32; /* bytes from one k16 to the next */
  const uint64_t x = sm90::tile_descriptor(s.x(stage) + rows * (64 * kRowBytes) + k16 * 32, 0);
  const uint64_t w = sm90::tile_descriptor(s.w(stage) + k16 * kWStep, P::kDx ? kDepth * kRowBytes : 0);
  sm90::wgmma<typename P::T, P::kDx ? 1 : 0>(d, x, w, add);
}

/* The second consumer begins after the first one's second step. From then on they store their rows at different times,
   and one has the tensor cores for itself while the other stores. */
constexpr int kStaggerBarrier = 3, kStaggerThreads = 256;

/* With tiles of their own, a consumer waits for its turn until the other is about to end its tile. A barrier of a stage
   tells one lap of the ring from the next but not from the one after that: before, it would take old data for its own. */
constexpr int kTurnBarrier = 4; /* and 5, of the second consumer */
__device__ inline void wait_for_turn(int consumer) { sm90::named_barrier(kTurnBarrier + consumer, kStaggerThreads); }
__device__ inline void give_turn(int consumer) { sm90::named_arrive(kTurnBarrier + consumer, kStaggerThreads); }

/* The same for all rows of this consumer. */
template <class P>
__device__ inline void multiply_rows(float (&d)[P::kHalves][P::kColumns / 2], const Shared<P>& s, int stage, int consumer, int k16, int add) {
#pragma unroll
  for (int half = 0; half < P::kHalves; half++) multiply<P>(d[half], s, stage, P::kTurns ? half : consumer, k16, add);
}

/* One tile: after it d holds y's rows of this consumer, in fp32. After step `signal` the other consumer may begin; `next` is the
   one whose turn comes after this tile, or -1. */
template <class P>
__device__ inline void accumulate(float (&d)[P::kHalves][P::kColumns / 2], const Arguments& a, const Shared<P>& s, Ring<P::kStages>& ring, int consumer,
                                  int column, int signal, const Share& share, int next) {
  int last = -1; /* the stage that the products in flight before this one read */
  for (int step = 0; step < share.steps; step++) {
    sm90::barrier_wait(s.full(ring.stage), ring.parity, sm90::Role::consumer, ring.stage);
    sm90::wgmma_fence();
#pragma unroll
    for (int k16 = 0; k16 < kDepth / 16; k16++) multiply_rows<P>(d, s, ring.stage, consumer, k16, k16 > 0 || step > 0);
    sm90::wgmma_commit();
    sm90::wgmma_wait<1>();
    if (last >= 0) release<P>(s, last);
    if (step == signal) sm90::named_arrive(kStaggerBarrier, kStaggerThreads);
    last = ring.stage;
    ring.advance();
  }
  const bool close = P::kTurns && steps_of<P>(a, column) - share.steps < P::kStages; /* the next tile is less than a lap away */
  if (close && next >= 0) give_turn(next);
  sm90::wgmma_wait<0>();
  release<P>(s, last);
  for (int part = 0; share.adapter && part < a.parts; part++) {
    if (!meets<P>(a, part, column)) continue;
    for (int inner = 0; inner < a.rank; inner += kDepth) {
      const int count = min(kDepth, a.rank - inner + 15) / 16; /* of a rank of 16, three quarters of the stage are zeros */
      sm90::barrier_wait(s.full(ring.stage), ring.parity, sm90::Role::adapter_consumer, ring.stage);
      int k16 = 0;
#pragma unroll 1
      do { /* with the fence outside the loop, or products in flight around it, ptxas adds fences of its own */
        sm90::wgmma_fence();
        multiply_rows<P>(d, s, ring.stage, consumer, k16, 1);
        sm90::wgmma_commit();
        sm90::wgmma_wait<0>();
      } while (++k16 < count);
      release<P>(s, ring.stage);
      ring.advance();
    }
  }
  if (P::kTurns && !close && next >= 0) give_turn(next);
#pragma unroll
  for (int half = 0; half < P::kHalves; half++) sm90::hold(d[half]);
}

/* Where two blocks halve the inner dimension each ends with its half of the sum; here the first gets the sum for the first
   half of the tile's columns and the second for the second, through shared memory of the ring, which nobody reads any more.
   a + b is b + a, so both blocks round alike. All threads of both blocks meet in two barriers, see also run(). */
template <class P>
__device__ inline void exchange(float (&sum)[P::kColumns / 4], const float (&d)[P::kColumns / 2], const Shared<P>& s, int consumer, int rank) {
  constexpr int kCount = P::kColumns / 4;
  constexpr uint32_t kStride = 128 * 16; /* four sums of each thread of a consumer */
  const uint32_t own = s.base + consumer * (kCount * 128 * 4) + threadIdx.x % 128 * 16;
  const uint32_t other = sm90::address_in(own, rank ^ 1);
  sm90::cluster_barrier(); /* the other block has done with its ring */
#pragma unroll
  for (int i = 0; i < kCount; i += 4) {
    const auto give = [&](int k) { return rank == 0 ? d[kCount + i + k] : d[i + k]; };
    sm90::store_4_at(other + i / 4 * kStride, give(0), give(1), give(2), give(3));
  }
  sm90::cluster_barrier(); /* and has written */
#pragma unroll
  for (int i = 0; i < kCount; i += 4) {
    const float4 given = sm90::load_4(own + i / 4 * kStride);
    const auto keep = [&](int k) { return rank == 0 ? d[i + k] : d[kCount + i + k]; };
    sum[i] = keep(0) + given.x, sum[i + 1] = keep(1) + given.y, sum[i + 2] = keep(2) + given.z, sum[i + 3] = keep(3) + given.w;
  }
}

/* Rounds d and stores it, a slab of columns at a time, through buffers. TMA leaves out what lies beyond y's edges. */
template <class P, int kCount>
__device__ inline void store(const float (&d)[kCount], const Arguments& a, const Shared<P>& s, int consumer, int row, int column) {
  const int thread = threadIdx.x % 128, lane = thread % 32;
  const int staged_row = thread / 32 * 16 + lane % 16; /* the row whose address this lane gives to stmatrix */
  const int swizzle = P::kSlab == 64 ? staged_row & 7 : P::kSlab == 32 ? staged_row >> 1 & 3 : 0;
  constexpr int kSlabs = kCount * 2 / P::kSlab;
#pragma unroll
  for (int slab = 0; slab < kSlabs; slab++) {
    const uint32_t buffer = s.staging(consumer, slab % P::kSlabBuffers);
    /* The tile before may have ended with the buffer that this one begins with. */
    if (thread == 0) sm90::store_wait_read<P::kSlabBuffers - 1>();
    if (thread == 0 && slab == 0 && kSlabs % P::kSlabBuffers != 0) sm90::store_wait_read<0>();
    sm90::named_barrier(1 + consumer, 128); /* the buffer is free */
#pragma unroll
    for (int c = 0; c < P::kSlab / 8; c += 2) {
      const float* v = &d[(slab * (P::kSlab / 8) + c) * 4];
      const uint32_t to = buffer + staged_row * P::kSlabRowBytes + (((c + lane / 16) ^ swizzle) << 4);
      using T = typename P::T;
      sm90::store_matrices(to, sm90::pair<T>(v[0], v[1]), sm90::pair<T>(v[2], v[3]), sm90::pair<T>(v[4], v[5]), sm90::pair<T>(v[6], v[7]));
    }
    sm90::async_proxy_fence();
    sm90::named_barrier(1 + consumer, 128); /* the buffer is full */
    if (thread == 0) {
      sm90::store_tile(&a.y, column + slab * P::kSlab, row, buffer);
      sm90::store_commit();
    }
  }
}

template <class P>
__device__ inline void consume(const Arguments& a, const Shared<P>& s, int consumer, int rank) {
  float d[P::kHalves][P::kColumns / 2];
  Ring<P::kStages> ring;
  const Share share = share_of<P>(a, rank);
  int signal = !P::kTurns && consumer == 0 ? min(1, share.steps - 1) : -1;
  if (!P::kTurns && consumer == 1) sm90::named_barrier(kStaggerBarrier, kStaggerThreads);
  if (P::kTurns && consumer == 1) give_turn(0);
  int turn = 0;
  for (int tile = first_tile<P>(); tile < a.tiles; tile += tile_stride<P>(), turn ^= 1) {
    const Place place = place_of<P>(a, tile, rank);
    if (P::kTurns && turn != consumer) {
      ring.advance(steps_of<P>(a, place.column));
      continue;
    }
    if (P::kTurns) wait_for_turn(consumer);
    accumulate<P>(d, a, s, ring, consumer, place.column, signal, share, tile + tile_stride<P>() < a.tiles ? consumer ^ 1 : -1);
    signal = -1;
    if constexpr (P::kSplit > 1) {
      float sum[P::kColumns / 4];
      exchange<P>(sum, d[0], s, consumer, rank);
      store<P>(sum, a, s, consumer, place.row + consumer * 64, place.column + rank * (P::kColumns / 2));
    } else {
#pragma unroll
      for (int half = 0; half < P::kHalves; half++) {
        store<P>(d[half], a, s, consumer, place.row + (P::kTurns ? half : consumer) * 64, place.column);
      }
    }
  }
  if (threadIdx.x % 128 == 0) sm90::store_wait(); /* shared memory must live until TMA has read it */
}

/* ---------------------------------------------------------------------------------------------------------- kernel */

template <class P>
__device__ inline void run(const typename P::Args& a, const void* memory) {
  const Shared<P> s(memory);
  const int rank = P::kBlocks > 1 ? static_cast<int>(sm90::cluster_rank()) : 0;
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < P::kStages; stage++) {
      sm90::barrier_init(s.full(stage), P::kFullCount);
      sm90::barrier_init(s.empty(stage), (P::kTurns ? 1 : kConsumers) * 4 * P::kCluster);
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
  if constexpr (P::kBlocks > 1) {
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
      __syncwarp();
      if constexpr (P::kSplit > 1) sm90::cluster_barrier(), sm90::cluster_barrier(); /* those of exchange() */
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
