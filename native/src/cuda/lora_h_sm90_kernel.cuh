/*
 * The kernel of lora_h_sm90.cu: what a block does. One warp starts TMA's copies into a ring of stages; each of up to four
 * warpgroups multiplies its 64 of the block's tokens by all columns of h that there are.
 */
#ifndef ORIBI_CUDA_LORA_H_SM90_KERNEL_CUH
#define ORIBI_CUDA_LORA_H_SM90_KERNEL_CUH

#include "cuda/dependent.cuh"
#include "cuda/sm90.cuh"

namespace oribi {
namespace lora90 {

constexpr int kHRows = 64;           /* of a warpgroup: what one wgmma multiplies */
constexpr int kHMostWarpgroups = 4;  /* 256 tokens, the highest box that TMA copies */
constexpr int kHThreads = 128 * kHMostWarpgroups + 32;
constexpr uint32_t kHRowBytes = 128; /* of a step of 64 elements */
constexpr uint32_t kHBarrierBytes = 1024;

struct HArguments {
  CUtensorMap x, a;
  void* h;
  int64_t n;
  int steps;      /* of 64 elements of the inner dimension */
  int width;      /* columns of h: of all adapters */
  int rank;       /* of them to an adapter */
  int warpgroups; /* of consumers */
  int tiles;      /* of 64 * warpgroups tokens */
  int stages;
  float scale[4];
};

/* Addresses in shared memory. */
template <int kWidth>
struct HShared {
  uint32_t base, stage_bytes, x_bytes;
  int stages;
  __device__ HShared(const void* memory, const HArguments& at)
      : base((sm90::shared_address(memory) + 1023) & ~1023u),
        stage_bytes(at.warpgroups * kHRows * kHRowBytes + kWidth * kHRowBytes),
        x_bytes(at.warpgroups * kHRows * kHRowBytes),
        stages(at.stages) {}
  __device__ uint32_t x(int stage) const { return base + stage * stage_bytes; }
  __device__ uint32_t a(int stage) const { return x(stage) + x_bytes; }
  __device__ uint32_t full(int stage) const { return base + stages * stage_bytes + stage * 8; }
  __device__ uint32_t empty(int stage) const { return full(stages + stage); }
};

/* A place in the ring, and the parity of the lap. */
struct HRing {
  int stages, stage = 0;
  uint32_t parity = 0;
  __device__ explicit HRing(int count) : stages(count) {}
  __device__ void advance() {
    if (++stage < stages) return;
    stage = 0;
    parity ^= 1;
  }
};

template <int kWidth>
__device__ inline void produce_h(const HArguments& at, const HShared<kWidth>& s) {
  HRing ring(at.stages);
  for (int tile = blockIdx.x; tile < at.tiles; tile += gridDim.x) {
    for (int step = 0; step < at.steps; step++) {
      sm90::barrier_wait(s.empty(ring.stage), ring.parity ^ 1, sm90::Role::h_producer, ring.stage);
      sm90::barrier_arrive_expect(s.full(ring.stage), s.stage_bytes);
      sm90::load_tile(s.x(ring.stage), &at.x, step * 64, tile * at.warpgroups * kHRows, s.full(ring.stage));
      sm90::load_tile(s.a(ring.stage), &at.a, step * 64, 0, s.full(ring.stage));
      ring.advance();
    }
  }
}

/* d, a warpgroup's 64 rows of h from `first` on, scaled and rounded. */
template <class T, int kWidth>
__device__ inline void write_h(const float (&d)[kWidth / 2], const HArguments& at, int64_t first) {
  const int thread = threadIdx.x % 128, lane = thread % 32;
#pragma unroll
  for (int c = 0; c < kWidth / 8; c++) {
    const int column = 8 * c + 2 * (lane % 4);
    if (column >= at.width) break;
    const float scale = at.scale[column / at.rank];
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int64_t row = first + thread / 32 * 16 + lane / 4 + 8 * half;
      if (row >= at.n) continue;
      const uint32_t both = sm90::pair<T>(d[4 * c + 2 * half] * scale, d[4 * c + 2 * half + 1] * scale);
      *reinterpret_cast<uint32_t*>(static_cast<T*>(at.h) + row * at.width + column) = both;
    }
  }
}

template <class T, int kWidth>
__device__ inline void consume_h(const HArguments& at, const HShared<kWidth>& s, int warpgroup) {
  float d[kWidth / 2];
  HRing ring(at.stages);
  const auto release = [&s](int stage) {
    if (threadIdx.x % 32 == 0) sm90::barrier_arrive(s.empty(stage));
  };
  for (int tile = blockIdx.x; tile < at.tiles; tile += gridDim.x) {
    int last = -1; /* the stage that the products in flight before this one read */
    for (int step = 0; step < at.steps; step++) {
      sm90::barrier_wait(s.full(ring.stage), ring.parity, sm90::Role::h_consumer, ring.stage);
      sm90::wgmma_fence();
#pragma unroll
      for (int k16 = 0; k16 < 4; k16++) {
        const uint64_t x = sm90::tile_descriptor(s.x(ring.stage) + warpgroup * (kHRows * kHRowBytes) + k16 * 32, 0);
        const uint64_t a = sm90::tile_descriptor(s.a(ring.stage) + k16 * 32, 0);
        sm90::wgmma<T, 0>(d, x, a, k16 > 0 || step > 0);
      }
      sm90::wgmma_commit();
      sm90::wgmma_wait<1>();
      if (last >= 0) release(last);
      last = ring.stage;
      ring.advance();
    }
    sm90::wgmma_wait<0>();
    release(last);
    sm90::hold(d);
    write_h<T, kWidth>(d, at, (static_cast<int64_t>(tile) * at.warpgroups + warpgroup) * kHRows);
  }
}

template <class T, int kWidth>
__device__ inline void run_h(const HArguments& at, const void* memory) {
  release_next(); /* the product may begin: it waits for h where it reads h */
  const HShared<kWidth> s(memory, at);
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < at.stages; stage++) {
      sm90::barrier_init(s.full(stage), 1);
      sm90::barrier_init(s.empty(stage), 4 * at.warpgroups);
    }
    sm90::barrier_init_fence();
    sm90::prefetch_map(&at.x), sm90::prefetch_map(&at.a);
  }
  __syncthreads();
  const int warpgroup = static_cast<int>(threadIdx.x) / 128;
  if (warpgroup < at.warpgroups) {
    consume_h<T, kWidth>(at, s, warpgroup);
  } else if (threadIdx.x % 32 == 0) {
    produce_h<kWidth>(at, s);
  }
}

}  // namespace lora90
}  // namespace oribi
#endif
