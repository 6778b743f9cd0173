/*
 * dA += gᵀ·x. A unit is 128 columns of dA; a step is 32 tokens of those columns of x and of g. Four warps hold 32 columns
 * each and all kWidth rows of dA, so that x is read once. Both operands lie with the summed index outermost: ldmatrix
 * transposes them.
 */
#ifndef ORIBI_CUDA_LORA_DA_CUH
#define ORIBI_CUDA_LORA_DA_CUH

#include "cuda/lora_split.cuh"

namespace oribi::lora {

struct DaArguments {
  const void *x, *g;
  float* partials; /* [slot][chunk of rows][kWidth][128] */
  float* da;
  int64_t n, in, ld_x, width;
  Split split;
  int chunks, stages;
};

template <class T, int kWidth>
struct DaPolicy {
  static constexpr int kThreads = 128, kTokens = 32, kColumns = 128;
  static constexpr int kTileBytes = kTokens * kColumns * 2;
  /* A row of g takes an odd number of 16-byte chunks, so that eight rows are in different banks. */
  static constexpr int kRowBytes = kWidth * 2 + 16, kRowChunks = kWidth / kChunk;
  static constexpr int kStageBytes = kTileBytes + kTokens * kRowBytes;
  static constexpr int kFromX = kTokens * kColumns / kChunk / kThreads;
  static constexpr int kChunksOfG = kTokens * kRowChunks, kFromG = (kChunksOfG + kThreads - 1) / kThreads;
  static constexpr int kRowsApart = kThreads * kChunk / kColumns;

  const DaArguments& at;
  uint32_t shared;
  Transfer<kFromX + kFromG> transfer;
  float c[kWidth / 16][4][4] = {};

  __device__ DaPolicy(const DaArguments& arguments, uint32_t memory) : at(arguments), shared(memory) {}

  static __device__ uint32_t offset(int row, int chunk) { return row * (kColumns * 2) + ((chunk ^ (row & 7)) << 4); }

  __device__ void fetch(Cursor of, int stage) {
    const uint32_t tile = shared + stage * kStageBytes;
    const int row = threadIdx.x / (kColumns / kChunk), chunk = threadIdx.x % (kColumns / kChunk);
    const int64_t token = of.step * kTokens, column = of.unit * kColumns + chunk * kChunk;
    const T* x = static_cast<const T*>(at.x) + (token + row) * at.ld_x + column;
#pragma unroll
    for (int i = 0; i < kFromX; i++) {
      const bool inside = column < at.in && token + row + i * kRowsApart < at.n;
      transfer.fetch(i, tile + offset(row, chunk) + i * kRowsApart * kColumns * 2, x + i * kRowsApart * at.ld_x, inside);
    }
    const int64_t first = static_cast<int64_t>(blockIdx.y) * kWidth;
#pragma unroll
    for (int i = 0; i < kFromG; i++) {
      const int index = threadIdx.x + i * kThreads, r = index % kRowChunks * kChunk, of_tile = index / kRowChunks;
      if (index >= kChunksOfG) break;
      const bool inside = token + of_tile < at.n && first + r < at.width;
      transfer.fetch(kFromX + i, tile + kTileBytes + of_tile * kRowBytes + r * 2,
                     static_cast<const T*>(at.g) + (token + of_tile) * at.width + first + r, inside);
    }
  }

  __device__ void deposit(int stage) {
    const uint32_t tile = shared + stage * kStageBytes;
    const uint32_t to = tile + offset(threadIdx.x / (kColumns / kChunk), threadIdx.x % (kColumns / kChunk));
#pragma unroll
    for (int i = 0; i < kFromX; i++) transfer.deposit(i, to + i * kRowsApart * kColumns * 2);
#pragma unroll
    for (int i = 0; i < kFromG; i++) {
      const int index = threadIdx.x + i * kThreads;
      if (index >= kChunksOfG) break;
      transfer.deposit(kFromX + i, tile + kTileBytes + index / kRowChunks * kRowBytes + index % kRowChunks * 16);
    }
  }

  __device__ void compute(Cursor, int stage) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t tile = shared + stage * kStageBytes;
    const uint32_t x = tile + offset(lane & 15, 4 * warp + (lane >> 4));
    const uint32_t g = tile + kTileBytes + ((lane & 7) + ((lane >> 4) << 3)) * kRowBytes + ((lane >> 3) & 1) * 16;
#pragma unroll
    for (int k = 0; k < kTokens / 16; k++) {
      uint32_t right[2][4], left[4];
      load_matrices_transposed(right[0], x + k * 16 * kColumns * 2);
      load_matrices_transposed(right[1], (x ^ 32) + k * 16 * kColumns * 2);
#pragma unroll
      for (int m = 0; m < kWidth / 16; m++) {
        load_matrices_transposed(left, g + k * 16 * kRowBytes + m * 32);
#pragma unroll
        for (int j = 0; j < 4; j++) mma<T>(c[m][j], left, right[j / 2][j % 2 * 2], right[j / 2][j % 2 * 2 + 1]);
      }
    }
  }

  __device__ void flush(int64_t unit) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int64_t slot = blockIdx.x + unit;
    float* to = at.partials + ((slot * at.chunks + blockIdx.y) * kWidth + lane / 4) * kColumns + 32 * warp + 2 * (lane % 4);
#pragma unroll
    for (int m = 0; m < kWidth / 16; m++)
#pragma unroll
      for (int j = 0; j < 4; j++) {
        *reinterpret_cast<float2*>(to + 16 * m * kColumns + 8 * j) = make_float2(c[m][j][0], c[m][j][1]);
        *reinterpret_cast<float2*>(to + (16 * m + 8) * kColumns + 8 * j) = make_float2(c[m][j][2], c[m][j][3]);
        c[m][j][0] = c[m][j][1] = c[m][j][2] = c[m][j][3] = 0;
      }
  }
};

template <class T, int kWidth>
__global__ void __launch_bounds__(128) da_kernel(const __grid_constant__ DaArguments at) {
  if constexpr (has_code<T>()) {
    extern __shared__ __align__(1024) uint8_t memory[];
    DaPolicy<T, kWidth> policy(at, shared_address(memory));
    run_share(policy, at.split, at.stages);
  }
}

/* A thread adds the slots of four neighbours of dA. */
template <int kWidth>
__global__ void __launch_bounds__(256) da_sum_kernel(const __grid_constant__ DaArguments at) {
  wait_for_previous();
  constexpr int kColumns = DaPolicy<__half, kWidth>::kColumns;
  const int64_t i = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * 4;
  const int64_t row = i / at.in, column = i % at.in;
  if (row >= at.width) return;
  const int64_t unit = column / kColumns, first = at.split.first_slot(unit);
  const int64_t slot_size = static_cast<int64_t>(at.chunks) * kWidth * kColumns;
  const float4 sum = sum_of_slots(at.partials + first * slot_size + row * kColumns + column % kColumns,
                                  at.split.last_slot(unit) - first + 1, slot_size);
  float4* to = reinterpret_cast<float4*>(at.da + i);
  const float4 before = *to;
  *to = make_float4(before.x + sum.x, before.y + sum.y, before.z + sum.z, before.w + sum.w);
}

}  // namespace oribi::lora
#endif
