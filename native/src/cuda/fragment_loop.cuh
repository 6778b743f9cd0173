/*
 * The main loop of the products on mma.sync (lora_matmul_mma_kernel.cuh, grouped_mma.cu): a ring of stages in shared memory,
 * each 32 elements of the inner dimension deep, and two sets of fragments in registers, 16 of them each.
 *
 * Of the two sets one is loaded while the other is multiplied, also across the barrier: a step's first half is loaded before the
 * second half of the step before it is multiplied.
 */
#ifndef ORIBI_CUDA_FRAGMENT_LOOP_CUH
#define ORIBI_CUDA_FRAGMENT_LOOP_CUH

#include "cuda/lora_tile.cuh"

namespace oribi::lora {

/* All steps of a block's tile. P has
     Fragments                            the operands of 16 elements
     fetch(step, stage), deposit(stage)   the two halves of a copy (lora_tile.cuh)
     load(fragments, stage, half)         from shared memory, after a barrier that follows the copy
     multiply(fragments)
   Afterwards no copy is under way and nobody reads the ring. */
template <class P>
__device__ inline void run_steps(P& p, int64_t steps, int stages) {
  for (int i = 0; i < stages - 1; i++) {
    if (i < steps) {
      p.fetch(i, i);
      p.deposit(i);
    }
    close_copies();
  }
  int reading = 0, writing = stages - 1;
  wait_for_copies(stages - 2);
  __syncthreads();
  typename P::Fragments even, odd;
  p.load(even, reading, 0);
  for (int64_t step = 0; step < steps; step++) {
    const bool more = step + stages - 1 < steps;
    if (more) p.fetch(step + stages - 1, writing);
    close_copies();
    p.load(odd, reading, 1);
    p.multiply(even);
    if (more) p.deposit(writing);
    reading = reading + 1 == stages ? 0 : reading + 1;
    writing = writing + 1 == stages ? 0 : writing + 1;
    wait_for_copies(stages - 2);
    __syncthreads(); /* the next step's tile is whole, and nobody reads this one any more, which is overwritten next */
    if (step + 1 < steps) p.load(even, reading, 0);
    p.multiply(odd);
  }
  wait_for_copies(0);
}

}  // namespace oribi::lora
#endif
