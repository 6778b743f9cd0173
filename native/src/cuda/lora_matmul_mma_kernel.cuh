/*
 * One tile of 128 x 128 of the LoRA product, a step of 32 along the inner dimension at a time, through a ring of stages.
 *
 * After the steps of the weight the same loop runs over those of the adapters that the tile's columns touch: h is the left
 * operand then and B the right one, zeros where a column is not the adapter's. So the adapter costs rank / inner more
 * products, and y is rounded once.
 *
 * In shared memory a row of 32 elements is 4 chunks of 16 bytes, and chunk c of row r lies at c ^ (r/2 % 4); a row of 128 has
 * 16, at c ^ (r % 8). Either way the eight rows of one ldmatrix phase are in different banks. The weight of the backward
 * pass lies with the summed index outermost, and ldmatrix transposes it. NF4 codes pass through registers, like every copy
 * below sm_80, and are decoded after the arithmetic of the step in between, behind which their latency hides.
 */
#ifndef ORIBI_CUDA_LORA_MATMUL_MMA_KERNEL_CUH
#define ORIBI_CUDA_LORA_MATMUL_MMA_KERNEL_CUH

#include "cuda/fragment_loop.cuh"
#include "cuda/lora_nf4.cuh"

namespace oribi::lora {

/* An adapter as a part of y's columns: columns first to first + size, depth of h and b. In the backward pass there is one,
   of all R and all columns. */
struct ProductPart {
  const void *h, *b;
  int64_t first, size;
};

struct ProductArguments {
  void* y;
  const void *x, *w;
  const uint8_t *codes, *absmax; /* of NF4, where w is NULL */
  const float *absmax2, *offset;
  int64_t n, columns, inner;      /* of y, and summed over */
  int64_t ld_x, ld_y, ld_w, ld_h, ld_b;
  int64_t depth; /* of each part */
  int parts, row_tiles, column_tiles, stages;
  ProductPart part[4];
};

constexpr int kTile = 128, kDepth = 32;
constexpr int kTileBytes = kTile * kDepth * 2, kStageBytes = 2 * kTileBytes;
constexpr int kRowsTogether = 8; /* of tiles; so many use a column of the weight while it is in the cache */
constexpr int kStagingRow = kTile * 2 + 16; /* bytes of a row of y on its way out: an odd number of chunks, for the banks */
constexpr int kStagingBytes = kTile * kStagingRow;

/* Each warp holds 64 rows and 128 / kWarpsAcross columns. Four warps of 64 x 64 have the most arithmetic for what they read
   from shared memory, but need 230 registers a thread; below sm_80, where copies pass through registers too, eight of 64 x 32. */
template <class T, bool kDx, bool kNf4, int kWarpsAcross>
struct Product {
  static constexpr int kThreads = 64 * kWarpsAcross, kWarpColumns = kTile / kWarpsAcross, kFragments = kWarpColumns / 8;
  static constexpr int kCopies = kTile * kDepth / kChunk / kThreads; /* of each operand by a thread */
  static constexpr int kCodes = kTile * kDepth / kThreads;           /* NF4 weights decoded by a thread */

  struct Fragments {
    uint32_t x[4][4], w[kFragments / 2][4];
  };

  const ProductArguments& at;
  uint32_t shared;
  int64_t row, column;   /* of the tile */
  int64_t main_steps, steps;
  int part_steps, first_part;
  Transfer<kCopies> left;
  Transfer<kCopies> right;
  Pack<uint32_t, kCodes / 8> codes;
  float scale;
  bool decoding; /* whether the step that was fetched last has NF4 codes */
  float c[4][kFragments][4] = {};

  static __device__ uint32_t narrow(int r, int chunk) { return r * (kDepth * 2) + ((chunk ^ ((r >> 1) & 3)) << 4); }
  static __device__ uint32_t wide(int r, int chunk) { return r * (kTile * 2) + ((chunk ^ (r & 7)) << 4); }

  __device__ Product(const ProductArguments& arguments, uint32_t memory) : at(arguments), shared(memory) {
    const int group = kRowsTogether * at.column_tiles, first_row = blockIdx.x / group * kRowsTogether;
    const int rows = min(kRowsTogether, at.row_tiles - first_row), in_group = blockIdx.x % group;
    row = static_cast<int64_t>(first_row + in_group % rows) * kTile;
    column = static_cast<int64_t>(in_group / rows) * kTile;
    main_steps = (at.inner + kDepth - 1) / kDepth;
    part_steps = static_cast<int>((at.depth + kDepth - 1) / kDepth);
    first_part = 0;
    while (first_part < at.parts && at.part[first_part].first + at.part[first_part].size <= column) first_part++;
    int end = first_part;
    while (end < at.parts && at.part[end].first < column + kTile) end++;
    steps = main_steps + static_cast<int64_t>(end - first_part) * part_steps;
  }

  /* Rows of a matrix with the summed index innermost: x, h, and in the forward pass W and B. */
  __device__ void fetch_rows(Transfer<kCopies>& to, uint32_t tile, const void* from, int64_t ld, int64_t first, int64_t begin,
                             int64_t end, int64_t k, int64_t inner) {
    const int r = threadIdx.x / 4, chunk = threadIdx.x % 4;
    constexpr int kApart = kThreads / 4;
    const T* p = static_cast<const T*>(from) + (first + r) * ld + k + chunk * kChunk;
    const bool inside = k + chunk * kChunk < inner;
#pragma unroll
    for (int i = 0; i < kCopies; i++) {
      const int64_t here = first + r + i * kApart;
      to.fetch(i, tile + narrow(r, chunk) + i * kApart * kDepth * 2, p + i * kApart * ld, inside && here >= begin && here < end);
    }
  }

  /* Rows of a matrix with the summed index outermost: in the backward pass W and A. */
  __device__ void fetch_columns(Transfer<kCopies>& to, uint32_t tile, const void* from, int64_t ld, int64_t k, int64_t inner) {
    const int r = threadIdx.x / 16, chunk = threadIdx.x % 16;
    constexpr int kApart = kThreads / 16;
    const T* p = static_cast<const T*>(from) + (k + r) * ld + column + chunk * kChunk;
    const bool inside = column + chunk * kChunk < at.columns;
#pragma unroll
    for (int i = 0; i < kCopies; i++) {
      to.fetch(i, tile + wide(r + i * kApart, chunk), p + i * kApart * ld, inside && k + r + i * kApart < inner);
    }
  }

  /* kCodes neighbours in a row of W, and what scales them: they are within one block of 64. */
  __device__ void fetch_codes(int64_t k) {
    constexpr int kAcross = (kDx ? kTile : kDepth) / kCodes; /* threads a row */
    const int r = threadIdx.x / kAcross, begin = threadIdx.x % kAcross * kCodes;
    const int64_t w_row = kDx ? k + r : column + r, w_column = (kDx ? column : k) + begin;
    const bool inside = kDx ? w_row < at.inner && w_column < at.columns : w_row < at.columns && w_column < at.inner;
    scale = 0; /* whatever the codes, zeros */
    codes = {};
    if (!inside) return;
    const int64_t element = w_row * at.ld_w + w_column;
    codes = *reinterpret_cast<const Pack<uint32_t, kCodes / 8>*>(at.codes + element / 2);
    const float mapped = kAbsmaxMap.value[__ldg(at.absmax + element / kNf4Block)];
    scale = __fadd_rn(__fmul_rn(mapped, __ldg(at.absmax2 + element / kNf4Block / kNf4Group)), __ldg(at.offset));
  }

  __device__ void decode_codes(uint32_t tile) {
    constexpr int kAcross = (kDx ? kTile : kDepth) / kCodes;
    const int r = threadIdx.x / kAcross, begin = threadIdx.x % kAcross * kCodes;
    const BlockValues<T> values(scale);
#pragma unroll
    for (int i = 0; i < kCodes / 8; i++) {
      const int chunk = begin / kChunk + i;
      store_16(tile + (kDx ? wide(r, chunk) : narrow(r, chunk)), values.decode(codes.element[i]));
    }
  }

  __device__ void fetch(int64_t step, int stage) {
    const uint32_t tile = shared + stage * kStageBytes;
    decoding = kNf4 && step < main_steps;
    if (step < main_steps) {
      const int64_t k = step * kDepth;
      fetch_rows(left, tile, at.x, at.ld_x, row, 0, at.n, k, at.inner);
      if (kNf4) {
        fetch_codes(k);
      } else if (kDx) {
        fetch_columns(right, tile + kTileBytes, at.w, at.ld_w, k, at.inner);
      } else {
        fetch_rows(right, tile + kTileBytes, at.w, at.ld_w, column, 0, at.columns, k, at.inner);
      }
      return;
    }
    const int beyond = static_cast<int>(step - main_steps);
    const ProductPart& part = at.part[first_part + beyond / part_steps];
    const int64_t k = static_cast<int64_t>(beyond % part_steps) * kDepth;
    fetch_rows(left, tile, part.h, at.ld_h, row, 0, at.n, k, at.depth);
    if (kDx) {
      fetch_columns(right, tile + kTileBytes, part.b, at.ld_b, k, at.depth);
    } else {
      fetch_rows(right, tile + kTileBytes, part.b, at.ld_b, column - part.first, 0, part.size, k, at.depth);
    }
  }

  __device__ void deposit(int stage) {
    const uint32_t tile = shared + stage * kStageBytes;
    const int r = threadIdx.x / 4, chunk = threadIdx.x % 4, r16 = threadIdx.x / 16, chunk16 = threadIdx.x % 16;
#pragma unroll
    for (int i = 0; i < kCopies; i++) {
      left.deposit(i, tile + narrow(r, chunk) + i * (kThreads / 4) * kDepth * 2);
      if (decoding) continue;
      right.deposit(i, tile + kTileBytes + (kDx ? wide(r16 + i * (kThreads / 16), chunk16)
                                                : narrow(r, chunk) + i * (kThreads / 4) * kDepth * 2));
    }
    if (decoding) decode_codes(tile + kTileBytes);
  }

  /* The fragments of 16 of a stage's 32 elements. */
  __device__ void load(Fragments& f, int stage, int k) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warp_row = warp % 2 * 64, warp_column = warp / 2 * kWarpColumns;
    const uint32_t tile = shared + stage * kStageBytes;
    const uint32_t a = tile + narrow(warp_row + (lane & 15), lane >> 4);
    const uint32_t b = tile + kTileBytes + (kDx ? wide(lane & 15, warp_column / kChunk + (lane >> 4))
                                                : narrow(warp_column + (lane & 7) + ((lane >> 4) << 3), (lane >> 3) & 1));
#pragma unroll
    for (int m = 0; m < 4; m++) load_matrices(f.x[m], (a ^ (k << 5)) + m * 16 * kDepth * 2);
#pragma unroll
    for (int j = 0; j < kFragments / 2; j++) {
      if (kDx) {
        load_matrices_transposed(f.w[j], (b ^ ((j & 3) << 5)) + k * 16 * kTile * 2);
      } else {
        load_matrices(f.w[j], (b ^ (k << 5)) + j * 16 * kDepth * 2);
      }
    }
  }

  __device__ void multiply(const Fragments& f) {
#pragma unroll
    for (int m = 0; m < 4; m++)
#pragma unroll
      for (int j = 0; j < kFragments; j++) mma<T>(c[m][j], f.x[m], f.w[j / 2][j % 2 * 2], f.w[j / 2][j % 2 * 2 + 1]);
  }

  /* y, by way of shared memory, so that it leaves in whole rows of 256 bytes. */
  __device__ void store() {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warp_row = warp % 2 * 64, warp_column = warp / 2 * kWarpColumns;
    __syncthreads();
#pragma unroll
    for (int m = 0; m < 4; m++)
#pragma unroll
      for (int j = 0; j < kFragments; j++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
          const uint32_t to = (warp_row + 16 * m + 8 * half + lane / 4) * kStagingRow + (warp_column + 8 * j + lane % 4 * 2) * 2;
          store_4(shared + to, pack_pair<T>(c[m][j][2 * half], c[m][j][2 * half + 1]));
        }
    __syncthreads();
    const int chunk = threadIdx.x % 16;
    if (column + chunk * kChunk >= at.columns) return;
    for (int r = threadIdx.x / 16; r < kTile && row + r < at.n; r += kThreads / 16) {
      T* to = static_cast<T*>(at.y) + (row + r) * at.ld_y + column + chunk * kChunk;
      *reinterpret_cast<uint4*>(to) = load_16(shared + r * kStagingRow + chunk * 16);
    }
  }

  __device__ void run() {
    run_steps(*this, steps, at.stages);
    store();
  }
};

/* Whether this compilation is the one that kWarpsAcross is for. */
template <int kWarpsAcross>
__device__ constexpr bool is_for_this_architecture() {
#if defined(__CUDA_ARCH__)
  return (__CUDA_ARCH__ >= 800) == (kWarpsAcross == 2);
#else
  return true;
#endif
}

template <class T, bool kDx, bool kNf4, int kWarpsAcross>
__global__ void __launch_bounds__(64 * kWarpsAcross) product_kernel(const __grid_constant__ ProductArguments at) {
  if constexpr (has_code<T>() && is_for_this_architecture<kWarpsAcross>()) {
    extern __shared__ __align__(1024) uint8_t memory[];
    Product<T, kDx, kNf4, kWarpsAcross>(at, shared_address(memory)).run();
  }
}

}  // namespace oribi::lora
#endif
