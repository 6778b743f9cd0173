/*
 * g = scale * dy·B and dB += dyᵀ·h in one pass over dy. A unit is kColumns columns of one adapter; a step is 32 tokens of
 * them, a tile that is multiplied twice: by B, whose part of the unit stays in registers, and, transposed, by h. dB is summed
 * in registers over the steps of a block. g is summed over columns only within a tile; each unit leaves its part of g in the
 * workspace, so that the wider a unit the fewer bytes. Each warp holds kWarpColumns columns for dB, and for g 16
 * tokens times twice as many; these slices are added in shared memory one step later, behind the barrier that this step has
 * anyway.
 */
#ifndef ORIBI_CUDA_LORA_G_DB_CUH
#define ORIBI_CUDA_LORA_G_DB_CUH

#include "cuda/lora_split.cuh"

namespace oribi::lora {

struct GDbArguments {
  const void *dy, *b, *h;
  float* slots;   /* [slot][chunk of ranks][kColumns][kRank], for dB */
  float* partials; /* [unit][chunk of ranks][N][kRank], for g */
  void* g;
  float* db;
  int64_t n, ld_y, width, rank, b_rows;
  Split split;
  int chunks, stages, adapters;
  int64_t first_out[4], outs[4];
  int64_t first_unit[5], first_row[4]; /* of each adapter: its units and its rows of b */
  float scale[4];

  __device__ int adapter_of_unit(int64_t unit) const {
    int p = 0;
    while (p + 1 < adapters && unit >= first_unit[p + 1]) p++;
    return p;
  }
  __device__ int adapter_of_row(int64_t row) const {
    int p = 0;
    while (p + 1 < adapters && row >= first_row[p + 1]) p++;
    return p;
  }
};

template <class T, int kRank, int kColumns>
struct GDbPolicy {
  /* 64 columns need 64 registers for dB at rank 32, and as many for B; at rank 64 that is what 32 columns need. */
  static constexpr int kWarpColumns = kRank <= 32 ? 64 : 32, kSliceColumns = 2 * kWarpColumns;
  static constexpr int kTokens = 32, kWarps = kColumns / kWarpColumns, kThreads = 32 * kWarps, kSlices = kWarps / 2;
  static constexpr int kTileBytes = kTokens * kColumns * 2;
  static constexpr int kRowBytes = kRank * 2 + 16, kRowChunks = kRank / kChunk; /* of h; odd in chunks, for the banks */
  static constexpr int kStageBytes = kTileBytes + kTokens * kRowBytes;
  static constexpr int kSumFloats = kSlices * kTokens * kRank; /* of one step; two steps alternate */
  static constexpr int kFromDy = kTokens * kColumns / kChunk / kThreads;
  static constexpr int kRowsApart = kThreads * kChunk / kColumns;
  static constexpr int kChunksOfH = kTokens * kRowChunks, kFromH = (kChunksOfH + kThreads - 1) / kThreads;

  const GDbArguments& at;
  uint32_t shared;
  float* sums; /* [2][kSlices][32][kRank] */
  Transfer<kFromDy + kFromH> transfer;
  uint32_t b[kSliceColumns / 16][kRank / 8][2]; /* this warp's slice of B, as right operands */
  float c[kWarpColumns / 16][kRank / 8][4] = {};
  int64_t unit_of_b = -1;
  Cursor before{-1, 0}; /* the step whose sums are not yet written */
  int turn = 0;

  __device__ GDbPolicy(const GDbArguments& arguments, uint8_t* memory)
      : at(arguments), shared(shared_address(memory)),
        sums(reinterpret_cast<float*>(memory + arguments.stages * kStageBytes)) {}

  static __device__ uint32_t offset(int row, int chunk) { return row * (kColumns * 2) + ((chunk ^ (row & 7)) << 4); }
  __device__ int64_t first_rank() const { return static_cast<int64_t>(blockIdx.y) * kRank; }

  __device__ void fetch(Cursor of, int stage) {
    const int p = at.adapter_of_unit(of.unit);
    const uint32_t tile = shared + stage * kStageBytes;
    const int row = threadIdx.x / (kColumns / kChunk), chunk = threadIdx.x % (kColumns / kChunk);
    const int64_t token = of.step * kTokens, column = (of.unit - at.first_unit[p]) * kColumns + chunk * kChunk;
    const T* dy = static_cast<const T*>(at.dy) + (token + row) * at.ld_y + at.first_out[p] + column;
#pragma unroll
    for (int i = 0; i < kFromDy; i++) {
      const bool inside = column < at.outs[p] && token + row + i * kRowsApart < at.n;
      transfer.template fetch<Keep::kBriefly>(i, tile + offset(row + i * kRowsApart, chunk), dy + i * kRowsApart * at.ld_y, inside);
    }
#pragma unroll
    for (int i = 0; i < kFromH; i++) {
      const int index = threadIdx.x + i * kThreads, of_tile = index / kRowChunks, r = index % kRowChunks * kChunk;
      if (index >= kChunksOfH) break;
      const bool inside = token + of_tile < at.n && first_rank() + r < at.rank;
      transfer.fetch(kFromDy + i, tile + kTileBytes + of_tile * kRowBytes + r * 2,
                     static_cast<const T*>(at.h) + (token + of_tile) * at.width + p * at.rank + first_rank() + r, inside);
    }
  }

  __device__ void deposit(int stage) {
    const uint32_t tile = shared + stage * kStageBytes;
    const int row = threadIdx.x / (kColumns / kChunk), chunk = threadIdx.x % (kColumns / kChunk);
#pragma unroll
    for (int i = 0; i < kFromDy; i++) transfer.deposit(i, tile + offset(row + i * kRowsApart, chunk));
#pragma unroll
    for (int i = 0; i < kFromH; i++) {
      const int index = threadIdx.x + i * kThreads;
      if (index >= kChunksOfH) break;
      transfer.deposit(kFromDy + i, tile + kTileBytes + index / kRowChunks * kRowBytes + index % kRowChunks * 16);
    }
  }

  /* B's fragments for this warp's slice of a unit, element by element: once a unit, and copies for later steps are under way. */
  __device__ void read_b(int64_t unit) {
    const int p = at.adapter_of_unit(unit), lane = threadIdx.x % 32, slice = threadIdx.x / 64;
    const int64_t column = (unit - at.first_unit[p]) * kColumns + slice * kSliceColumns + 2 * (lane % 4);
    const uint16_t* rows = static_cast<const uint16_t*>(at.b) + (at.first_row[p] + column) * at.rank;
#pragma unroll
    for (int k = 0; k < kSliceColumns / 16; k++)
#pragma unroll
      for (int j = 0; j < kRank / 8; j++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
          const int64_t row = 16 * k + 8 * half, r = first_rank() + 8 * j + lane / 4;
          const bool inside = column + row < at.outs[p] && r < at.rank;
          const uint32_t low = inside ? rows[row * at.rank + r] : 0;
          const uint32_t high = inside && column + row + 1 < at.outs[p] ? rows[(row + 1) * at.rank + r] : 0;
          b[k][j][half] = low | high << 16;
        }
    unit_of_b = unit;
  }

  /* The slices of the step before, added in order, to the workspace. */
  __device__ void write_sums() {
    const float* from = sums + (1 - turn) * kSumFloats;
    float* to = at.partials + ((before.unit * at.chunks + blockIdx.y) * at.n + before.step * kTokens) * kRank;
    for (int i = threadIdx.x * 2; i < kTokens * kRank; i += kThreads * 2) {
      float2 sum = make_float2(0, 0);
#pragma unroll
      for (int slice = 0; slice < kSlices; slice++) {
        const float2 part = *reinterpret_cast<const float2*>(from + slice * kTokens * kRank + i);
        sum.x += part.x;
        sum.y += part.y;
      }
      if (before.step * kTokens + i / kRank < at.n) *reinterpret_cast<float2*>(to + i) = sum;
    }
  }

  __device__ void compute(Cursor of, int stage) {
    const uint32_t tile = shared + stage * kStageBytes;
    if (before.unit >= 0) write_sums();
    if (of.unit != unit_of_b) read_b(of.unit);
    multiply_by_b(tile);
    multiply_by_h(tile);
    before = of;
    turn = 1 - turn;
  }

  __device__ void multiply_by_b(uint32_t tile) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, half = warp % 2, slice = warp / 2;
    const uint32_t dy = tile + offset(16 * half + (lane & 15), slice * (kSliceColumns / kChunk) + (lane >> 4));
    float sum[kRank / 8][4] = {};
#pragma unroll
    for (int k = 0; k < kSliceColumns / 16; k++) {
      uint32_t left[4];
      load_matrices(left, (dy ^ ((k & 3) << 5)) + ((k >> 2) << 7));
#pragma unroll
      for (int j = 0; j < kRank / 8; j++) mma<T>(sum[j], left, b[k][j][0], b[k][j][1]);
    }
    float* to = sums + turn * kSumFloats + (slice * kTokens + 16 * half + lane / 4) * kRank + 2 * (lane % 4);
#pragma unroll
    for (int j = 0; j < kRank / 8; j++) {
      *reinterpret_cast<float2*>(to + 8 * j) = make_float2(sum[j][0], sum[j][1]);
      *reinterpret_cast<float2*>(to + 8 * j + 8 * kRank) = make_float2(sum[j][2], sum[j][3]);
    }
  }

  __device__ void multiply_by_h(uint32_t tile) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t dy = tile + offset((lane & 7) + ((lane >> 4) << 3), warp * (kWarpColumns / kChunk) + ((lane >> 3) & 1));
    const uint32_t h = tile + kTileBytes + (lane & 15) * kRowBytes + (lane >> 4) * 16;
#pragma unroll
    for (int k = 0; k < kTokens / 16; k++) {
      uint32_t right[kRank / 16][4];
#pragma unroll
      for (int j = 0; j < kRank / 16; j++) load_matrices_transposed(right[j], h + k * 16 * kRowBytes + j * 32);
#pragma unroll
      for (int m = 0; m < kWarpColumns / 16; m++) {
        uint32_t left[4];
        load_matrices_transposed(left, (dy ^ (m << 5)) + k * 16 * kColumns * 2);
#pragma unroll
        for (int j = 0; j < kRank / 8; j++) mma<T>(c[m][j], left, right[j / 2][j % 2 * 2], right[j / 2][j % 2 * 2 + 1]);
      }
    }
  }

  __device__ void flush(int64_t unit) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int64_t slot = blockIdx.x + unit;
    float* to = at.slots + ((slot * at.chunks + blockIdx.y) * kColumns + kWarpColumns * warp + lane / 4) * kRank + 2 * (lane % 4);
#pragma unroll
    for (int m = 0; m < kWarpColumns / 16; m++)
#pragma unroll
      for (int j = 0; j < kRank / 8; j++) {
        *reinterpret_cast<float2*>(to + 16 * m * kRank + 8 * j) = make_float2(c[m][j][0], c[m][j][1]);
        *reinterpret_cast<float2*>(to + (16 * m + 8) * kRank + 8 * j) = make_float2(c[m][j][2], c[m][j][3]);
        c[m][j][0] = c[m][j][1] = c[m][j][2] = c[m][j][3] = 0;
      }
  }

  __device__ void finish() {
    __syncthreads();
    if (before.unit >= 0) write_sums();
  }
};

template <class T, int kRank, int kColumns>
__global__ void __launch_bounds__(GDbPolicy<T, kRank, kColumns>::kThreads) g_db_kernel(const __grid_constant__ GDbArguments at) {
  if constexpr (has_code<T>()) {
    extern __shared__ __align__(1024) uint8_t memory[];
    GDbPolicy<T, kRank, kColumns> policy(at, memory);
    run_share(policy, at.split, at.stages);
    policy.finish();
  }
}

/* A thread adds the parts of four neighbours of g, unit after unit. */
template <class T, int kRank, int kColumns>
__device__ void sum_g(const GDbArguments& at, int64_t i) {
  const int64_t token = i / at.width, column = i % at.width, r = column % at.rank;
  const int p = static_cast<int>(column / at.rank);
  const int64_t unit_size = static_cast<int64_t>(at.chunks) * at.n * kRank;
  const float* element = at.partials + at.first_unit[p] * unit_size + (r / kRank * at.n + token) * kRank + r % kRank;
  const float4 sum = sum_of_slots(element, at.first_unit[p + 1] - at.first_unit[p], unit_size);
  const float scale = at.scale[p];
  const uint2 packed = make_uint2(pack_pair<T>(sum.x * scale, sum.y * scale), pack_pair<T>(sum.z * scale, sum.w * scale));
  *reinterpret_cast<uint2*>(static_cast<T*>(at.g) + i) = packed;
}

template <int kRank, int kColumns>
__device__ void sum_db(const GDbArguments& at, int64_t i) {
  const int64_t row = i / at.rank, r = i % at.rank;
  const int p = at.adapter_of_row(row);
  const int64_t column = row - at.first_row[p], unit = at.first_unit[p] + column / kColumns;
  const int64_t first = at.split.first_slot(unit), slot_size = static_cast<int64_t>(at.chunks) * kColumns * kRank;
  const float* element = at.slots + first * slot_size + (r / kRank * kColumns + column % kColumns) * kRank + r % kRank;
  const float4 sum = sum_of_slots(element, at.split.last_slot(unit) - first + 1, slot_size);
  float4* to = reinterpret_cast<float4*>(at.db + i);
  const float4 before = *to;
  *to = make_float4(before.x + sum.x, before.y + sum.y, before.z + sum.z, before.w + sum.w);
}

template <class T, int kRank, int kColumns>
__global__ void __launch_bounds__(256) g_db_sum_kernel(const __grid_constant__ GDbArguments at) {
  wait_for_previous();
  const int64_t of_g = at.n * at.width, of_db = at.b_rows * at.rank;
  const int64_t i = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * 4;
  if (i < of_g) {
    sum_g<T, kRank, kColumns>(at, i);
  } else if (i < of_g + of_db) {
    sum_db<kRank, kColumns>(at, i - of_g);
  }
}

}  // namespace oribi::lora
#endif
