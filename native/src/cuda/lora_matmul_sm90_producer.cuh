/* The producers of lora_matmul_sm90.cu for a 16-bit weight: one thread, which starts TMA's copies. */
#ifndef ORIBI_CUDA_LORA_MATMUL_SM90_PRODUCER_CUH
#define ORIBI_CUDA_LORA_MATMUL_SM90_PRODUCER_CUH

#include "cuda/dependent.cuh"
#include "cuda/lora_matmul_sm90_plan.cuh"

namespace oribi {
namespace lora90 {

/* One tile of the weight's kind, from map to a stage: `inner` along the inner dimension, `column` along y's columns. The
   blocks of a cluster fetch a share of its rows each and hand it to all. */
template <class P>
__device__ inline void load_weight(const Shared<P>& s, int stage, const CUtensorMap* map, int inner, int column, int rank) {
  constexpr int kSlabs = P::kDx ? P::kColumns / kMajor : 1;
  const int part = P::kCluster > 1 ? rank : 0; /* of its rows: blocks that halve the inner dimension fetch all of them */
#pragma unroll
  for (int slab = 0; slab < kSlabs; slab++) {
    const uint32_t to = s.w(stage) + (slab * kDepth + part * P::kWeightRows) * kRowBytes;
    const int x = P::kDx ? column + slab * kMajor : inner;
    const int y = (P::kDx ? inner : column) + part * P::kWeightRows;
    if constexpr (P::kCluster > 1) {
      sm90::load_tile_to(to, map, x, y, s.full(stage), (1 << P::kCluster) - 1);
    } else {
      sm90::load_tile(to, map, x, y, s.full(stage));
    }
  }
}

/* One thread fills the ring, in the order in which the consumers read it. */
template <class P>
__device__ inline void produce(const Arguments& a, const Shared<P>& s, int rank) {
  Ring<P::kStages> ring;
  const Share share = share_of<P>(a, rank);
  const auto fill = [&](const CUtensorMap* x, int x_inner, int row, const CUtensorMap* w, int w_inner, int column) {
    sm90::barrier_wait(s.empty(ring.stage), ring.parity ^ 1, sm90::Role::producer, ring.stage);
    sm90::barrier_arrive_expect(s.full(ring.stage), P::kStageBytes);
    sm90::load_tile(s.x(ring.stage), x, x_inner, row, s.full(ring.stage));
    load_weight<P>(s, ring.stage, w, w_inner, column, rank);
    ring.advance();
  };
  for (int tile = first_tile<P>(); tile < a.tiles; tile += tile_stride<P>()) {
    const Place place = place_of<P>(a, tile, rank);
    for (int step = 0; step < share.steps; step++) {
      const int inner = (share.first + step) * kDepth;
      fill(&a.x, inner, place.row, &a.w, inner, place.column);
    }
    wait_for_previous(); /* for h, which the kernel before may still be computing */
    for (int part = 0; share.adapter && part < a.parts; part++) {
      if (!meets<P>(a, part, place.column)) continue;
      for (int inner = 0; inner < a.rank; inner += kDepth) {
        fill(&a.h[part], inner, place.row, &a.b[part], inner, place.column - a.first[part]);
      }
    }
  }
}

}  // namespace lora90
}  // namespace oribi
#endif
