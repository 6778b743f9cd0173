/* What producers and consumers of grouped_sm90*.cu agree on: sizes, the layout of shared memory, the order of tiles. */
#ifndef ORIBI_CUDA_GROUPED_SM90_PLAN_CUH
#define ORIBI_CUDA_GROUPED_SM90_PLAN_CUH

#include "cuda/grouped_tiles.cuh"
#include "cuda/sm90.cuh"

namespace oribi::grouped90 {

using sm90::Ring;

constexpr int kRows = 128, kColumns = 256; /* of a tile of out: a consumer has 64 rows */
constexpr int kDepth = 64;                 /* of a step along the inner dimension: 128 bytes, the widest swizzle */
constexpr int kRowBytes = 128, kSlab = 64; /* of what TMA brings: rows of 64 elements */
constexpr uint32_t kSlabBytes = kSlab * kRowBytes;
constexpr int kConsumers = 2, kThreads = 128 * (1 + kConsumers);
constexpr uint32_t kLeftBytes = kRows * kRowBytes, kRightBytes = kColumns * kRowBytes, kStageBytes = kLeftBytes + kRightBytes;
constexpr int kStages = 4; /* of 48 KB, the most that fit into 227 KB beside the staging of out */
/* Rows of tiles of an expert that are walked together: 16 x 8 tiles are what an H100 computes at once, and read the least. With 8, and
   with equal groups of up to 24 so that a weight is read for fewer groups, dx of 2,048 rows an expert was 3 to 6 % slower
   (docs/results/grouped.md). */
constexpr int kGroup = 16;

/* Everything a kernel needs; the maps describe tensors to TMA, out for dw alone. */
struct Arguments {
  CUtensorMap left, right, out;
  grouped::Arguments at;
};

/* The operand whose rows are read elsewhere than they stand: by copies of 16 bytes, as TMA cannot. */
enum class Gathered { none, left, right };

template <class T_, Grouped kForm_, Gathered kWhich>
struct Policy {
  using T = T_;
  static constexpr Grouped kForm = kForm_;
  static constexpr bool kDw = kForm == Grouped::kDw;
  static constexpr bool kGathersLeft = kWhich == Gathered::left, kGathersRight = kWhich == Gathered::right;
  static constexpr bool kGathered = kGathersLeft || kGathersRight;
  static_assert(kDw || !kGathersRight, "a weight is not gathered");
  static constexpr uint32_t kTmaBytes = (kGathersLeft ? 0 : kLeftBytes) + (kGathersRight ? 0 : kRightBytes);
  static constexpr int kLeftTransposed = kDw ? 1 : 0, kRightTransposed = kForm == Grouped::kForward ? 0 : 1;
  /* Of out, for each consumer: two slabs of 64 rows and 32 columns in fp32 for dw, of which one is filled while the other is
     added; otherwise 16 rows of 64 columns for each warp. */
  static constexpr uint32_t kStagingBytes = (kDw ? 2 : 1) * 8192;
  static constexpr uint32_t kBarrierBytes = 128;
  static constexpr int kTableSize = kDw ? 0 : static_cast<int>(kMaxExperts) + 1; /* of the experts' first tiles, and of their rows */
  static constexpr uint32_t kSharedBytes = 1024 + kStages * kStageBytes + kConsumers * kStagingBytes + kBarrierBytes + 2 * kTableSize * 4;
  static_assert(2 * kStages * 8 <= kBarrierBytes && kSharedBytes <= 227 * 1024, "");
  /* Who arrives at a full stage: the thread that starts TMA, and those whose copies are done. */
  static constexpr uint32_t kFullCount = kGathered ? 1 + 128 : 1;
  /* At entry each thread has the same share of 64 K registers, 168, and the sums here are 3 * 168. */
  static constexpr int kProducerRegisters = kGathered ? 56 : 40, kConsumerRegisters = kGathered ? 224 : 232;
};

/* Addresses in shared memory. */
template <class P>
struct Shared {
  uint32_t base;
  int* table; /* the experts' first tiles, in rows of tiles, with the number of all at the end; then their offsets */
  __device__ explicit Shared(uint8_t* memory) {
    const uint32_t address = sm90::shared_address(memory);
    base = (address + 1023) & ~1023u;
    table = reinterpret_cast<int*>(memory + (full(0) + P::kBarrierBytes - address));
  }
  __device__ uint32_t left(int stage) const { return base + stage * kStageBytes; }
  __device__ uint32_t right(int stage) const { return left(stage) + kLeftBytes; }
  __device__ uint32_t staging(int consumer) const { return left(kStages) + consumer * P::kStagingBytes; }
  __device__ uint32_t full(int stage) const { return staging(kConsumers) + stage * 8; }
  __device__ uint32_t empty(int stage) const { return full(kStages + stage); }
  __device__ int* first_tile() const { return table; }
  __device__ int* offset() const { return table + P::kTableSize; }
};

/* A tile of out. row and end: rows of left, of which those before end are the expert's; for dw, rows of the expert's matrix are
   `row` and further, and `begin` to `end` are summed. */
struct Tile {
  int expert, row, column, begin, end;
};

/* Fills the table. One warp; each lane counts the tiles of some neighbouring experts. */
template <class P>
__device__ inline void count_tiles(const Shared<P>& s, const int32_t* offsets, int experts) {
  const int lane = threadIdx.x % 32, each = (experts + 31) / 32, begin = min(lane * each, experts), end = min(begin + each, experts);
  int own = 0;
  for (int e = begin; e < end; e++) own += (offsets[e + 1] - offsets[e] + kRows - 1) / kRows;
  int before = own;
  for (int step = 1; step < 32; step *= 2) {
    const int other = __shfl_up_sync(0xffffffffu, before, step);
    if (lane >= step) before += other;
  }
  if (lane == 31) s.first_tile()[experts] = before, s.offset()[experts] = offsets[experts];
  before -= own;
  for (int e = begin; e < end; e++) {
    s.first_tile()[e] = before;
    s.offset()[e] = offsets[e];
    before += (offsets[e + 1] - offsets[e] + kRows - 1) / kRows;
  }
}

/* The tiles of a block, one after another; everybody in it walks alike. */
template <class P>
class Walk {
 public:
  __device__ Walk(const grouped::Arguments& at, const Shared<P>& s) : at_(at), first_(s.first_tile()), offset_(s.offset()), slot_(blockIdx.x) {}

  __device__ bool next(Tile* t) {
    const bool found = P::kDw ? next_of_dw(t) : next_of_rows(t);
    slot_ += gridDim.x;
    return found;
  }

 private:
  __device__ bool next_of_rows(Tile* t) {
    if (slot_ >= static_cast<uint32_t>(first_[at_.experts] * at_.column_tiles)) return false;
    while (slot_ >= static_cast<uint32_t>(first_[expert_ + 1] * at_.column_tiles)) expert_++;
    place(t, slot_ - first_[expert_] * at_.column_tiles, first_[expert_ + 1] - first_[expert_]);
    t->expert = expert_, t->begin = 0;
    t->row += offset_[expert_], t->end = offset_[expert_ + 1];
    return true;
  }
  /* Experts have as many tiles each, and those without rows are passed by. */
  __device__ bool next_of_dw(Tile* t) {
    const uint32_t each = at_.row_tiles * at_.column_tiles;
    for (;; slot_ += gridDim.x) {
      const int expert = slot_ / each;
      if (expert >= at_.experts) return false;
      t->begin = at_.offsets[expert], t->end = at_.offsets[expert + 1];
      if (t->begin == t->end) continue;
      t->expert = expert;
      place(t, slot_ % each, at_.row_tiles);
      return true;
    }
  }
  /* Down the rows of a group, then to the next column. */
  __device__ void place(Tile* t, int tile, int row_tiles) {
    const int of_group = kGroup * at_.column_tiles, group = tile / of_group, in_group = tile % of_group;
    const int rows = min(kGroup, row_tiles - group * kGroup);
    t->row = (group * kGroup + in_group % rows) * kRows;
    t->column = in_group / rows * kColumns;
  }

  const grouped::Arguments& at_;
  const int *first_, *offset_;
  uint32_t slot_;
  int expert_ = 0;
};

/* Steps along the inner dimension. */
template <class P>
__device__ inline int steps_of(const grouped::Arguments& at, const Tile& t) {
  return P::kDw ? (t.end - t.begin + kDepth - 1) / kDepth : static_cast<int>((at.inner + kDepth - 1) / kDepth);
}

}  // namespace oribi::grouped90
#endif
