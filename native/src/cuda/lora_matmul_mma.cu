/*
 * Math        y = x·Wᵀ + h·Bᵀ, h·Bᵀ on the columns of each adapter;  dx = dy·W + g·A
 * Shapes      x, dx (N,in)  y, dy (N,out)  W (out,in)  h, g (N,R)  B (sum of outs, rank)  A (R,in)
 * Layout      row-major, 16-byte aligned; in, out, each adapter's columns and the row strides multiples of 8 elements, in of
 *             64 for NF4
 * Precision   storage bf16 or fp16; one fp32 sum over the inner dimension and then the rank, rounded once; an NF4 weight is
 *             an fp32 product rounded to the storage type, as dequantization makes it
 * Saved       nothing
 * Writes      y =, dx =
 * Determinism bit-exact on one GPU: each element of y is summed by one warp in the order of the steps
 * Limits      no bf16 below sm_80. Where a tile spans two adapters, both add to all its rows, the other's columns multiplied
 *             by zero: an infinity in h spreads to the neighbour's columns of the same row as NaN
 */
#include "cuda/lora_matmul_mma.cuh"

#include "cuda/lora_matmul_mma_kernel.cuh"
#include "cuda/lora_support.cuh"

namespace oribi {
namespace {

using namespace lora;

/* Three stages are 48 KB, so that two blocks share a processor of sm_86 and sm_89; four where two blocks of them fit. sm_75
   copies through registers and needs no more than two, and has 64 KB. */
constexpr int kStages = 3, kStagesOfLarge = 4, kStagesOfTuring = 2;
constexpr int kSharedForLarge = 160 * 1024;

template <class T, bool kDx, bool kNf4, int kWarpsAcross>
oribi_status launch(oribi_ctx* ctx, const char* function, const ProductArguments& at) {
  const cudaError_t error = allow_shared_memory<product_kernel<T, kDx, kNf4, kWarpsAcross>>(ctx);
  if (error != cudaSuccess) return cuda_status(ctx, function, error);
  const int bytes = at.stages * kStageBytes > kStagingBytes ? at.stages * kStageBytes : kStagingBytes;
  const unsigned tiles = static_cast<unsigned>(at.row_tiles) * static_cast<unsigned>(at.column_tiles);
  product_kernel<T, kDx, kNf4, kWarpsAcross><<<tiles, 64 * kWarpsAcross, bytes, stream_of(ctx)>>>(at);
  return launch_status(ctx, function);
}

template <class T, int kWarpsAcross>
oribi_status dispatch(oribi_ctx* ctx, const char* function, const ProductArguments& at, bool dx) {
  if (at.w == nullptr) {
    return dx ? launch<T, true, true, kWarpsAcross>(ctx, function, at) : launch<T, false, true, kWarpsAcross>(ctx, function, at);
  }
  return dx ? launch<T, true, false, kWarpsAcross>(ctx, function, at) : launch<T, false, false, kWarpsAcross>(ctx, function, at);
}

/* The adapters as parts of y's columns: one a projection in the forward pass, one for all in the backward pass. */
void describe_parts(ProductArguments* at, const void* h, const void* b, const oribi_lora_shape& s, bool dx) {
  const auto plus = [](const void* data, int64_t elements) { return static_cast<const uint16_t*>(data) + elements; };
  at->ld_h = lora_width(s);
  if (dx) {
    at->parts = s.adapters > 0 ? 1 : 0;
    at->depth = lora_width(s);
    at->ld_b = s.in;
    at->part[0] = {h, b, 0, s.in};
    return;
  }
  at->parts = s.adapters;
  at->depth = at->ld_b = s.rank;
  for (int32_t p = 0; p < s.adapters; p++) {
    at->part[p] = {plus(h, p * s.rank), plus(b, lora_b_row(s, p) * s.rank), s.first_out[p], s.outs[p]};
  }
}

}  // namespace

oribi_status lora_matmul_mma(oribi_ctx* ctx, const char* function, void* y, const void* x, const void* w,
                             const oribi_nf4* nf4, const void* h, const void* b, const oribi_lora_shape& s, bool dx) {
  if (s.n == 0) return ORIBI_OK;
  const bool turing = lora_code(ctx) < 80;
  ProductArguments at{};
  at.y = y;
  at.x = x;
  at.w = w;
  if (w == nullptr) {
    at.codes = nf4->codes;
    at.absmax = nf4->absmax;
    at.absmax2 = nf4->absmax2;
    at.offset = nf4->offset;
  }
  at.n = s.n;
  at.columns = dx ? s.in : s.out;
  at.inner = dx ? s.out : s.in;
  at.ld_x = dx ? s.ld_y : s.ld_x;
  at.ld_y = dx ? s.ld_x : s.ld_y;
  at.ld_w = s.in;
  at.stages = turing ? kStagesOfTuring : most_shared_memory(ctx) >= kSharedForLarge ? kStagesOfLarge : kStages;
  describe_parts(&at, h, b, s, dx);
  const int64_t row_tiles = (s.n + kTile - 1) / kTile, column_tiles = (at.columns + kTile - 1) / kTile;
  if (row_tiles * column_tiles > INT32_MAX) {
    return fail(ctx, ORIBI_UNSUPPORTED, "%s: %lld rows of %lld columns are more tiles than a launch can have", function,
                static_cast<long long>(s.n), static_cast<long long>(at.columns));
  }
  at.row_tiles = static_cast<int>(row_tiles);
  at.column_tiles = static_cast<int>(column_tiles);
  const oribi_status status = select_device(ctx, function);
  if (status != ORIBI_OK) return status;
  if (turing) return dispatch<__half, 4>(ctx, function, at, dx); /* bf16 was refused */
  return s.t == ORIBI_BF16 ? dispatch<__nv_bfloat16, 2>(ctx, function, at, dx) : dispatch<__half, 2>(ctx, function, at, dx);
}

}  // namespace oribi
