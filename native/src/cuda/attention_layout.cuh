/*
 * What the kernels of attention know about their arrays, and how a block finds its work.
 *
 * The lengths of the sequences lie in the card's memory, so that a captured graph can be replayed with others: the host
 * knows only that n rows in S sequences make at most n / size + S tiles of `size` rows, and launches that many; each block
 * searches for its own tile, and those beyond the last return at once.
 */
#ifndef ORIBI_CUDA_ATTENTION_LAYOUT_CUH
#define ORIBI_CUDA_ATTENTION_LAYOUT_CUH

#include <cstdint>

#include "common/attention.h"
#include "cuda/context.cuh"
#include "cuda/vector.cuh"

namespace oribi::attention {

constexpr unsigned kAllLanes = 0xffffffffu;
constexpr float kLog2E = 1.44269504088896f, kLn2 = 0.69314718055994531f;

struct Layout {
  const int32_t *cu_seqlens, *kv_start, *kv_len;
  int64_t ld_q, ld_k, ld_v, ld_o;
  int32_t n, sequences, h, h_kv, group, d; /* group: query heads of one key head */
  int32_t window;                          /* INT32_MAX where there is none */
  float scale, softcap;
  bool wide; /* every row of every head begins at a multiple of 16 bytes, and is one long */
};

template <class T>
struct ForwardArguments {
  T* o;
  float* lse;
  const T *q, *k, *v;
  float* workspace;
  Layout at;
};

/* A head's rows of delta and lse2, up to a multiple of 16 bytes: TMA copies a line from such a place on only. */
__host__ __device__ constexpr int64_t ld_line(int64_t n) { return (n + 3) / 4 * 4; }

template <class T>
struct BackwardArguments {
  T *dq, *dk, *dv;
  const T* o;
  const float* lse;
  const T *d_o, *q, *k, *v;
  float *delta, *lse2; /* [H,ld_line(N)]: sum(do * o), and lse in units of log 2 */
  Layout at;
  __device__ int64_t line(int64_t head, int64_t row) const { return head * ld_line(at.n) + row; }
};

struct Sequence {
  int32_t query_begin, query_count, key_begin, key_count;
  /* Query i stands at key i + hidden() and sees no key behind it. */
  __device__ int32_t hidden() const { return key_count - query_count; }
};

__device__ inline Sequence sequence_of(const Layout& at, int32_t s) {
  const int32_t begin = at.cu_seqlens[s], count = at.cu_seqlens[s + 1] - begin;
  if (at.kv_start == nullptr) return {begin, count, begin, count};
  return {begin, count, at.kv_start[s], at.kv_len[s]};
}

struct Place {
  int32_t sequence; /* -1: beyond the last tile */
  int32_t tile;     /* within the sequence */
};

/* The place of tile `index` where every sequence is cut into tiles of kSize rows. Each warp searches for itself, 32
   sequences a step, so that no barrier is needed. */
template <int kSize>
__device__ inline Place find_tile(const Layout& at, int32_t index) {
  const int32_t lane = threadIdx.x % 32;
  int32_t before = 0;
  for (int32_t base = 0; base < at.sequences; base += 32) {
    const int32_t s = base + lane;
    const int32_t count = s < at.sequences ? at.cu_seqlens[s + 1] - at.cu_seqlens[s] : 0;
    const int32_t tiles = (count + kSize - 1) / kSize;
    int32_t sum = tiles;
    for (int32_t step = 1; step < 32; step *= 2) {
      const int32_t other = __shfl_up_sync(kAllLanes, sum, step);
      if (lane >= step) sum += other;
    }
    const unsigned past = __ballot_sync(kAllLanes, before + sum > index);
    if (past != 0) {
      const int32_t found = __ffs(static_cast<int>(past)) - 1;
      return {base + found, index - before - __shfl_sync(kAllLanes, sum - tiles, found)};
    }
    before += __shfl_sync(kAllLanes, sum, 31);
  }
  return {-1, 0};
}

/* The same, but in falling order of what there is to do: tile t of a sequence of n tiles has n - t tiles of the other side to
   meet, and the blocks with the most must start first, or the last of them run alone. Up to 32 sequences, a lane each; more
   are taken in their own order, as their tiles are short or many. */
template <int kSize>
__device__ inline Place find_heaviest(const Layout& at, int32_t index) {
  if (at.sequences == 1 || at.sequences > 32) return find_tile<kSize>(at, index);
  const int32_t lane = threadIdx.x % 32;
  const int32_t tiles = lane < at.sequences ? (at.cu_seqlens[lane + 1] - at.cu_seqlens[lane] + kSize - 1) / kSize : 0;
  const auto at_least = [tiles](int32_t weight) { /* tiles of this weight or more */
    int32_t sum = max(0, tiles - weight + 1);
    for (int32_t step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(kAllLanes, sum, step);
    return sum;
  };
  if (index >= at_least(1)) return {-1, 0};
  int32_t low = 1, high = tiles; /* at_least(low) > index >= at_least(high) */
  for (int32_t step = 16; step > 0; step /= 2) high = max(high, __shfl_xor_sync(kAllLanes, high, step));
  high++;
  while (high - low > 1) {
    const int32_t middle = (low + high) / 2;
    if (at_least(middle) > index) {
      low = middle;
    } else {
      high = middle;
    }
  }
  unsigned have = __ballot_sync(kAllLanes, tiles >= low);
  for (int32_t skip = index - at_least(high); skip > 0; skip--) have &= have - 1;
  const int32_t found = __ffs(static_cast<int>(have)) - 1;
  return {found, __shfl_sync(kAllLanes, tiles, found) - low};
}

/* The sequence of a row; -1: of none. Sequences without rows are passed over. */
__device__ inline Place find_row(const Layout& at, int32_t row) {
  int32_t low = 0, high = at.sequences; /* cu_seqlens[low] <= row < cu_seqlens[high] */
  while (high - low > 1) {
    const int32_t middle = (low + high) / 2;
    if (at.cu_seqlens[middle] <= row) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return {at.sequences > 0 && row < at.cu_seqlens[at.sequences] ? low : -1, 0};
}

inline int64_t tile_bound(const Layout& at, int32_t size) { return at.n / size + at.sequences; }

}  // namespace oribi::attention
#endif
