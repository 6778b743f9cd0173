/*
 * The grouped products on mma.sync: a block has a tile of 128 rows of one expert and 128 columns, or 32 where there are few (a
 * LoRA rank), and goes along the inner dimension 32 elements a step through a ring of stages, as the LoRA product does
 * (cuda/lora_matmul_mma_kernel.cuh). Rows that are read elsewhere than they stand cost a look at their index.
 *
 * In shared memory a row of 32 elements is 4 chunks of 16 bytes, and chunk c of row r lies at c ^ (r/2 % 4); a row of 128 has
 * 16, at c ^ (r % 8). Either way the eight rows of one ldmatrix phase are in different banks. An operand with the summed index
 * outermost is transposed by ldmatrix.
 */
#include "cuda/fragment_loop.cuh"
#include "cuda/grouped_tiles.cuh"
#include "cuda/lora_support.cuh"

namespace oribi::grouped {
namespace {

using namespace lora;

constexpr int kRows = 128, kDepth = 32, kThinColumns = 32, kWideColumns = 128;
static_assert(kMostThin == 2 * kThinColumns, "what grouped.cu turns round must be what is thin here");
/* As of the LoRA product: three stages of 16 KB let two blocks share a processor of sm_86 and sm_89. */
constexpr int kStages = 3, kStagesOfLarge = 4, kStagesOfTuring = 2;
constexpr int kSharedForLarge = 160 * 1024;

__device__ inline uint32_t load_4(uint32_t from) {
  uint32_t x;
  asm volatile("ld.shared.b32 %0, [%1];" : "=r"(x) : "r"(from) : "memory");
  return x;
}

/* Where chunk `chunk` of row r lies in a tile whose rows have kChunks chunks. */
template <int kChunks>
__device__ uint32_t place(int r, int chunk) {
  return r * (kChunks * 16) + ((chunk ^ (kChunks == 4 ? (r >> 1) & 3 : r & 7)) << 4);
}

template <class T, Grouped kForm, bool kThin, bool kTuring>
struct Tile {
  static constexpr bool kDw = kForm == Grouped::kDw;
  static constexpr int kColumns = kThin ? kThinColumns : kWideColumns;
  /* Four warps of 64 x 64, or of 32 x 32 where columns are few; below sm_80, where copies pass through registers, eight of
     64 x 32. */
  static constexpr int kWarps = kTuring && !kThin ? 8 : 4, kThreads = 32 * kWarps;
  static constexpr int kAcross = kThin ? 1 : kWarps / 2, kWarpColumns = kColumns / kAcross, kWarpRows = kRows / (kWarps / kAcross);
  static constexpr int kM = kWarpRows / 16, kN = kWarpColumns / 8;
  static constexpr int kLeftChunks = kDw ? 16 : 4, kRightChunks = kForm == Grouped::kForward ? 4 : kColumns / 8;
  static constexpr int kLeftCopies = kRows * kDepth / kChunk / kThreads, kRightCopies = kColumns * kDepth / kChunk / kThreads;
  static constexpr int kLeftBytes = kRows * kDepth * 2, kStageBytes = kLeftBytes + kColumns * kDepth * 2;
  static_assert(kLeftChunks % 4 == 0 && kRightChunks % 4 == 0, "the swizzles are for 4 and 16");
  static constexpr int kStagingRow = kColumns * 2 + 16, kStagingBytes = kRows * kStagingRow; /* an odd number of chunks, for the banks */

  const Arguments& at;
  uint32_t shared;
  int64_t row, column; /* of out, where the tile begins */
  int end;             /* the row after the expert's last: of out, or, for dw, of left and right */
  int begin;           /* for dw: the expert's first */
  int64_t inner, steps;
  const T* right; /* the expert's */
  int64_t out;    /* where the expert's matrix begins, for dw */
  int source[kDw ? 1 : kLeftCopies]; /* the rows that this thread copies; -1 beyond the end */
  Transfer<kLeftCopies> left_copy;
  Transfer<kRightCopies> right_copy;
  float c[kM][kN][4] = {};

  struct Fragments {
    uint32_t left[kM][4], right[kN / 2][4];
  };

  __device__ Tile(const Arguments& arguments, uint32_t memory) : at(arguments), shared(memory) {}

  /* False: there is nothing to do. */
  __device__ bool find() {
    const int slot = blockIdx.x / at.column_tiles;
    column = static_cast<int64_t>(blockIdx.x % at.column_tiles) * kColumns;
    right = static_cast<const T*>(at.right);
    if constexpr (kDw) {
      const int expert = slot / at.row_tiles;
      row = static_cast<int64_t>(slot % at.row_tiles) * kRows;
      begin = at.offsets[expert];
      end = at.offsets[expert + 1];
      inner = end - begin;
      out = expert * at.expert_w;
    } else {
      const RowTile found = find_row_tile<kRows>(at.offsets, at.experts, slot);
      if (found.expert < 0) return false;
      row = found.first;
      end = found.end;
      inner = at.inner;
      right += found.expert * at.expert_w;
#pragma unroll
      for (int i = 0; i < kLeftCopies; i++) {
        const int here = found.first + threadIdx.x / 4 + i * (kThreads / 4);
        source[i] = here >= end ? -1 : at.left_row != nullptr ? at.left_row[here] : here;
      }
    }
    steps = (inner + kDepth - 1) / kDepth;
    return steps > 0;
  }

  /* The spot of this thread's copy i in a tile of rows of kChunks chunks. */
  template <int kChunks>
  static __device__ int copy_row(int i) {
    return threadIdx.x / kChunks + i * (kThreads / kChunks);
  }
  template <int kChunks>
  static __device__ uint32_t copy_place(int i) {
    return place<kChunks>(copy_row<kChunks>(i), threadIdx.x % kChunks);
  }

  /* kDepth rows of left or right for dw, from row k of the expert's on, `width` columns of them from `first` on. */
  template <int kChunks, int kCopies>
  __device__ void fetch_rows_of_expert(Transfer<kCopies>& copy, uint32_t tile, const void* from, const int32_t* rows, int64_t ld,
                                       int64_t k, int64_t first, int64_t width) {
    const int64_t at_column = first + threadIdx.x % kChunks * kChunk;
#pragma unroll
    for (int i = 0; i < kCopies; i++) {
      const int64_t here = begin + k + copy_row<kChunks>(i);
      const bool inside = here < end && at_column < width;
      const int64_t r = inside && rows != nullptr ? rows[here] : here;
      copy.fetch(i, tile + copy_place<kChunks>(i), static_cast<const T*>(from) + (inside ? r * ld + at_column : 0), inside);
    }
  }

  __device__ void fetch(int64_t step, int stage) {
    const uint32_t tile = shared + stage * kStageBytes, tile_right = tile + kLeftBytes;
    const int64_t k = step * kDepth;
    if constexpr (kDw) {
      fetch_rows_of_expert<kLeftChunks>(left_copy, tile, at.left, at.left_row, at.ld_left, k, row, at.rows);
      fetch_rows_of_expert<kRightChunks>(right_copy, tile_right, at.right, at.right_row, at.ld_right, k, column, at.columns);
      return;
    }
    const int64_t k_left = k + threadIdx.x % 4 * kChunk;
#pragma unroll
    for (int i = 0; i < kLeftCopies; i++) {
      const bool inside = !kDw && source[kDw ? 0 : i] >= 0 && k_left < inner;
      const T* from = static_cast<const T*>(at.left) + (inside ? source[kDw ? 0 : i] * at.ld_left + k_left : 0);
      left_copy.fetch(i, tile + copy_place<kLeftChunks>(i), from, inside);
    }
#pragma unroll
    for (int i = 0; i < kRightCopies; i++) {
      const int r = copy_row<kRightChunks>(i), along = threadIdx.x % kRightChunks * kChunk;
      const int64_t w_row = kForm == Grouped::kForward ? column + r : k + r, w_column = (kForm == Grouped::kForward ? k : column) + along;
      const bool inside = kForm == Grouped::kForward ? w_row < at.columns && w_column < inner : w_row < inner && w_column < at.columns;
      right_copy.fetch(i, tile_right + copy_place<kRightChunks>(i), right + (inside ? w_row * at.ld_right + w_column : 0), inside);
    }
  }

  __device__ void deposit(int stage) {
    const uint32_t tile = shared + stage * kStageBytes;
#pragma unroll
    for (int i = 0; i < kLeftCopies; i++) left_copy.deposit(i, tile + copy_place<kLeftChunks>(i));
#pragma unroll
    for (int i = 0; i < kRightCopies; i++) right_copy.deposit(i, tile + kLeftBytes + copy_place<kRightChunks>(i));
  }

  static __device__ int lane() { return threadIdx.x % 32; }
  static __device__ int warp_row() { return threadIdx.x / 32 / kAcross * kWarpRows; }
  static __device__ int warp_column() { return threadIdx.x / 32 % kAcross * kWarpColumns; }

  /* The fragments of 16 of a stage's 32 elements. */
  __device__ void load(Fragments& f, int stage, int k) {
    const uint32_t tile = shared + stage * kStageBytes;
    const uint32_t a = tile + (kDw ? place<kLeftChunks>((lane() & 7) + ((lane() >> 4) << 3), warp_row() / kChunk + ((lane() >> 3) & 1))
                                   : place<kLeftChunks>(warp_row() + (lane() & 15), lane() >> 4));
    const uint32_t b = tile + kLeftBytes +
                       (kForm == Grouped::kForward
                            ? place<kRightChunks>(warp_column() + (lane() & 7) + ((lane() >> 4) << 3), (lane() >> 3) & 1)
                            : place<kRightChunks>(lane() & 15, warp_column() / kChunk + (lane() >> 4)));
#pragma unroll
    for (int m = 0; m < kM; m++) {
      if constexpr (kDw) {
        load_matrices_transposed(f.left[m], (a ^ (m << 5)) + k * 16 * kLeftChunks * 16);
      } else {
        load_matrices(f.left[m], (a ^ (k << 5)) + m * 16 * kLeftChunks * 16);
      }
    }
#pragma unroll
    for (int j = 0; j < kN / 2; j++) {
      if constexpr (kForm == Grouped::kForward) {
        load_matrices(f.right[j], (b ^ (k << 5)) + j * 16 * kRightChunks * 16);
      } else {
        load_matrices_transposed(f.right[j], (b ^ (j << 5)) + k * 16 * kRightChunks * 16);
      }
    }
  }

  __device__ void multiply(const Fragments& f) {
#pragma unroll
    for (int m = 0; m < kM; m++)
#pragma unroll
      for (int j = 0; j < kN; j++) mma<T>(c[m][j], f.left[m], f.right[j / 2][j % 2 * 2], f.right[j / 2][j % 2 * 2 + 1]);
  }

  /* f(row and column within the tile, the two neighbours there) */
  template <class F>
  __device__ void for_pairs(F&& f) {
#pragma unroll
    for (int m = 0; m < kM; m++)
#pragma unroll
      for (int j = 0; j < kN; j++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
          f(warp_row() + 16 * m + 8 * half + lane() / 4, warp_column() + 8 * j + lane() % 4 * 2, at.scale * c[m][j][2 * half],
            at.scale * c[m][j][2 * half + 1]);
        }
  }

  /* f(place in shared memory, place in y or dx) for each 16 bytes of the tile that there are, whole rows at a time. */
  template <class F>
  __device__ void for_chunks(F&& f) {
    constexpr int kChunks = kColumns / kChunk;
    const int chunk = threadIdx.x % kChunks;
    if (column + chunk * kChunk >= at.columns) return;
    T* y = static_cast<T*>(at.out) + row * at.ld_out + column + chunk * kChunk;
    for (int r = threadIdx.x / kChunks; r < kRows && row + r < end; r += kThreads / kChunks) {
      f(shared + r * kStagingRow + chunk * 16, reinterpret_cast<uint4*>(y + r * at.ld_out));
    }
  }

  /* y or dx, by way of shared memory, so that what is added to comes and the sum leaves in whole rows. */
  __device__ void store() {
    __syncthreads();
    if (at.accumulate) {
      for_chunks([](uint32_t place, const uint4* y) { store_16(place, *y); });
      __syncthreads();
    }
    for_pairs([&](int r, int along, float first, float second) {
      const uint32_t place = shared + r * kStagingRow + along * 2;
      if (at.accumulate) { /* beyond the tile's rows: whatever the ring left there, which is not stored */
        Pack<T, 2> old;
        *reinterpret_cast<uint32_t*>(&old) = load_4(place);
        first += to_float(old.element[0]);
        second += to_float(old.element[1]);
      }
      store_4(place, pack_pair<T>(first, second));
    });
    __syncthreads();
    for_chunks([](uint32_t place, uint4* y) { *y = load_16(place); });
  }

  __device__ void add_to_dw() {
    float* dw = static_cast<float*>(at.out) + out;
    for_pairs([&](int r, int along, float first, float second) {
      const int64_t i = row + r, j = column + along;
      if (i >= at.rows || j >= at.columns) return;
      if (at.transposed) {
        dw[j * at.ld_out + i] += first;
        dw[(j + 1) * at.ld_out + i] += second;
      } else {
        float2* to = reinterpret_cast<float2*>(dw + i * at.ld_out + j);
        const float2 old = *to;
        *to = make_float2(old.x + first, old.y + second);
      }
    });
  }

  __device__ void run() {
    run_steps(*this, steps, at.stages);
    if constexpr (kDw) {
      add_to_dw();
    } else {
      store();
    }
  }
};

/* Whether this compilation is the one that kTuring is for. */
template <bool kTuring>
__device__ constexpr bool is_for_this_architecture() {
#if defined(__CUDA_ARCH__)
  return (__CUDA_ARCH__ < 800) == kTuring;
#else
  return true;
#endif
}

template <class T, Grouped kForm, bool kThin, bool kTuring>
__global__ void __launch_bounds__(Tile<T, kForm, kThin, kTuring>::kThreads) grouped_kernel(const __grid_constant__ Arguments at) {
  if constexpr (has_code<T>() && is_for_this_architecture<kTuring>()) {
    extern __shared__ __align__(256) uint8_t memory[]; /* an xor of a place must stay within its row */
    Tile<T, kForm, kThin, kTuring> tile(at, shared_address(memory));
    if (tile.find()) tile.run();
  }
}

template <class T, Grouped kForm, bool kThin, bool kTuring>
oribi_status launch(oribi_ctx* ctx, const char* function, Arguments at, int64_t n) {
  using Block = Tile<T, kForm, kThin, kTuring>;
  const auto tiles = [](int64_t size, int64_t each) { return (size + each - 1) / each; };
  const int64_t columns = tiles(at.columns, Block::kColumns), rows = tiles(at.rows, kRows);
  const int64_t slots = kForm == Grouped::kDw ? at.experts * rows : most_row_tiles(n, at.experts, kRows);
  if (slots > INT32_MAX / columns) {
    return fail(ctx, ORIBI_UNSUPPORTED, "%s: %lld rows of %lld columns are more tiles than a launch can have", function,
                static_cast<long long>(n), static_cast<long long>(at.columns));
  }
  at.column_tiles = static_cast<int>(columns);
  at.row_tiles = static_cast<int>(rows);
  at.stages = kTuring ? kStagesOfTuring : most_shared_memory(ctx) >= kSharedForLarge ? kStagesOfLarge : kStages;
  const cudaError_t error = allow_shared_memory<grouped_kernel<T, kForm, kThin, kTuring>>(ctx);
  if (error != cudaSuccess) return cuda_status(ctx, function, error);
  const int bytes = at.stages * Block::kStageBytes > Block::kStagingBytes ? at.stages * Block::kStageBytes : Block::kStagingBytes;
  grouped_kernel<T, kForm, kThin, kTuring><<<static_cast<unsigned>(slots * columns), Block::kThreads, bytes, stream_of(ctx)>>>(at);
  return launch_status(ctx, function);
}

template <class T, bool kTuring>
oribi_status launch_form(oribi_ctx* ctx, const char* function, const Arguments& at, int64_t n, Grouped form) {
  const bool thin = at.columns <= kMostThin;
  switch (form) {
    case Grouped::kForward:
      return thin ? launch<T, Grouped::kForward, true, kTuring>(ctx, function, at, n) : launch<T, Grouped::kForward, false, kTuring>(ctx, function, at, n);
    case Grouped::kDx:
      return thin ? launch<T, Grouped::kDx, true, kTuring>(ctx, function, at, n) : launch<T, Grouped::kDx, false, kTuring>(ctx, function, at, n);
    default:
      return thin ? launch<T, Grouped::kDw, true, kTuring>(ctx, function, at, n) : launch<T, Grouped::kDw, false, kTuring>(ctx, function, at, n);
  }
}

}  // namespace

oribi_status launch_mma(oribi_ctx* ctx, const char* function, const Arguments& at, int64_t n, Grouped form, oribi_dtype t) {
  if (lora_code(ctx) < 80) return launch_form<__half, true>(ctx, function, at, n, form); /* bf16 is not asked for */
  return t == ORIBI_BF16 ? launch_form<__nv_bfloat16, false>(ctx, function, at, n, form) : launch_form<__half, false>(ctx, function, at, n, form);
}

}  // namespace oribi::grouped
