/*
 * The kernel of lora_matmul_sm90.cu: what a block does. A warpgroup of producers fills a ring of stages, two warpgroups of
 * consumers multiply what is in them, 64 rows each; a block computes one tile of y after another.
 */
#ifndef ORIBI_CUDA_LORA_MATMUL_SM90_KERNEL_CUH
#define ORIBI_CUDA_LORA_MATMUL_SM90_KERNEL_CUH

#include "cuda/sm90.cuh"

namespace oribi {
namespace lora90 {

constexpr int kRows = 128;      /* of a tile of y: 64 for each consumer */
constexpr int kDepth = 64;      /* of a step along the inner dimension: 128 bytes, the widest swizzle */
constexpr int kThreads = 384;   /* three warpgroups */
constexpr int kConsumers = 2;
constexpr int kRowBytes = 128;  /* of a tile in shared memory */
constexpr int kSlab = 64;       /* columns of y that are staged together */
constexpr int kSlabBytes = 64 * kRowBytes;
constexpr int kSlabBuffers = 2; /* for each consumer: one is filled while the other is stored */
constexpr int kMaxParts = 4;
constexpr uint32_t kXBytes = kRows * kRowBytes;

/* Everything the kernel needs; the maps describe tensors to TMA. */
struct Arguments {
  CUtensorMap x, w, y;
  CUtensorMap h[kMaxParts], b[kMaxParts]; /* of each part: its columns of h, its rows of b */
  int64_t steps;                          /* along the inner dimension */
  int tiles, row_tiles, column_tiles;     /* of clusters */
  int group;
  int parts, rank;                        /* rank of a part: of each adapter, or of all together for dx */
  int first[kMaxParts], size[kMaxParts];  /* columns of y that a part adds to */
};

template <class T_, int kColumns_, int kCluster_, bool kDx_>
struct Policy {
  using T = T_;
  static constexpr int kColumns = kColumns_, kCluster = kCluster_;
  static constexpr bool kDx = kDx_; /* the weight is [inner, columns of y] */
  static constexpr uint32_t kWBytes = kColumns * kRowBytes;
  static constexpr uint32_t kStageBytes = kXBytes + kWBytes;
  /* As many as fit into 227 KB beside the staging of y: 4 of 48 KB, 6 of 32 KB. */
  static constexpr int kStages = kColumns == 256 ? 4 : 6;
  static constexpr uint32_t kStagingBytes = kConsumers * kSlabBuffers * kSlabBytes;
  static constexpr uint32_t kBarrierBytes = 1024;
  static constexpr uint32_t kSharedBytes = 1024 + kStages * kStageBytes + kStagingBytes + kBarrierBytes;
};

/* Addresses in shared memory. */
template <class P>
struct Shared {
  uint32_t base;
  __device__ explicit Shared(const void* memory) : base((sm90::shared_address(memory) + 1023) & ~1023u) {}
  __device__ uint32_t x(int stage) const { return base + stage * P::kStageBytes; }
  __device__ uint32_t w(int stage) const { return x(stage) + kXBytes; }
  __device__ uint32_t staging(int consumer, int buffer) const {
    return base + P::kStages * P::kStageBytes + (consumer * kSlabBuffers + buffer) * kSlabBytes;
  }
  __device__ uint32_t full(int stage) const {
    return base + P::kStages * P::kStageBytes + P::kStagingBytes + stage * 8;
  }
  __device__ uint32_t empty(int stage) const { return full(P::kStages + stage); }
};

/* A place in the ring, and the parity of the lap. */
template <class P>
struct Ring {
  int stage = 0;
  uint32_t parity = 0;
  __device__ void advance() {
    if (++stage == P::kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

/* Row and column of y at which a tile begins; a cluster takes tiles below one another. */
struct Place {
  int row, column;
};
template <class P>
__device__ inline Place place_of(const Arguments& a, int tile, int rank) {
  const int of_group = a.group * a.column_tiles;
  const int group = tile / of_group, in_group = tile % of_group;
  const int rows = min(a.group, a.row_tiles - group * a.group);
  const int row_tile = group * a.group + in_group % rows;
  return {(row_tile * P::kCluster + rank) * kRows, in_group / rows * P::kColumns};
}
template <class P>
__device__ inline int first_tile() {
  return blockIdx.x / P::kCluster;
}
template <class P>
__device__ inline int tile_stride() {
  return gridDim.x / P::kCluster;
}

/* Whether a part adds to a tile of y. */
template <class P>
__device__ inline bool meets(const Arguments& a, int part, int column) {
  return a.first[part] < column + P::kColumns && column < a.first[part] + a.size[part];
}

/* -------------------------------------------------------------------------------------------------------- producer */

/* One tile of the weight's kind, from map to a stage: `inner` along the inner dimension, `column` along y's columns. Blocks
   of a cluster fetch a share each and hand it to all. */
template <class P>
__device__ inline void load_weight(const Shared<P>& s, int stage, const CUtensorMap* map, int inner, int column, int rank) {
  constexpr int kBoxes = P::kDx ? P::kColumns / kSlab : P::kCluster;
  constexpr int kBoxColumns = P::kColumns / kBoxes;
  constexpr int kShare = kBoxes / P::kCluster;
#pragma unroll
  for (int i = 0; i < kShare; i++) {
    const int box = rank * kShare + i;
    const uint32_t to = s.w(stage) + box * (kBoxColumns * kRowBytes);
    const int at = column + box * kBoxColumns;
    if constexpr (P::kCluster > 1) {
      sm90::load_tile_to(to, map, P::kDx ? at : inner, P::kDx ? inner : at, s.full(stage), (1 << P::kCluster) - 1);
    } else {
      sm90::load_tile(to, map, P::kDx ? at : inner, P::kDx ? inner : at, s.full(stage));
    }
  }
}

/* One thread fills the ring, in the order in which the consumers read it. */
template <class P>
__device__ inline void produce(const Arguments& a, const Shared<P>& s, int rank) {
  Ring<P> ring;
  const auto fill = [&](const CUtensorMap* x, int x_inner, int row, const CUtensorMap* w, int w_inner, int column) {
    sm90::barrier_wait(s.empty(ring.stage), ring.parity ^ 1, sm90::Role::producer, ring.stage);
    sm90::barrier_arrive_expect(s.full(ring.stage), P::kStageBytes);
    sm90::load_tile(s.x(ring.stage), x, x_inner, row, s.full(ring.stage));
    load_weight<P>(s, ring.stage, w, w_inner, column, rank);
    ring.advance();
  };
  for (int tile = first_tile<P>(); tile < a.tiles; tile += tile_stride<P>()) {
    const Place place = place_of<P>(a, tile, rank);
    for (int64_t step = 0; step < a.steps; step++) {
      const int inner = static_cast<int>(step) * kDepth;
      fill(&a.x, inner, place.row, &a.w, inner, place.column);
    }
    for (int part = 0; part < a.parts; part++) {
      if (!meets<P>(a, part, place.column)) continue;
      for (int inner = 0; inner < a.rank; inner += kDepth) {
        fill(&a.h[part], inner, place.row, &a.b[part], inner, place.column - a.first[part]);
      }
    }
  }
}

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

/* One tile: after it d holds y's 64 rows of this consumer, in fp32. */
template <class P, int kCount>
__device__ inline void accumulate(float (&d)[kCount], const Arguments& a, const Shared<P>& s, Ring<P>& ring, int consumer,
                                  int column) {
  int last = -1; /* the stage that the products in flight before this one read */
  for (int64_t step = 0; step < a.steps; step++) {
    sm90::barrier_wait(s.full(ring.stage), ring.parity, sm90::Role::consumer, ring.stage);
    sm90::wgmma_fence();
#pragma unroll
    for (int k16 = 0; k16 < kDepth / 16; k16++) multiply<P>(d, s, ring.stage, consumer, k16, k16 > 0 || step > 0);
    sm90::wgmma_commit();
    sm90::wgmma_wait<1>();
    if (last >= 0) release<P>(s, last);
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

/* Rounds d and stores it, 64 columns at a time, through two buffers. TMA leaves out what lies beyond y's edges. */
template <class P, int kCount>
__device__ inline void store(const float (&d)[kCount], const Arguments& a, const Shared<P>& s, int consumer, int row, int column) {
  const int thread = threadIdx.x % 128, lane = thread % 32;
  const int staged_row = thread / 32 * 16 + lane % 16; /* the row whose address this lane gives to stmatrix */
#pragma unroll
  for (int slab = 0; slab < P::kColumns / kSlab; slab++) {
    const uint32_t buffer = s.staging(consumer, slab % kSlabBuffers);
    if (thread == 0) sm90::store_wait_read<kSlabBuffers - 1>();
    sm90::named_barrier(1 + consumer, 128); /* the buffer is free */
#pragma unroll
    for (int c = 0; c < kSlab / 8; c += 2) {
      const float* v = &d[(slab * (kSlab / 8) + c) * 4];
      const uint32_t to = buffer + staged_row * kRowBytes + (((c + lane / 16) ^ (staged_row & 7)) << 4);
      using T = typename P::T;
      sm90::store_matrices(to, pair<T>(v[0], v[1]), pair<T>(v[2], v[3]), pair<T>(v[4], v[5]), pair<T>(v[6], v[7]));
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
  Ring<P> ring;
  for (int tile = first_tile<P>(); tile < a.tiles; tile += tile_stride<P>()) {
    const Place place = place_of<P>(a, tile, rank);
    accumulate<P>(d, a, s, ring, consumer, place.column);
    store<P>(d, a, s, consumer, place.row + consumer * 64, place.column);
  }
  if (threadIdx.x % 128 == 0) sm90::store_wait(); /* shared memory must live until TMA has read it */
}

/* ---------------------------------------------------------------------------------------------------------- kernel */

template <class P>
__device__ inline void run(const Arguments& a, const void* memory) {
  const Shared<P> s(memory);
  const int rank = P::kCluster > 1 ? static_cast<int>(sm90::cluster_rank()) : 0;
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < P::kStages; stage++) {
      sm90::barrier_init(s.full(stage), 1);
      sm90::barrier_init(s.empty(stage), kConsumers * 4 * P::kCluster);
    }
    sm90::barrier_init_fence();
    sm90::prefetch_map(&a.x), sm90::prefetch_map(&a.w), sm90::prefetch_map(&a.y);
  }
  if constexpr (P::kCluster > 1) {
    sm90::cluster_barrier();
  } else {
    __syncthreads();
  }
  /* 168 registers a thread at entry; 40 + 2 * 232 = 3 * 168. The accumulators alone take 128. */
  if (threadIdx.x < 128) {
    sm90::shrink_registers<40>();
    if (threadIdx.x == 0) produce<P>(a, s, rank);
  } else {
    sm90::grow_registers<232>();
    consume<P>(a, s, static_cast<int>(threadIdx.x) / 128 - 1, rank);
  }
  if constexpr (P::kCluster > 1) sm90::cluster_barrier(); /* neither block leaves while the other writes or arrives there */
}

}  // namespace lora90
}  // namespace oribi
#endif
