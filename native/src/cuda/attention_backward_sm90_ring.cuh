/*
 * What the two kernels of attention_backward_sm90.cu share: how a block is cut, where things lie in its shared memory, and
 * the producer, which brings what the consumers multiply.
 *
 * A block has three warpgroups: one whose first thread starts copies by TMA, the producer, and two of consumers. Either
 * consumer owns 64 rows of the block's 128, queries or keys, and both go through the rows of the other side in steps.
 */
#ifndef ORIBI_CUDA_ATTENTION_BACKWARD_SM90_RING_CUH
#define ORIBI_CUDA_ATTENTION_BACKWARD_SM90_RING_CUH

#include "cuda/attention_wgmma.cuh"

namespace oribi {
namespace attention90 {

using attention::BackwardArguments;
using attention::fast_exp2;
using attention::Place;
using attention::ScoreRule;
using attention::Sequence;

constexpr int kPart = 64, kConsumers = 2, kOwned = kPart * kConsumers; /* rows of a wgmma, and of a block */
constexpr int kConsumerThreads = 128 * kConsumers, kThreads = 128 + kConsumerThreads;
constexpr int kProducerRegisters = 24, kConsumerRegisters = 240; /* 504 in sum, three times the 168 of 384 threads */
constexpr int kClearBarrier = 1, kGroupBarrier = 2;

template <class T>
struct Arguments {
  CUtensorMap q, d_o, k, v; /* (head size, heads, rows) */
  CUtensorMap lines;        /* delta (heads, ld_line(rows)), then lse2, as one line; a box is a step of keys_kernel */
  BackwardArguments<T> x;
};

/* Before the block looks for its place: a copy would wait for its map. */
template <class T>
__device__ inline void prefetch_maps(const Arguments<T>& a) {
  sm90::prefetch_map(&a.q), sm90::prefetch_map(&a.d_o), sm90::prefetch_map(&a.k), sm90::prefetch_map(&a.v);
  sm90::prefetch_map(&a.lines);
}

/* kSteps: rows of q and do, or of k and v, in a stage. kPlain: no softcap and a positive scale. */
template <int kHead_, int kSteps_, int kStages_, bool kPlain_>
struct Cut {
  static constexpr int kHead = kHead_, kSlabs = kHead / kSlab, kSteps = kSteps_, kStages = kStages_;
  static constexpr bool kPlain = kPlain_;
  static constexpr int kPartBytes = kPart * kHead * 2, kOwnBytes = 2 * kConsumers * kPartBytes;
  static constexpr int kTileBytes = kSteps * kHead * 2, kStageBytes = 2 * kTileBytes;
  static constexpr int kLineBytes = 2 * kSteps * 4; /* lse2 and delta of a stage */
  static constexpr int kBytes = kOwnBytes + kStages * (kStageBytes + kLineBytes) + (2 * kStages + 1) * 8;
  static_assert(kBytes <= 227 * 1024, "a block's most");
};

template <class C>
struct Shared {
  uint32_t base;
  __device__ explicit Shared(const void* memory) : base(shared_address(memory)) {}
  /* q or k of a consumer, and do or v. */
  __device__ uint32_t first(int consumer) const { return base + consumer * C::kPartBytes; }
  __device__ uint32_t second(int consumer) const { return base + (kConsumers + consumer) * C::kPartBytes; }
  __device__ uint32_t stage(int i) const { return base + C::kOwnBytes + i * C::kStageBytes; }
  __device__ uint32_t lines() const { return base + C::kOwnBytes + C::kStages * C::kStageBytes; }
  __device__ uint32_t line(int i) const { return lines() + i * C::kLineBytes; }
  __device__ uint32_t full(int i) const { return lines() + C::kStages * C::kLineBytes + i * 8; }
  __device__ uint32_t empty(int i) const { return full(C::kStages + i); }
  __device__ uint32_t own() const { return full(2 * C::kStages); }

  __device__ void init() const {
    if (threadIdx.x == 0) {
      for (int i = 0; i < C::kStages; i++) {
        sm90::barrier_init(full(i), 1);
        sm90::barrier_init(empty(i), kConsumers * 4);
      }
      sm90::barrier_init(own(), 1);
      sm90::barrier_init_fence();
    }
    __syncthreads();
  }
  __device__ void wait_full(int i, uint32_t parity) const { sm90::barrier_wait(full(i), parity, sm90::Role::consumer, i); }
  __device__ void wait_empty(int i, uint32_t parity) const { sm90::barrier_wait(empty(i), parity ^ 1, sm90::Role::producer, i); }
  /* The warp's other threads have read what they need of the stage too. */
  __device__ void release(int i) const {
    __syncwarp();
    if (threadIdx.x % 32 == 0) sm90::barrier_arrive(empty(i));
  }
};

/* A position in a ring of stages, and the parity of the phase that ends when the stage is next full. */
template <int kStages>
struct Ring {
  int stage = 0;
  uint32_t parity = 0;
  __device__ void advance() {
    if (++stage == kStages) stage = 0, parity ^= 1;
  }
};

/* The producing thread's work: the block's own rows, then a stage of two tiles for each step, and what load_more adds to it. */
template <class C, class HeadOf, class RowOf, class LoadMore>
__device__ inline void produce(const Shared<C>& s, const CUtensorMap* own_first, const CUtensorMap* own_second, int own_head, int own_row,
                               const CUtensorMap* first, const CUtensorMap* second, int32_t steps, HeadOf head_of, RowOf row_of, int more_bytes,
                               LoadMore load_more) {
  sm90::barrier_arrive_expect(s.own(), C::kOwnBytes);
  for (int c = 0; c < kConsumers; c++) {
    load_tile<C::kHead, kPart>(s.first(c), own_first, own_head, own_row + kPart * c, s.own());
    load_tile<C::kHead, kPart>(s.second(c), own_second, own_head, own_row + kPart * c, s.own());
  }
  Ring<C::kStages> ring;
  for (int32_t i = 0; i < steps; i++, ring.advance()) {
    s.wait_empty(ring.stage, ring.parity);
    sm90::barrier_arrive_expect(s.full(ring.stage), C::kStageBytes + more_bytes);
    load_tile<C::kHead, C::kSteps>(s.stage(ring.stage), first, head_of(i), row_of(i), s.full(ring.stage));
    load_tile<C::kHead, C::kSteps>(s.stage(ring.stage) + C::kTileBytes, second, head_of(i), row_of(i), s.full(ring.stage));
    load_more(i, ring.stage);
  }
}

/* A gradient's 64 rows times factor, by way of the place of rows that its warpgroup reads no more. `rows` are left in the
   sequence from the warpgroup's first on, where y begins. */
template <class T, class C>
__device__ inline void store_part(T* y, int64_t ld, int32_t rows, uint32_t place, const float (&d)[C::kHead / 2], float factor,
                                  const attention::Layout& at) {
  const int row = threadIdx.x % 128 / 32 * 16;
  const float factors[1][2] = {{factor, factor}};
  attention::store_rows<T, C::kHead>(y + row * ld, ld, rows - row, place, row, 0, reinterpret_cast<const float(&)[1][C::kHead / 8][4]>(d),
                                     factors, at);
}

}  // namespace attention90
}  // namespace oribi
#endif
