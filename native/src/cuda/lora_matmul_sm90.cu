/*
 * Math        y = x·Wᵀ + h·Bᵀ, h·Bᵀ on the columns of each adapter;  dx = dy·W + g·A
 * Shapes      x, dx (N,in)  y, dy (N,out)  W (out,in)  h, g (N,R)  B (sum of outs, rank)  A (R,in)
 * Layout      row-major, 16-byte aligned; in and out multiples of 64, row strides of 8
 * Precision   storage bf16 or fp16; one fp32 sum over the inner dimension and then the rank, rounded once
 * Saved       nothing
 * Writes      y =, dx =
 * Determinism bit-exact on one GPU: each element of y is summed by one thread's tensor core in the order of the steps
 * Limits      sm_90; N, in, out below 2^31. Where a tile spans two adapters, both add to all its rows, the other's columns
 *             multiplied by zero: an infinity in h spreads to the neighbour's columns of the same row as NaN
 *
 * The adapter is laid beside the weight along the inner dimension (docs/derivations/lora.md): after in/64 steps of X and W
 * the same loop runs over h and B, so that it costs rank/in more products and no further pass over y.
 */
#include "cuda/lora_matmul_sm90.cuh"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "cuda/lora_matmul_sm90_kernel.cuh"
#include "cuda/tensor_map.cuh"

namespace oribi {
namespace {

using lora90::Arguments;
using lora90::Policy;
using sm90::Maps;

/* Code for other architectures is empty, and says so through its launch bounds. */
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define ORIBI_SM90_THREADS P::kThreads
#else
#define ORIBI_SM90_THREADS 32
#endif

template <class P>
__global__ void __launch_bounds__(ORIBI_SM90_THREADS, 1) lora_kernel(const __grid_constant__ typename P::Args a) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ uint8_t memory[];
  lora90::run<P>(a, memory);
#endif
}

struct Operands {
  void* y;
  const void *x, *w, *h, *b;
  const oribi_nf4* nf4;
  bool during_h; /* the kernel before this one writes h and nothing else that is read here */
};

template <class P>
void describe_weight(typename P::Args* a, Maps* maps, const Operands& of, const oribi_lora_shape& shape) {
  if constexpr (P::kNf4) {
    maps->codes(&a->w, of.nf4->codes, shape.out, shape.in, P::kWeightRows);
    a->absmax = of.nf4->absmax;
    a->absmax2 = of.nf4->absmax2;
    a->offset = of.nf4->offset;
    a->rows = static_cast<int>(shape.out);
    a->row_blocks = static_cast<int>(shape.in / 64);
    std::memcpy(a->map, oribi_dynamic_map_signed(), sizeof a->map);
  } else {
    maps->matrix(&a->w, of.w, shape.out, shape.in, shape.in, P::kWeightRows);
  }
}

/* The adapters as parts of y's columns: one a projection in the forward pass, one for all in the backward pass. */
template <class P>
void describe_parts(Arguments* a, Maps* maps, const Operands& of, const oribi_lora_shape& shape) {
  const int64_t all = shape.adapters * shape.rank;
  const auto offset = [](const void* data, int64_t elements) { return static_cast<const uint8_t*>(data) + elements * 2; };
  a->parts = P::kDx ? (shape.adapters > 0 ? 1 : 0) : shape.adapters;
  a->rank = static_cast<int>(P::kDx ? all : shape.rank);
  int64_t b_row = 0;
  for (int p = 0; p < a->parts; p++) {
    a->first[p] = P::kDx ? 0 : static_cast<int>(shape.first_out[p]);
    a->size[p] = static_cast<int>(P::kDx ? shape.in : shape.outs[p]);
    maps->matrix(&a->h[p], offset(of.h, p * shape.rank), shape.n, a->rank, all, lora90::kRows);
    if (P::kDx) {
      maps->matrix(&a->b[p], of.b, all, shape.in, shape.in, P::kWeightRows);
    } else {
      maps->matrix(&a->b[p], offset(of.b, b_row * shape.rank), shape.outs[p], shape.rank, shape.rank, P::kWeightRows);
      b_row += shape.outs[p];
    }
  }
}

/* How many clusters the card can hold at once: fewer than half its multiprocessors where some have no partner in their group.
   With more, the last tiles would wait until a whole cluster has done all of its own. */
template <class P>
cudaError_t resident_clusters(const CudaContext* ctx, const cudaLaunchConfig_t& config, int* clusters) {
  constexpr int kCards = 64;
  static std::atomic<int> known[kCards];
  *clusters = ctx->processors;
  if (P::kBlocks == 1) return cudaSuccess;
  if (ctx->index < kCards && (*clusters = known[ctx->index].load()) > 0) return cudaSuccess;
  const cudaError_t error = cudaOccupancyMaxActiveClusters(clusters, lora_kernel<P>, &config);
  if (error == cudaSuccess && ctx->index < kCards) known[ctx->index].store(*clusters);
  return error;
}

template <class P>
oribi_status launch(oribi_ctx* ctx, const char* function, const Operands& of, const oribi_lora_shape& shape, const LoraTiling& tiling) {
  const int64_t inner = P::kDx ? shape.out : shape.in, columns = P::kDx ? shape.in : shape.out;
  typename P::Args a{};
  Maps maps(shape.t);
  maps.matrix(&a.x, of.x, shape.n, inner, P::kDx ? shape.ld_y : shape.ld_x, lora90::kRows);
  describe_weight<P>(&a, &maps, of, shape);
  maps.matrix(&a.y, of.y, shape.n, columns, P::kDx ? shape.ld_x : shape.ld_y, 64, P::kSlab);
  describe_parts<P>(&a, &maps, of, shape);
  const oribi_status described = maps.status(ctx, function);
  if (described != ORIBI_OK) return described;

  const int64_t cluster_rows = lora90::kRows * P::kCluster;
  a.steps = inner / lora90::kDepth;
  a.row_tiles = static_cast<int>((shape.n + cluster_rows - 1) / cluster_rows);
  a.column_tiles = static_cast<int>((columns + P::kColumns - 1) / P::kColumns);
  a.tiles = a.row_tiles * a.column_tiles;
  a.group = tiling.group;

  cudaLaunchAttribute attributes[2];
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim.x = P::kBlocks;
  attributes[0].val.clusterDim.y = attributes[0].val.clusterDim.z = 1;
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(a.tiles * P::kBlocks));
  config.blockDim = dim3(P::kThreads);
  config.dynamicSmemBytes = P::kSharedBytes;
  config.stream = stream_of(ctx);
  config.attrs = attributes;
  config.numAttrs = 1;
  cudaError_t error = cudaFuncSetAttribute(lora_kernel<P>, cudaFuncAttributeMaxDynamicSharedMemorySize, P::kSharedBytes);
  int clusters = 0;
  if (error == cudaSuccess) error = resident_clusters<P>(static_cast<CudaContext*>(ctx), config, &clusters);
  if (P::kSplit == 1) config.gridDim.x = static_cast<unsigned>(std::min(a.tiles, clusters) * P::kBlocks); /* else a tile each */
  config.numAttrs = of.during_h ? 2 : 1;
  if (error == cudaSuccess) error = cudaLaunchKernelEx(&config, lora_kernel<P>, a);
  return cuda_status(ctx, function, error);
}

template <class T, bool kDx>
oribi_status dispatch(oribi_ctx* ctx, const char* function, const Operands& of, const oribi_lora_shape& shape, const LoraTiling& tiling) {
  if (of.w == nullptr) {
    if (tiling.columns == 256) return launch<Policy<T, 256, 1, kDx, true>>(ctx, function, of, shape, tiling);
    return launch<Policy<T, 128, 1, kDx, true>>(ctx, function, of, shape, tiling);
  }
  const auto is = [&tiling](int columns, int cluster, LoraSharing sharing = LoraSharing::halves) {
    return tiling.columns == columns && tiling.cluster == cluster && tiling.sharing == sharing;
  };
  if (is(256, 2)) return launch<Policy<T, 256, 2, kDx, false>>(ctx, function, of, shape, tiling);
  if constexpr (!kDx) {
    if (is(224, 2)) return launch<Policy<T, 224, 2, kDx, false>>(ctx, function, of, shape, tiling);
  }
  if (is(192, 2)) return launch<Policy<T, 192, 2, kDx, false>>(ctx, function, of, shape, tiling);
  if (is(128, 2)) return launch<Policy<T, 128, 2, kDx, false>>(ctx, function, of, shape, tiling);
  if (is(256, 1)) return launch<Policy<T, 256, 1, kDx, false>>(ctx, function, of, shape, tiling);
  if (is(192, 1)) return launch<Policy<T, 192, 1, kDx, false>>(ctx, function, of, shape, tiling);
  if (is(128, 1)) return launch<Policy<T, 128, 1, kDx, false>>(ctx, function, of, shape, tiling);
  if (is(128, 1, LoraSharing::inner)) return launch<Policy<T, 128, 1, kDx, false, LoraSharing::inner>>(ctx, function, of, shape, tiling);
  if constexpr (!kDx) {
    if (is(176, 2, LoraSharing::turns)) return launch<Policy<T, 176, 2, kDx, false, LoraSharing::turns>>(ctx, function, of, shape, tiling);
  }
  return fail(ctx, ORIBI_INVALID_ARGUMENT, "%s: no kernel for tiles of %d columns in clusters of %d", function, tiling.columns,
              tiling.cluster);
}

/* Whether this library's code for the context's card, one of compute capability 9.0, is that for sm_90a. */
bool has_code(const oribi_ctx* ctx) {
  static const bool has = [ctx] {
    cudaFuncAttributes attributes{};
    cudaError_t error = cudaSetDevice(static_cast<const CudaContext*>(ctx)->index);
    if (error == cudaSuccess) error = cudaFuncGetAttributes(&attributes, lora_kernel<Policy<__nv_bfloat16, 256, 1, false, false>>);
    cudaGetLastError(); /* not the next launch's failure */
    return error == cudaSuccess && attributes.maxThreadsPerBlock > 32;
  }();
  return has;
}

}  // namespace

#ifdef ORIBI_SM90_DEBUG
int lora_matmul_sm90_stuck(int* reports) {
  cudaMemcpyFromSymbol(reports, sm90::stuck, sizeof sm90::stuck);
  return reports[0];
}
#endif

bool lora_matmul_sm90_takes(const oribi_ctx* ctx, const oribi_lora_shape& shape, bool, bool nf4) {
  const bool indexed = !nf4 || shape.in / 64 * shape.out <= INT32_MAX; /* blocks of NF4 are counted in 32 bits */
  const bool fits = shape.n <= INT32_MAX - 256 && shape.in <= INT32_MAX - 256 && shape.out <= INT32_MAX - 256;
  const bool aligned = shape.in % 64 == 0 && shape.out % 64 == 0 && shape.ld_x % 8 == 0 && shape.ld_y % 8 == 0;
  const bool type = shape.t == ORIBI_BF16 || shape.t == ORIBI_F16;
  return oribi_ctx_architecture(ctx) == 90 && type && fits && aligned && indexed && has_code(ctx);
}

oribi_status lora_matmul_sm90_tiled(oribi_ctx* ctx, const char* function, void* y, const void* x, const void* w,
                                    const oribi_nf4* nf4, const void* h, const void* b, const oribi_lora_shape& shape, bool dx,
                                    const LoraTiling& tiling, bool during_h) {
  if (shape.n == 0) return ORIBI_OK;
  const oribi_status selected = select_device(ctx, function);
  if (selected != ORIBI_OK) return selected;
  const Operands of{y, x, w, h, b, nf4, during_h};
  if (shape.t == ORIBI_BF16) {
    return dx ? dispatch<__nv_bfloat16, true>(ctx, function, of, shape, tiling)
              : dispatch<__nv_bfloat16, false>(ctx, function, of, shape, tiling);
  }
  return dx ? dispatch<__half, true>(ctx, function, of, shape, tiling)
            : dispatch<__half, false>(ctx, function, of, shape, tiling);
}

oribi_status lora_matmul_sm90(oribi_ctx* ctx, const char* function, void* y, const void* x, const void* w,
                              const oribi_nf4* nf4, const void* h, const void* b, const oribi_lora_shape& shape, bool dx) {
  return lora_matmul_sm90_tiled(ctx, function, y, x, w, nf4, h, b, shape, dx, lora_tiling_sm90(ctx, shape, dx, w == nullptr), false);
}

}  // namespace oribi
