/*
 * How the skinny products divide one long pass over a tensor among blocks, and the loop that each block runs.
 *
 * A unit is one tile of the output and `steps` tiles of the big tensor that are summed into it. All steps of all units lie
 * on one line, and each block takes an equal piece of it, so that no processor waits for a last wave of blocks. A piece may
 * begin and end inside a unit: each block leaves its part of a unit's sum in a slot of the workspace, and a second kernel
 * adds the slots of a unit in the order of the blocks. Along the line block and unit only grow, so block + unit numbers the
 * slots without gaps or clashes.
 */
#ifndef ORIBI_CUDA_LORA_SPLIT_CUH
#define ORIBI_CUDA_LORA_SPLIT_CUH

#include "cuda/lora_tile.cuh"

namespace oribi::lora {

struct Split {
  int64_t units, steps;
  int64_t blocks;

  __host__ __device__ int64_t total() const { return units * steps; }
  /* The first step of a block; blocks: the end. */
  __host__ __device__ int64_t begin(int64_t block) const { return block * total() / blocks; }
  /* The block that takes a step: the last one that begins at or before it. */
  __host__ __device__ int64_t owner(int64_t step) const { return ((step + 1) * blocks - 1) / total(); }
  /* The slots of a unit are first_slot(unit) to last_slot(unit). */
  __host__ __device__ int64_t first_slot(int64_t unit) const { return owner(unit * steps) + unit; }
  __host__ __device__ int64_t last_slot(int64_t unit) const { return owner((unit + 1) * steps - 1) + unit; }
};

/* At least this many steps a block: fewer would fill the ring and not use it. */
constexpr int64_t kLeastSteps = 4;

inline Split make_split(int64_t units, int64_t steps, int64_t most_blocks) {
  const int64_t enough = (units * steps + kLeastSteps - 1) / kLeastSteps;
  return {units, steps, enough < most_blocks ? enough : most_blocks};
}

/* A step as its unit and its number in the unit. */
struct Cursor {
  int64_t unit, step;

  __device__ void advance(int64_t steps) {
    if (++step == steps) {
      step = 0;
      unit++;
    }
  }
};

/* The steps of one block, through a ring of `stages` tiles in shared memory. P has
     fetch(cursor, stage), deposit(stage)   the two halves of a copy (lora_tile.cuh)
     compute(cursor, stage)                 after a barrier that follows the copy
     flush(unit)                            after the block's last step of a unit */
template <class P>
__device__ void run_share(P& p, const Split& split, int stages) {
  release_next();
  const int64_t first = split.begin(blockIdx.x), count = split.begin(blockIdx.x + 1) - first;
  Cursor ahead{first / split.steps, first % split.steps}, here = ahead;
  for (int i = 0; i < stages - 1; i++) {
    if (i < count) {
      p.fetch(ahead, i);
      p.deposit(i);
      ahead.advance(split.steps);
    }
    close_copies();
  }
  int reading = 0, writing = stages - 1;
  for (int64_t i = 0; i < count; i++) {
    wait_for_copies(stages - 2);
    __syncthreads(); /* this step's tile is whole, and nobody reads the one before, which is overwritten next */
    const bool more = i + stages - 1 < count;
    if (more) {
      p.fetch(ahead, writing);
      ahead.advance(split.steps);
    }
    close_copies();
    p.compute(here, reading);
    if (more) p.deposit(writing);
    if (here.step == split.steps - 1 || i == count - 1) p.flush(here.unit);
    here.advance(split.steps);
    reading = reading + 1 == stages ? 0 : reading + 1;
    writing = writing + 1 == stages ? 0 : writing + 1;
  }
}

/* The sum of an element over the slots of a unit. */
__device__ inline float4 sum_of_slots(const float* element, int64_t slots, int64_t slot_size) {
  float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll 4
  for (int64_t i = 0; i < slots; i++) {
    const float4 part = *reinterpret_cast<const float4*>(element + i * slot_size);
    sum.x += part.x;
    sum.y += part.y;
    sum.z += part.z;
    sum.w += part.w;
  }
  return sum;
}

}  // namespace oribi::lora
#endif
