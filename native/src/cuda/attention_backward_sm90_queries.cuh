/*
 * Math        dq = scale * dS.k, as attention_backward.cuh, by Hopper's wgmma and TMA
 * Shapes      heads of at most 128 elements; a block owns 128 queries of a head, a warpgroup 64 of them
 * Layout      tiles as in attention_wgmma.cuh, brought by TMA: head sizes and row strides multiples of 8, 16-byte alignment
 * Precision   as attention_backward.cuh: fp32 sums, dS rounded to the storage type before its second product
 * Saved       o, lse of the forward pass, as delta and lse2 in the workspace
 * Writes      dq =
 * Determinism bit-exact, without atomics: each sum is one warpgroup's, from the diagonal downwards
 * Limits      sm_90a
 *
 * Scores stay in the registers in which wgmma leaves them: dS, rounded there, is the left operand of the product with k.
 */
#ifndef ORIBI_CUDA_ATTENTION_BACKWARD_SM90_QUERIES_CUH
#define ORIBI_CUDA_ATTENTION_BACKWARD_SM90_QUERIES_CUH

#include "cuda/attention_backward_sm90_ring.cuh"

namespace oribi {
namespace attention90 {

/* What a block of queries does: tiles of C::kSteps keys, from the diagonal downwards. */
struct QuerySteps {
  int32_t head, first, count, begin_tile, end_tile;
  int64_t begin;
};

/* p = exp(p - lse), 0 where a query does not see a key. ahead: of the thread's first query to its first key. */
template <class C, int kCount>
__device__ inline void probabilities_of_queries(float (&p)[kCount], const float (&lse2)[1][2], const ScoreRule& rule, bool masked,
                                                int32_t ahead, int32_t window) {
#pragma unroll
  for (int j = 0; j < kCount; j++) {
    const float score = C::kPlain ? p[j] : rule.score(p[j]);
    p[j] = fast_exp2(score * rule.factor - lse2[0][j % 4 / 2]);
  }
  if (!masked) return;
#pragma unroll
  for (int j = 0; j < kCount; j++) {
    const int32_t behind = ahead + j % 4 / 2 * 8 - (j / 4 * 8 + j % 2);
    if (behind < 0 || behind >= window) p[j] = 0;
  }
}

/* dq of a warpgroup's 64 queries. */
template <class T, class C>
__device__ inline void consume_queries(const Shared<C>& s, const BackwardArguments<T>& x, const QuerySteps& work, int consumer) {
  constexpr int kKeys = C::kSteps;
  const int lane = threadIdx.x % 32, row = threadIdx.x % 128 / 32 * 16;
  const ScoreRule rule(x.at);
  const int32_t first = work.first + kPart * consumer;
  float lse2[1][2], delta[1][2];
  const int64_t state = x.line(work.head, work.begin + first + row);
  attention::load_rows<1>(lse2, x.lse2 + state, work.count - first - row);
  attention::load_rows<1>(delta, x.delta + state, work.count - first - row);
  float dq[C::kHead / 2] = {};
  Ring<C::kStages> ring;
  sm90::barrier_wait(s.own(), 0, sm90::Role::consumer, 0);
  for (int32_t tile = work.end_tile; tile >= work.begin_tile; tile--, ring.advance()) {
    s.wait_full(ring.stage, ring.parity);
    const uint32_t k_tile = s.stage(ring.stage), v_tile = k_tile + C::kTileBytes;
    const int32_t left = work.count - tile * kKeys;
    if (left < kKeys) clear_rows<kKeys, 2 * C::kSlabs, kConsumerThreads, kClearBarrier>(k_tile, left, kKeys);
    const int32_t ahead = first - tile * kKeys; /* of the warpgroup's first query to the tile's first key */
    if (ahead + kPart <= 0 || ahead - (kKeys - 1) >= x.at.window) { /* no query sees a key */
      s.release(ring.stage);
      continue;
    }
    float p[kKeys / 2], ds[kKeys / 2];
    sm90::wgmma_fence();
    multiply_rows<T, C::kHead, kKeys>(p, s.first(consumer), k_tile);
    sm90::wgmma_commit();
    multiply_rows<T, C::kHead, kKeys>(ds, s.second(consumer), v_tile);
    sm90::wgmma_commit();
    sm90::wgmma_wait<1>();
    sm90::hold(p);
    const bool masked = ahead < kKeys - 1 || ahead + kPart > x.at.window;
    probabilities_of_queries<C>(p, lse2, rule, masked, ahead + row + lane / 4 - lane % 4 * 2, x.at.window);
    sm90::wgmma_wait<0>();
    sm90::hold(ds);
#pragma unroll
    for (int j = 0; j < kKeys / 2; j++) {
      ds[j] = p[j] * (ds[j] - delta[0][j % 4 / 2]);
      if (!C::kPlain && rule.softcap != 0) ds[j] *= rule.derivative(p[j], lse2[0][j % 4 / 2]);
    }
    uint32_t left_ds[kKeys / 16][4];
    pack_left<T>(left_ds, ds);
    sm90::wgmma_fence();
    multiply_columns<T, C::kHead, kKeys>(dq, left_ds, k_tile);
    sm90::wgmma_commit();
    sm90::wgmma_wait<0>();
    s.release(ring.stage);
  }
  sm90::hold(dq);
  sm90::named_barrier(kGroupBarrier + consumer, 128); /* q is read no more: dq passes through its place */
  store_part<T, C>(x.dq + (work.begin + first) * x.at.ld_q + work.head * x.at.d, x.at.ld_q, work.count - first, s.first(consumer), dq,
                   x.at.scale, x.at);
}

template <class T, class C>
__device__ inline void run_queries(const Arguments<T>& a, const void* memory) {
  const BackwardArguments<T>& x = a.x;
  const Shared<C> s(memory);
  if (threadIdx.x == 0) prefetch_maps(a);
  const Place place = attention::find_heaviest<kOwned>(x.at, blockIdx.x / x.at.h);
  if (place.sequence < 0) return;
  const Sequence sequence = attention::sequence_of(x.at, place.sequence);
  /* The last queries of a sequence, which see the most keys, come first. */
  const int32_t count = sequence.query_count, first = ((count - 1) / kOwned - place.tile) * kOwned;
  const QuerySteps work{static_cast<int32_t>(blockIdx.x % x.at.h), first, count, x.at.window > first ? 0 : (first - x.at.window + 1) / C::kSteps,
                        (min(count, first + kOwned) - 1) / C::kSteps, sequence.query_begin};
  s.init();
  const int group = __shfl_sync(attention::kAllLanes, static_cast<int>(threadIdx.x) / 128, 0);
  if (group == 0) {
    sm90::shrink_registers<kProducerRegisters>();
    if (threadIdx.x == 0) {
      const int begin = static_cast<int>(work.begin), kv_head = work.head / x.at.group;
      produce<C>(s, &a.q, &a.d_o, work.head, begin + first, &a.k, &a.v, work.end_tile - work.begin_tile + 1,
                 [&](int32_t) { return kv_head; }, [&](int32_t i) { return begin + (work.end_tile - i) * C::kSteps; }, 0, [](int32_t, int) {});
    }
  } else {
    sm90::grow_registers<kConsumerRegisters>();
    consume_queries<T>(s, x, work, group - 1);
  }
}

}  // namespace attention90
}  // namespace oribi
#endif
