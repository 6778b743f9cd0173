/* Rows copied by index, bit for bit: what gather_rows, scatter_rows and embedding_forward are. */
#ifndef ORIBI_CUDA_COPY_ROWS_CUH
#define ORIBI_CUDA_COPY_ROWS_CUH

#include "cuda/elementwise.cuh"

namespace oribi {

struct CopyRows {
  const char* function;
  void* y;
  const void* x;
  const int32_t* index; /* [n] */
  int64_t n, rows;      /* index is in [0, rows) */
  int64_t bytes;        /* of a row */
  int64_t ldy, ldx;     /* bytes from one row to the next */
  int code;             /* of the fault word */
};

constexpr int kCopyUnroll = 4;

/* kScatter: y[index[i]] = x[i]; otherwise y[i] = x[index[i]], and zeros where index[i] is out of range. */
template <class Unit, bool kScatter>
__global__ void copy_rows_kernel(const CopyRows r, int* fault) {
  const int64_t row = grid_row();
  if (row >= r.n) return;
  const int64_t other = r.index[row], units = r.bytes / static_cast<int64_t>(sizeof(Unit));
  const bool inside = other >= 0 && other < r.rows;
  if (!inside && grid_first() == 0) *fault = r.code;
  if (kScatter && !inside) return;
  /* The two arrays do not overlap: several loads may be on their way before the first store. */
  const Unit* __restrict__ in = reinterpret_cast<const Unit*>(static_cast<const char*>(r.x) + (kScatter ? row : inside ? other : 0) * r.ldx);
  Unit* __restrict__ out = reinterpret_cast<Unit*>(static_cast<char*>(r.y) + (kScatter ? other : row) * r.ldy);
#pragma unroll kCopyUnroll
  for (int64_t i = grid_first(); i < units; i += grid_step()) {
    out[i] = inside ? in[i] : Unit{};
  }
}

template <class Unit, bool kScatter>
oribi_status launch_copy_rows(oribi_ctx* ctx, const CopyRows& r) {
  const RowGrid grid(r.n, r.bytes / static_cast<int64_t>(sizeof(Unit)), kCopyUnroll);
  if (!fits_grid(grid.row_blocks)) return too_large(ctx, r.function, grid.row_blocks);
  const oribi_status status = select_device(ctx, r.function);
  if (status != ORIBI_OK) return status;
  copy_rows_kernel<Unit, kScatter><<<grid.grid(), grid.block, 0, stream_of(ctx)>>>(r, fault_of(ctx));
  return launch_status(ctx, r.function);
}

template <bool kScatter>
oribi_status copy_rows(oribi_ctx* ctx, const CopyRows& r) {
  if (r.n == 0 || r.bytes == 0) return ORIBI_OK;
  const int64_t sizes = r.bytes | r.ldy | r.ldx; /* a multiple of a power of two only where all three are */
  if (sizes % kAccess == 0 && aligned({r.y, r.x})) return launch_copy_rows<uint4, kScatter>(ctx, r);
  if (sizes % 4 == 0 && aligned({r.y, r.x}, 4)) return launch_copy_rows<uint32_t, kScatter>(ctx, r);
  return launch_copy_rows<uint16_t, kScatter>(ctx, r);
}

inline int64_t size_in_bytes(oribi_dtype t) { return t == ORIBI_F32 ? 4 : 2; }

}  // namespace oribi
#endif
