/*
 * What the kernels that memory bounds have in common: whether 16-byte accesses are possible, grid sizes, and a kernel that
 * applies an operation to every pack of elements of plain arrays.
 */
#ifndef ORIBI_CUDA_ELEMENTWISE_CUH
#define ORIBI_CUDA_ELEMENTWISE_CUH

#include <initializer_list>

#include "cuda/context.cuh"
#include "cuda/vector.cuh"

namespace oribi {

/* The bytes of a wide access, and what pointers must be multiples of to allow it. */
constexpr int kAccess = 16;

/* oribi.h promises aligned arrays; a part of one, as a caller may pass with a row stride, can begin anywhere. */
inline bool aligned(std::initializer_list<const void*> pointers, uintptr_t bytes = kAccess) {
  uintptr_t all = 0;
  for (const void* p : pointers) all |= reinterpret_cast<uintptr_t>(p);
  return all % bytes == 0;
}

inline int64_t divide_up(int64_t count, int64_t by) { return (count + by - 1) / by; }

/* A grid's first dimension holds 2^31 - 1 blocks. */
inline bool fits_grid(int64_t blocks) { return blocks <= INT32_MAX; }

inline oribi_status too_large(oribi_ctx* ctx, const char* function, int64_t blocks) {
  return fail(ctx, ORIBI_UNSUPPORTED, "%s: the arrays need %lld blocks, a GPU's grid has at most 2147483647", function,
              static_cast<long long>(blocks));
}

/* n / divisor for n < 2^31 by a multiplication and a shift, the factor made on the host (Granlund and Montgomery 1994): a
   division by a number that the compiler does not know takes some twenty instructions. */
struct Divider {
  uint32_t divisor, factor, shift;

  explicit Divider(int64_t by) : divisor(static_cast<uint32_t>(by)), shift(0) {
    while ((uint64_t{1} << shift) < divisor) shift++;
    factor = static_cast<uint32_t>((((uint64_t{1} << shift) - divisor) << 32) / divisor + 1);
  }
  __device__ uint32_t quotient(uint32_t n) const { return (__umulhi(n, factor) + n) >> shift; }
};

/* A thread has four accesses in flight: with 2048 threads a multiprocessor holds 128 KB, four times what hides the latency
   of an H100's memory; fewer blocks then also start sooner. */
constexpr int kMapThreads = 256, kMapUnroll = 4;

/*
 * For every pack i of Op::kWidth elements: op.store(i, op.load(i)); op.one(i) for each of the last elements that fill no
 * pack. All loads of a thread come before its stores, which also makes operations in place safe.
 */
template <class Op>
__global__ void __launch_bounds__(kMapThreads) map_kernel(const Op op, int64_t count) {
  const int64_t packs = count / Op::kWidth;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * (kMapThreads * kMapUnroll) + threadIdx.x;
  typename Op::Loaded loaded[kMapUnroll];
#pragma unroll
  for (int u = 0; u < kMapUnroll; u++) {
    if (first + u * kMapThreads < packs) loaded[u] = op.load(first + u * kMapThreads);
  }
#pragma unroll
  for (int u = 0; u < kMapUnroll; u++) {
    if (first + u * kMapThreads < packs) op.store(first + u * kMapThreads, loaded[u]);
  }
  const int64_t rest = packs * Op::kWidth + threadIdx.x;
  if (blockIdx.x == gridDim.x - 1 && rest < count) op.one(rest);
}

template <class Op>
oribi_status launch_map(oribi_ctx* ctx, const char* function, const Op& op, int64_t count) {
  static_assert(Op::kWidth <= kMapThreads, "one block does the rest");
  if (count == 0) return ORIBI_OK;
  const int64_t blocks = divide_up(divide_up(count, Op::kWidth), kMapThreads * kMapUnroll);
  if (!fits_grid(blocks)) return too_large(ctx, function, blocks);
  const oribi_status status = select_device(ctx, function);
  if (status != ORIBI_OK) return status;
  map_kernel<<<static_cast<unsigned>(blocks), kMapThreads, 0, stream_of(ctx)>>>(op, count);
  return launch_status(ctx, function);
}

/*
 * Blocks for rows of `packs` packs each: x covers the columns, y as many rows as make a block of about 256 threads, so
 * that rows of two packs and of two thousand both fill their warps. Kernels loop over the columns with `columns` steps.
 */
struct RowGrid {
  dim3 block;
  int64_t row_blocks;
  unsigned column_blocks;

  RowGrid(int64_t rows, int64_t packs, int unroll) {
    constexpr int kThreads = 256, kMostColumnBlocks = 65535; /* the limit of a grid's second dimension */
    int x = 1;
    while (x < kThreads && x < packs) x *= 2;
    block = dim3(static_cast<unsigned>(x), static_cast<unsigned>(kThreads / x));
    row_blocks = divide_up(rows, kThreads / x);
    const int64_t wanted = divide_up(packs, static_cast<int64_t>(x) * unroll);
    column_blocks = static_cast<unsigned>(wanted < kMostColumnBlocks ? wanted : kMostColumnBlocks);
  }
  dim3 grid() const { return dim3(static_cast<unsigned>(row_blocks), column_blocks); }
};

/* This thread's row and first pack within it, and the distance to its next pack. */
__device__ inline int64_t grid_row() { return static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y; }
__device__ inline int64_t grid_first() { return static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x; }
__device__ inline int64_t grid_step() { return static_cast<int64_t>(gridDim.y) * blockDim.x; }

}  // namespace oribi
#endif
