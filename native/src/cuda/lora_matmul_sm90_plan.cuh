/* What producers and consumers of lora_matmul_sm90.cu agree on: sizes, the layout of shared memory, the order of tiles. */
#ifndef ORIBI_CUDA_LORA_MATMUL_SM90_PLAN_CUH
#define ORIBI_CUDA_LORA_MATMUL_SM90_PLAN_CUH

#include "cuda/lora_matmul_sm90.cuh"
#include "cuda/sm90.cuh"

namespace oribi {
namespace lora90 {

using sm90::Ring;

constexpr int kRows = 128;      /* of a tile of y: 64 for each consumer */
constexpr int kDepth = 64;      /* of a step along the inner dimension: 128 bytes, the widest swizzle */
constexpr int kConsumers = 2;
constexpr int kRowBytes = 128;  /* of a tile in shared memory */
constexpr int kMajor = 64;      /* columns of a weight [inner, columns] that lie together in a stage */
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

/* With a weight in NF4; w describes its codes. */
struct Nf4Arguments : Arguments {
  const uint8_t* absmax;
  const float *absmax2, *offset;
  int rows, row_blocks; /* of the weight: rows, and blocks of 64 elements in one */
  float map[256];       /* of absmax */
};

template <class T_, int kColumns_, int kCluster_, bool kDx_, bool kNf4_, LoraSharing kSharing = LoraSharing::halves>
struct Policy {
  using T = T_;
  using Args = std::conditional_t<kNf4_, Nf4Arguments, Arguments>;
  static constexpr int kColumns = kColumns_, kCluster = kCluster_;
  static constexpr bool kDx = kDx_; /* the weight is [inner, columns of y] */
  static constexpr bool kNf4 = kNf4_;
  static constexpr bool kTurns = kSharing == LoraSharing::turns;
  static constexpr int kSplit = kSharing == LoraSharing::inner ? 2 : 1; /* blocks that halve the inner dimension */
  static constexpr int kBlocks = kCluster * kSplit;                     /* of a cluster; kCluster share the weight's tile */
  static constexpr int kHalves = kTurns ? 2 : 1; /* of a tile's rows that a consumer computes */
  static constexpr int kWeightRows = (kDx ? kDepth : kColumns) / kCluster; /* of a box of the weight's map */
  static constexpr uint32_t kWBytes = kColumns * kRowBytes;
  static constexpr uint32_t kStageBytes = kXBytes + kWBytes;
  /* As many as fit into 227 KB beside the staging of y and the codes: 4 of 48 or 40 KB, 6 of 32 KB; of NF4 3 and 5. */
  static constexpr int kStages = (kColumns == 128 ? 6 : kTurns ? 5 : 4) - (kNf4 ? 1 : 0);
  static constexpr int kSlab = kColumns % 64 == 0 ? 64 : kColumns % 32 == 0 ? 32 : 16; /* columns of y that are staged together */
  static constexpr uint32_t kSlabRowBytes = kSlab * 2, kSlabBytes = 64 * kSlabRowBytes;
  static constexpr int kSlabBuffers = kSlab == 16 ? 4 : kTurns ? 1 : 2; /* for each consumer: with two, one is filled while the other is stored */
  static constexpr uint32_t kStagingBytes = kConsumers * kSlabBuffers * kSlabBytes;
  static constexpr int kCodeStages = kNf4 ? 4 : 0; /* codes are fetched three steps ahead of their decoding */
  static constexpr uint32_t kCodeBytes = kColumns * kDepth / 2;
  static constexpr int kScaleStages = kNf4 ? 4 : 0; /* and so are the scales of blocks, eight bytes each */
  static constexpr uint32_t kScaleBytes = kColumns * 8;
  static constexpr uint32_t kBarrierBytes = 1024, kMapBytes = kNf4 ? 1024 : 0;
  static constexpr uint32_t kSharedBytes =
      1024 + kStages * kStageBytes + kStagingBytes + kCodeStages * kCodeBytes + kBarrierBytes + kMapBytes +
      kScaleStages * kScaleBytes;
  /* Who may arrive at a full stage: the thread that starts TMA, and the four warps that decode. */
  static constexpr uint32_t kFullCount = kNf4 ? 5 : 1;
  static constexpr int kThreads = 128 * (1 + kConsumers);
  /* At entry each thread has the same share of 64 K registers, 168, and the sums here are 3 * 168. The accumulators alone
     take 128; of what is left decoding can use more than starting copies. */
  static constexpr int kProducerRegisters = kNf4 ? 120 : kTurns ? 24 : 40, kConsumerRegisters = kNf4 ? 192 : kTurns ? 240 : 232;
};

/* Addresses in shared memory. */
template <class P>
struct Shared {
  uint32_t base;
  __device__ explicit Shared(const void* memory) : base((sm90::shared_address(memory) + 1023) & ~1023u) {}
  __device__ uint32_t x(int stage) const { return base + stage * P::kStageBytes; }
  __device__ uint32_t w(int stage) const { return x(stage) + kXBytes; }
  __device__ uint32_t staging(int consumer, int buffer) const {
    return base + P::kStages * P::kStageBytes + (consumer * P::kSlabBuffers + buffer) * P::kSlabBytes;
  }
  __device__ uint32_t codes(int stage) const {
    return base + P::kStages * P::kStageBytes + P::kStagingBytes + stage * P::kCodeBytes;
  }
  __device__ uint32_t full(int stage) const { return codes(P::kCodeStages) + stage * 8; }
  __device__ uint32_t empty(int stage) const { return full(P::kStages + stage); }
  __device__ uint32_t codes_full(int stage) const { return full(2 * P::kStages + stage); }
  __device__ uint32_t codes_empty(int stage) const { return full(2 * P::kStages + P::kCodeStages + stage); }
  __device__ uint32_t map() const { return codes(P::kCodeStages) + P::kBarrierBytes; }
  __device__ uint32_t scales(int stage) const { return map() + P::kMapBytes + stage * P::kScaleBytes; }
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
  const int below = P::kCluster > 1 ? rank : 0;
  return {(row_tile * P::kCluster + below) * kRows, in_group / rows * P::kColumns};
}
template <class P>
__device__ inline int first_tile() {
  return blockIdx.x / P::kBlocks;
}
template <class P>
__device__ inline int tile_stride() {
  return gridDim.x / P::kBlocks;
}

/* Whether a part adds to a tile of y. */
template <class P>
__device__ inline bool meets(const Arguments& a, int part, int column) {
  return a.first[part] < column + P::kColumns && column < a.first[part] + a.size[part];
}

/* The steps of the inner dimension that a block takes, and whether those of the adapter are its own too. */
struct Share {
  int first, steps;
  bool adapter;
};
template <class P>
__device__ inline Share share_of(const Arguments& a, int rank) {
  const int steps = static_cast<int>(a.steps), second = steps / P::kSplit;
  if (P::kSplit == 1) return {0, steps, true};
  return rank == 0 ? Share{0, steps - second, false} : Share{steps - second, second, true};
}

/* The stages that a tile takes, where one block takes all. */
template <class P>
__device__ inline int steps_of(const Arguments& a, int column) {
  int met = 0;
  for (int part = 0; part < a.parts; part++) met += meets<P>(a, part, column);
  return static_cast<int>(a.steps) + met * ((a.rank + kDepth - 1) / kDepth);
}

}  // namespace lora90
}  // namespace oribi
#endif
