/*
 * Math        y += b;  db += sum over rows of dy
 * Shapes      y, dy (rows,cols)  b, db (cols)
 * Layout      rows may be strided; any cols. The forward pass moves 16 bytes at a time where pointers and strides allow it
 * Precision   storage fp32, bf16 or fp16; the sum y + b fp32, rounded once; db summed in fp32
 * Saved       nothing
 * Writes      y +=, db +=
 * Determinism bit-exact on one GPU: no atomics; db is summed over fixed chunks of rows, then over the chunks
 * Limits      as many blocks as a grid holds; more returns UNSUPPORTED
 */
#include "common/rms_norm.h"
#include "cuda/norm.cuh"

namespace oribi {
namespace {

constexpr int kUnroll = 4, kSumThreads = 256;

template <class T, int kWidth>
__global__ void add_kernel(T* y, const T* b, int64_t rows, int64_t packs, int64_t ld) {
  const int64_t row = grid_row();
  if (row >= rows) return;
  Pack<T, kWidth>* out = reinterpret_cast<Pack<T, kWidth>*>(y + row * ld);
  const Pack<T, kWidth>* bias = reinterpret_cast<const Pack<T, kWidth>*>(b);
#pragma unroll kUnroll
  for (int64_t i = grid_first(); i < packs; i += grid_step()) out[i] = add(out[i], bias[i]);
}

/* A partial sum of db over a chunk of rows, a thread a column: neighbours read neighbours. */
template <class T>
__global__ void __launch_bounds__(kSumThreads) partial_kernel(float* partials, const T* dy, int64_t rows, int64_t cols,
                                                              int64_t ld, int64_t chunk) {
  const int64_t column = static_cast<int64_t>(blockIdx.y) * kSumThreads + threadIdx.x;
  if (column >= cols) return;
  const int64_t begin = blockIdx.x * chunk, end = begin + chunk < rows ? begin + chunk : rows;
  float sum = 0;
#pragma unroll 4
  for (int64_t row = begin; row < end; row++) sum += to_float(dy[row * ld + column]);
  partials[blockIdx.x * cols + column] = sum;
}

template <class T, int kWidth>
oribi_status launch_add(oribi_ctx* ctx, T* y, const T* b, int64_t rows, int64_t cols, int64_t ld) {
  const char* const function = "oribi_bias_add";
  const RowGrid grid(rows, cols / kWidth, kUnroll);
  if (!fits_grid(grid.row_blocks)) return too_large(ctx, function, grid.row_blocks);
  const oribi_status status = select_device(ctx, function);
  if (status != ORIBI_OK) return status;
  add_kernel<T, kWidth><<<grid.grid(), grid.block, 0, stream_of(ctx)>>>(y, b, rows, cols / kWidth, ld);
  return launch_status(ctx, function);
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_bias_add(oribi_ctx* ctx, void* y, const void* b, int64_t rows, int64_t cols, int64_t ld,
                                       oribi_dtype t) {
  Check check(ctx, "oribi_bias_add");
  check_bias(check, rows, cols, ld, t).pointer("y", y, rows * cols).pointer("b", b, rows > 0 ? cols : 0);
  if (!check.ok() || rows == 0 || cols == 0) return check.status();
  oribi_status status = ORIBI_OK;
  dispatch_pack(t, aligned({y, b}) ? cols | ld : 1, [&](auto type, auto width) {
    using T = decltype(type);
    status = launch_add<T, decltype(width)::value>(ctx, static_cast<T*>(y), static_cast<const T*>(b), rows, cols, ld);
  });
  return status;
}

extern "C" oribi_status oribi_bias_backward(oribi_ctx* ctx, float* db, const void* dy, void* workspace, int64_t rows,
                                            int64_t cols, int64_t ld, oribi_dtype t) {
  const char* const function = "oribi_bias_backward";
  Check check(ctx, function);
  check_bias(check, rows, cols, ld, t).pointer("db", db, rows > 0 ? cols : 0).pointer("dy", dy, rows * cols);
  check.pointer("workspace", workspace, rows > 0 ? 1 : 0);
  if (!check.ok() || rows == 0 || cols == 0) return check.status();
  const int64_t chunk = rows_per_block(rows, cols), blocks = blocks_of(rows, cols);
  const int64_t columns = divide_up(cols, kSumThreads);
  constexpr int64_t kMostColumns = 65535; /* the limit of a grid's second dimension */
  if (!fits_grid(blocks) || columns > kMostColumns) return too_large(ctx, function, columns);
  const oribi_status status = select_device(ctx, function);
  if (status != ORIBI_OK) return status;
  float* const partials = static_cast<float*>(workspace);
  dispatch_pack(t, 1, [&](auto type, auto) {
    using T = decltype(type);
    const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(columns));
    partial_kernel<<<grid, kSumThreads, 0, stream_of(ctx)>>>(partials, static_cast<const T*>(dy), rows, cols, ld, chunk);
  });
  add_partials(stream_of(ctx), db, partials, blocks, cols);
  return launch_status(ctx, function);
}

extern "C" int64_t oribi_bias_backward_workspace(int64_t rows, int64_t cols) {
  return rms_norm_backward_workspace(rows, cols);
}
