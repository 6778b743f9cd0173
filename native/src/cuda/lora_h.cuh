/*
 * h = scale * x·Aᵀ. A unit is 64 tokens; a step is 64 elements of their rows and of the rows of A. Four warps hold 16
 * tokens each and all kWidth columns of h, so that x is read once whatever the number of adapters.
 */
#ifndef ORIBI_CUDA_LORA_H_CUH
#define ORIBI_CUDA_LORA_H_CUH

#include "cuda/lora_split.cuh"

namespace oribi::lora {

struct HArguments {
  const void *x, *a;
  float* partials; /* [slot][chunk of columns][64][kWidth] */
  void* h;
  int64_t n, in, ld_x, width, rank;
  Split split;
  int chunks, stages;
  float scale[4];
};

template <class T, int kWidth>
struct HPolicy {
  static constexpr int kThreads = 128, kTokens = 64, kDepth = 64;
  static constexpr int kTileBytes = kTokens * kDepth * 2, kStageBytes = kTileBytes + kWidth * kDepth * 2;
  static constexpr int kFromX = kTokens * kDepth / kChunk / kThreads, kFromA = kWidth * kDepth / kChunk / kThreads;
  static constexpr int kRowsApart = kThreads * kChunk / kDepth; /* rows between a thread's copies */

  const HArguments& at;
  uint32_t shared;
  Transfer<kFromX + kFromA> transfer;
  float c[kWidth / 8][4] = {};

  __device__ HPolicy(const HArguments& arguments, uint32_t memory) : at(arguments), shared(memory) {}

  /* Chunk c of row r lies at c ^ (r % 8): the eight rows of one ldmatrix phase are in different banks. */
  static __device__ uint32_t offset(int row, int chunk) { return row * (kDepth * 2) + ((chunk ^ (row & 7)) << 4); }

  __device__ void fetch(Cursor of, int stage) {
    const int row = threadIdx.x / (kDepth / kChunk), chunk = threadIdx.x % (kDepth / kChunk);
    const uint32_t to = shared + stage * kStageBytes + offset(row, chunk);
    const int64_t token = of.unit * kTokens + row, k = of.step * kDepth + chunk * kChunk;
    const T* x = static_cast<const T*>(at.x) + token * at.ld_x + k;
#pragma unroll
    for (int i = 0; i < kFromX; i++) {
      const bool inside = k < at.in && token + i * kRowsApart < at.n;
      transfer.fetch(i, to + i * kRowsApart * kDepth * 2, x + i * kRowsApart * at.ld_x, inside);
    }
    const int64_t column = static_cast<int64_t>(blockIdx.y) * kWidth + row;
    const T* a = static_cast<const T*>(at.a) + column * at.in + k;
#pragma unroll
    for (int i = 0; i < kFromA; i++) {
      const bool inside = k < at.in && column + i * kRowsApart < at.width;
      transfer.fetch(kFromX + i, to + kTileBytes + i * kRowsApart * kDepth * 2, a + i * kRowsApart * at.in, inside);
    }
  }

  __device__ void deposit(int stage) {
    const uint32_t to = shared + stage * kStageBytes + offset(threadIdx.x / (kDepth / kChunk), threadIdx.x % (kDepth / kChunk));
#pragma unroll
    for (int i = 0; i < kFromX; i++) transfer.deposit(i, to + i * kRowsApart * kDepth * 2);
#pragma unroll
    for (int i = 0; i < kFromA; i++) transfer.deposit(kFromX + i, to + kTileBytes + i * kRowsApart * kDepth * 2);
  }

  __device__ void compute(Cursor, int stage) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t x = shared + stage * kStageBytes + offset(16 * warp + (lane & 15), lane >> 4);
    const uint32_t a = shared + stage * kStageBytes + kTileBytes + offset((lane & 7) + ((lane >> 4) << 3), (lane >> 3) & 1);
#pragma unroll
    for (int k = 0; k < kDepth / 16; k++) {
      uint32_t left[4], right[4];
      load_matrices(left, x ^ (k << 5));
#pragma unroll
      for (int j = 0; j < kWidth / 16; j++) {
        load_matrices(right, (a ^ (k << 5)) + j * 16 * kDepth * 2);
        mma<T>(c[2 * j], left, right[0], right[1]);
        mma<T>(c[2 * j + 1], left, right[2], right[3]);
      }
    }
  }

  __device__ void flush(int64_t unit) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int64_t slot = blockIdx.x + unit;
    float* to = at.partials + ((slot * at.chunks + blockIdx.y) * kTokens + 16 * warp + lane / 4) * kWidth + 2 * (lane % 4);
#pragma unroll
    for (int j = 0; j < kWidth / 8; j++) {
      *reinterpret_cast<float2*>(to + 8 * j) = make_float2(c[j][0], c[j][1]);
      *reinterpret_cast<float2*>(to + 8 * j + 8 * kWidth) = make_float2(c[j][2], c[j][3]);
      c[j][0] = c[j][1] = c[j][2] = c[j][3] = 0;
    }
  }
};

template <class T, int kWidth>
__global__ void __launch_bounds__(128) h_kernel(const __grid_constant__ HArguments at) {
  if constexpr (has_code<T>()) {
    extern __shared__ __align__(1024) uint8_t memory[];
    HPolicy<T, kWidth> policy(at, shared_address(memory));
    run_share(policy, at.split, at.stages);
  }
}

/* A thread adds the slots of four neighbours of h. */
template <class T, int kWidth>
__global__ void __launch_bounds__(256) h_sum_kernel(const __grid_constant__ HArguments at) {
  wait_for_previous();
  constexpr int kTokens = HPolicy<T, kWidth>::kTokens;
  const int64_t i = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * 4;
  const int64_t token = i / at.width, column = i % at.width;
  if (token >= at.n) return;
  const int64_t unit = token / kTokens, first = at.split.first_slot(unit);
  const int64_t slot_size = static_cast<int64_t>(at.chunks) * kTokens * kWidth;
  const float* element = at.partials + first * slot_size + (column / kWidth * kTokens + token % kTokens) * kWidth + column % kWidth;
  const float4 sum = sum_of_slots(element, at.split.last_slot(unit) - first + 1, slot_size);
  const float scale = at.scale[column / at.rank];
  const uint2 packed = make_uint2(pack_pair<T>(sum.x * scale, sum.y * scale), pack_pair<T>(sum.z * scale, sum.w * scale));
  *reinterpret_cast<uint2*>(static_cast<T*>(at.h) + i) = packed;
}

}  // namespace oribi::lora
#endif
