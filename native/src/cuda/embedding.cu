/*
 * Math        forward: y[i,:] = table[ids[i],:];  backward: dtable[ids[i],:] += dy[i,:]
 * Shapes      y, dy (N,C)  table, dtable (V,C)  ids (N)
 * Layout      row-major; C a multiple of 16 bytes' worth of elements is read 16 bytes at a time
 * Precision   forward copies bits; backward adds in fp32 whatever the storage of dy
 * Saved       nothing
 * Writes      y =, dtable +=. An id out of range: a row of zeros, and nothing in dtable
 * Determinism bit-exact, and the CPU's bits: each column is summed in the order of the tokens
 * Limits      N up to 2^31 - 1; more returns UNSUPPORTED. The backward pass looks for equal ids in up to 2 N^2
 *             comparisons, 64 KB of ids a block at N = 8192 from the L2 cache, and takes no workspace
 */
#include "cuda/copy_rows.cuh"
#include "cuda/elementwise.cuh"

namespace oribi {
namespace {

/* A block owns the first token of its id, and a thread a pack of columns: 512 of bf16 are all of C = 4096, so that the ids
   are searched once. It compares kTile ids at once. */
constexpr int kThreads = 512, kIdsPerThread = 4, kTile = kThreads * kIdsPerThread;
constexpr int kWarps = kThreads / 32;
constexpr int kRowsInFlight = 4; /* of dy: loaded before the first of them is added */

struct Matches {
  unsigned mask[kIdsPerThread][kWarps];
  int row[kTile];
};

/* Lists the tokens of this tile whose id is `id`, in their order; returns how many there are. */
__device__ int find_matches(Matches& matches, const int32_t* ids, int64_t tile, int64_t n, int32_t id) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  bool match[kIdsPerThread], any = false;
#pragma unroll
  for (int k = 0; k < kIdsPerThread; k++) {
    const int64_t i = tile + k * kThreads + threadIdx.x;
    match[k] = i < n && ids[i] == id;
    any |= match[k];
  }
  if (__syncthreads_or(any) == 0) return 0; /* also: the list of the tile before has been read */
#pragma unroll
  for (int k = 0; k < kIdsPerThread; k++) {
    const unsigned mask = __ballot_sync(0xffffffffu, match[k]);
    if (lane == 0) matches.mask[k][warp] = mask;
  }
  __syncthreads();
  int count = 0;
#pragma unroll
  for (int k = 0; k < kIdsPerThread; k++) {
    for (int w = 0; w < kWarps; w++) {
      const unsigned mask = matches.mask[k][w];
      if (w == warp && match[k]) {
        matches.row[count + __popc(mask & ((1u << lane) - 1))] = static_cast<int>(tile + k * kThreads + threadIdx.x);
      }
      count += __popc(mask);
    }
  }
  __syncthreads();
  return count;
}

/* Whether the ids hold `id` before `token`, and after it. All loads of a thread are independent: this scan takes little
   more than their latency, and for most tokens it is the only one. */
__device__ void find_others(const int32_t* ids, int64_t n, int64_t token, int32_t id, bool& before, bool& after) {
  bool earlier = false, later = false;
#pragma unroll 8
  for (int64_t i = threadIdx.x; i < n; i += kThreads) {
    const bool match = ids[i] == id;
    earlier |= match && i < token;
    later |= match && i > token;
  }
  before = __syncthreads_or(earlier) != 0;
  after = __syncthreads_or(later) != 0;
}

/* sum += rows of dy, in the order of the list. */
template <class T, int kWidth>
__device__ void add_rows(float* sum, const T* dy, const int* row, int count, int64_t c, int64_t column) {
  for (int first = 0; first < count; first += kRowsInFlight) {
    Pack<T, kWidth> value[kRowsInFlight];
#pragma unroll
    for (int r = 0; r < kRowsInFlight; r++) {
      if (first + r < count) value[r] = *reinterpret_cast<const Pack<T, kWidth>*>(dy + row[first + r] * c + column);
    }
#pragma unroll
    for (int r = 0; r < kRowsInFlight; r++) {
#pragma unroll
      for (int k = 0; k < kWidth; k++) {
        if (first + r < count) sum[k] += to_float(value[r].element[k]);
      }
    }
  }
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads, 2) backward_kernel(float* dtable, const T* dy, const int32_t* ids, int64_t n,
                                                            int64_t c, int64_t v, int* fault) {
  __shared__ Matches matches;
  const int64_t token = blockIdx.x, column = (static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x) * kWidth;
  const int32_t id = ids[token];
  if (id < 0 || id >= v) {
    *fault = kFaultEmbeddingId;
    return;
  }
  bool before, after;
  find_others(ids, n, token, id, before, after);
  if (before) return; /* the block of an earlier token adds all of this id */
  const bool inside = column < c;
  Pack<float, kWidth>* out = reinterpret_cast<Pack<float, kWidth>*>(dtable + id * c + column);
  Pack<float, kWidth> sum{};
  if (inside) sum = *out;
  const int own = static_cast<int>(token);
  if (inside) add_rows<T, kWidth>(sum.element, dy, &own, 1, c, column);
  for (int64_t tile = token + 1; after && tile < n; tile += kTile) {
    const int count = find_matches(matches, ids, tile, n, id);
    if (inside) add_rows<T, kWidth>(sum.element, dy, matches.row, count, c, column);
  }
  if (inside) *out = sum;
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_embedding_forward(oribi_ctx* ctx, void* y, const void* table, const int32_t* ids, int64_t n,
                                                int64_t c, int64_t v, oribi_dtype t) {
  const char* const function = "oribi_embedding_forward";
  Check check(ctx, function);
  check.size("n", n).size("c", c, 1).size("v", v, 1).elements("y", n, c).elements("table", v, c).dtype("t", t);
  check.pointer("y", y, n * c).pointer("table", table, n * c).pointer("ids", ids, n);
  if (!check.ok()) return check.status();
  const int64_t row = c * size_in_bytes(t);
  return copy_rows<false>(ctx, {function, y, table, ids, n, v, row, row, row, kFaultEmbeddingId});
}

extern "C" oribi_status oribi_embedding_backward(oribi_ctx* ctx, float* dtable, const void* dy, const int32_t* ids,
                                                 int64_t n, int64_t c, int64_t v, oribi_dtype t) {
  const char* const function = "oribi_embedding_backward";
  Check check(ctx, function);
  check.size("n", n).size("c", c, 1).size("v", v, 1).elements("dy", n, c).elements("dtable", v, c).dtype("t", t);
  check.pointer("dtable", dtable, n * c).pointer("dy", dy, n * c).pointer("ids", ids, n);
  if (!check.ok() || n == 0) return check.status();
  if (!fits_grid(n)) return too_large(ctx, function, n);
  const oribi_status status = select_device(ctx, function);
  if (status != ORIBI_OK) return status;
  dispatch_pack(t, aligned({dtable, dy}, 2 * kAccess) ? c : 1, [&](auto type, auto width) {
    using T = decltype(type);
    constexpr int kWidth = decltype(width)::value;
    const dim3 grid(static_cast<unsigned>(n), static_cast<unsigned>(divide_up(c, kThreads * kWidth)));
    backward_kernel<T, kWidth><<<grid, kThreads, 0, stream_of(ctx)>>>(dtable, static_cast<const T*>(dy), ids, n, c, v,
                                                                      fault_of(ctx));
  });
  return launch_status(ctx, function);
}
