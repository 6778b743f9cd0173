/*
 * Math        dk = scale * transpose(dS).q;  dv = transpose(P).do, as attention_backward.cuh, by Hopper's wgmma and TMA
 * Shapes      heads of at most 128 elements; a block owns 128 keys of a key head, a warpgroup 64 of them
 * Layout      tiles as in attention_wgmma.cuh, brought by TMA: head sizes and row strides multiples of 8, 16-byte alignment
 * Precision   as attention_backward.cuh: fp32 sums, P and dS rounded to the storage type before their second product
 * Saved       o, lse of the forward pass, as delta and lse2 in the workspace
 * Writes      dk =, dv =
 * Determinism bit-exact, without atomics: each sum is one warpgroup's, in the order of the heads and steps
 * Limits      sm_90a
 *
 * Scores are transposed, keys along the rows: wgmma leaves them in the registers from which P and dS are the left operands of
 * the next products. A warpgroup begins the scores of its next step before it waits for the products of this one, and while
 * one of the two takes exponentials, the other has the tensor cores.
 */
#ifndef ORIBI_CUDA_ATTENTION_BACKWARD_SM90_KEYS_CUH
#define ORIBI_CUDA_ATTENTION_BACKWARD_SM90_KEYS_CUH

#include "cuda/attention_backward_sm90_ring.cuh"

namespace oribi {
namespace attention90 {

/* What a block of keys does: steps of C::kSteps queries, for one head of the group after another. The first step begins where TMA
   may begin to copy a line, up to three rows before the first key; no query there sees a key of the block. */
struct KeySteps {
  int32_t kv_head, first_key, count, steps, group, early; /* early: rows of the first step before the first key */
  int64_t begin; /* the sequence's first row */
  __device__ int32_t left() const { return count - first_key + early; } /* rows from the first step's first on */
  __device__ int32_t total() const { return steps * group; }
  __device__ int32_t head(int32_t i) const { return kv_head * group + i / steps; }
};

/* Queries first to last - 1 of a step are another sequence's: zeros in q, do, lse2 and delta, so that no infinity is met there. */
template <class C>
__device__ inline void clear_queries(const Shared<C>& s, int stage, int32_t first, int32_t last) {
  const int32_t row = static_cast<int32_t>(threadIdx.x) % kConsumerThreads;
  if (row >= first && row < last) {
    const uint32_t lse2 = s.line(stage) + 4 * row;
    asm volatile("st.shared.f32 [%0], %1;" ::"r"(lse2), "f"(0.0f) : "memory");
    asm volatile("st.shared.f32 [%0], %1;" ::"r"(lse2 + 4 * C::kSteps), "f"(0.0f) : "memory");
  }
  clear_rows<C::kSteps, 2 * C::kSlabs, kConsumerThreads, kClearBarrier>(s.stage(stage), first, last);
}

/* The steps, as a warpgroup of consumers goes through them. */
template <class C>
struct KeyRing {
  const Shared<C>& s;
  const KeySteps& work;
  int32_t window, begin, ahead, left; /* ahead: of the step's first query to the warpgroup's first key */
  int32_t i = 0, of_head = 0;
  Ring<C::kStages> ring;

  __device__ KeyRing(const Shared<C>& shared, const KeySteps& steps, int32_t keys_seen, int consumer)
      : s(shared), work(steps), window(keys_seen), begin(-kPart * consumer - steps.early), ahead(begin), left(steps.left()) {}

  __device__ void advance() {
    ring.advance();
    i++, ahead += C::kSteps, left -= C::kSteps;
    if (++of_head == work.steps) of_head = 0, ahead = begin, left = work.left();
  }

  /* Waits for the next step of which a query sees a key; false: there is none. The stage of the step before may still be held:
     at most one step is passed over between two that count, so that three stages are enough. */
  __device__ bool find() {
    static_assert(C::kStages >= 3, "or the ring would stop");
    for (; i < work.total(); advance()) {
      s.wait_full(ring.stage, ring.parity);
      if (of_head == 0 && work.first_key == 0 && work.early > 0) clear_queries<C>(s, ring.stage, 0, work.early);
      if (left < C::kSteps) clear_queries<C>(s, ring.stage, left, C::kSteps);
      if (ahead + C::kSteps > 0 && ahead - (kPart - 1) < window) return true;
      s.release(ring.stage);
    }
    return false;
  }
};

__device__ inline float2 load_pair(uint32_t from) {
  float2 x;
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(x.x), "=f"(x.y) : "r"(from) : "memory");
  return x;
}

/* p = exp(p - lse), 0 where a query does not see a key; rows are keys. line: lse2 of the thread's first query; ahead: of that
   query to the thread's first key. */
template <class C, int kCount>
__device__ inline void probabilities_of_keys(float (&p)[kCount], uint32_t line, const ScoreRule& rule, bool masked, int32_t ahead,
                                             int32_t window) {
#pragma unroll
  for (int n = 0; n < kCount / 4; n++) {
    const float2 lse2 = load_pair(line + 32 * n);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const float score = C::kPlain ? p[4 * n + i] : rule.score(p[4 * n + i]);
      p[4 * n + i] = fast_exp2(score * rule.factor - (i % 2 == 0 ? lse2.x : lse2.y));
    }
  }
  if (!masked) return;
#pragma unroll
  for (int n = 0; n < kCount / 4; n++)
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int32_t behind = ahead + 8 * n + i % 2 - i / 2 * 8;
      if (behind < 0 || behind >= window) p[4 * n + i] = 0;
    }
}

/* ds = p * (ds - delta), times the softcap's derivative; rows are keys. line: as above. */
template <class C, int kCount>
__device__ inline void gradients_of_keys(float (&ds)[kCount], const float (&p)[kCount], uint32_t line, const ScoreRule& rule) {
#pragma unroll
  for (int n = 0; n < kCount / 4; n++) {
    const float2 delta = load_pair(line + 4 * C::kSteps + 32 * n);
#pragma unroll
    for (int i = 0; i < 4; i++) ds[4 * n + i] = p[4 * n + i] * (ds[4 * n + i] - (i % 2 == 0 ? delta.x : delta.y));
    if (!C::kPlain && rule.softcap != 0) {
      const float2 lse2 = load_pair(line + 32 * n);
#pragma unroll
      for (int i = 0; i < 4; i++) ds[4 * n + i] *= rule.derivative(p[4 * n + i], i % 2 == 0 ? lse2.x : lse2.y);
    }
  }
}

/* dk and dv of a warpgroup's 64 keys. The shape of the loop, with the first scores before it, one way out in the middle and the
   next scores at its end, is what ptxas recognises as a pipeline (no C7515). */
template <class T, class C>
__device__ inline void consume_keys(const Shared<C>& s, const BackwardArguments<T>& x, const KeySteps& work, int consumer) {
  constexpr int kQueries = C::kSteps;
  const int lane = threadIdx.x % 32, row = threadIdx.x % 128 / 32 * 16;
  const ScoreRule rule(x.at);
  float dk[C::kHead / 2] = {}, dv[C::kHead / 2] = {}, p[kQueries / 2], ds[kQueries / 2];
  KeyRing<C> steps(s, work, x.at.window, consumer);
  sm90::barrier_wait(s.own(), 0, sm90::Role::consumer, 0);
  if (!steps.find()) return; /* all of its keys lie behind the sequence's end: a query sees its own key */
  sm90::wgmma_fence();
  multiply_rows<T, C::kHead, kQueries>(p, s.first(consumer), s.stage(steps.ring.stage));
  sm90::wgmma_commit();
  int last = -1; /* the stage that products under way read */
  for (;;) {
    const int stage = steps.ring.stage, ahead = steps.ahead;
    const uint32_t q_tile = s.stage(stage), do_tile = q_tile + C::kTileBytes, line = s.line(stage) + lane % 4 * 8;
    sm90::wgmma_wait<1>(); /* the products of the step before */
    if (last >= 0) s.release(last);
    sm90::wgmma_fence();
    multiply_rows<T, C::kHead, kQueries>(ds, s.second(consumer), do_tile);
    sm90::wgmma_commit();
    sm90::wgmma_wait<1>();
    sm90::hold(p);
    const bool masked = ahead < kPart - 1 || ahead + kQueries > x.at.window;
    probabilities_of_keys<C>(p, line, rule, masked, ahead + lane % 4 * 2 - row - lane / 4, x.at.window);
    sm90::wgmma_wait<0>();
    sm90::hold(ds);
    gradients_of_keys<C>(ds, p, line, rule);
    uint32_t left_p[kQueries / 16][4], left_ds[kQueries / 16][4];
    pack_left<T>(left_p, p);
    pack_left<T>(left_ds, ds);
    last = stage;
    steps.advance();
    sm90::wgmma_fence();
    multiply_columns<T, C::kHead, kQueries>(dv, left_p, do_tile);
    multiply_columns<T, C::kHead, kQueries>(dk, left_ds, q_tile);
    sm90::wgmma_commit();
    if (!steps.find()) break;
    sm90::wgmma_fence();
    multiply_rows<T, C::kHead, kQueries>(p, s.first(consumer), s.stage(steps.ring.stage));
    sm90::wgmma_commit();
  }
  sm90::wgmma_wait<0>();
  sm90::hold(dk), sm90::hold(dv);
  /* k and v are read no more: the gradients pass through their places. */
  sm90::named_barrier(kGroupBarrier + consumer, 128);
  const int32_t first = work.first_key + kPart * consumer, left = work.count - first;
  store_part<T, C>(x.dk + (work.begin + first) * x.at.ld_k + work.kv_head * x.at.d, x.at.ld_k, left, s.first(consumer), dk, x.at.scale, x.at);
  store_part<T, C>(x.dv + (work.begin + first) * x.at.ld_v + work.kv_head * x.at.d, x.at.ld_v, left, s.second(consumer), dv, 1, x.at);
}

template <class T, class C>
__device__ inline void run_keys(const Arguments<T>& a, const void* memory) {
  const BackwardArguments<T>& x = a.x;
  const Shared<C> s(memory);
  /* The first keys of a sequence, which the most queries see, come first. */
  if (threadIdx.x == 0) prefetch_maps(a);
  const Place place = attention::find_heaviest<kOwned>(x.at, blockIdx.x / x.at.h_kv);
  if (place.sequence < 0) return;
  const Sequence sequence = attention::sequence_of(x.at, place.sequence);
  const int32_t kv_head = blockIdx.x % x.at.h_kv, first_key = place.tile * kOwned, count = sequence.query_count;
  const int32_t last = count - first_key > x.at.window ? min(count, first_key + kOwned - 1 + x.at.window) : count;
  const int32_t early = (sequence.query_begin + first_key) % 4;
  const KeySteps work{kv_head,    first_key, count, (last - first_key + early + C::kSteps - 1) / C::kSteps,
                      x.at.group, early,     sequence.query_begin};
  s.init();
  const int group = __shfl_sync(attention::kAllLanes, static_cast<int>(threadIdx.x) / 128, 0);
  if (group == 0) {
    sm90::shrink_registers<kProducerRegisters>();
    if (threadIdx.x == 0) {
      const int begin = static_cast<int>(work.begin) + first_key, ld = static_cast<int>(attention::ld_line(x.at.n));
      const auto row_of = [&](int32_t i) { return begin - early + i % work.steps * C::kSteps; };
      produce<C>(s, &a.k, &a.v, work.kv_head, begin, &a.q, &a.d_o, work.total(), [&](int32_t i) { return work.head(i); }, row_of,
                 C::kLineBytes, [&](int32_t i, int stage) {
                   const int at = work.head(i) * ld + row_of(i);
                   load_line(s.line(stage), &a.lines, x.at.h * ld + at, s.full(stage));
                   load_line(s.line(stage) + 4 * C::kSteps, &a.lines, at, s.full(stage));
                 });
    }
  } else {
    sm90::grow_registers<kConsumerRegisters>();
    consume_keys<T>(s, x, work, group - 1);
  }
}

}  // namespace attention90
}  // namespace oribi
#endif
