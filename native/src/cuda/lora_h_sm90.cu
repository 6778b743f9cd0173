/*
 * Math        h = scale * x·Aᵀ, while y = x·Wᵀ + h·Bᵀ has begun
 * Shapes      x (N,in)  A (R,in)  h (N,R)
 * Layout      row-major, 16-byte aligned; in a multiple of 64, row strides of 8
 * Precision   storage bf16 or fp16; one fp32 sum over the inner dimension, scaled and rounded once
 * Saved       h, by the caller
 * Writes      h =
 * Determinism bit-exact on one GPU: each element is summed by one thread's tensor core in the order of the steps
 * Limits      sm_90; R at most 64
 *
 * A product takes its tiles in waves, and the last wave rarely fills the card: some processors have a tile less to do. They
 * compute h first. The product begins at the same time on the others, needs h in the last step of its tiles only, and waits
 * there (griddepcontrol.wait). A block of h has a processor to itself and reads its tokens over the whole inner dimension,
 * so there are no partial sums to add; what it reads of x the product's blocks read too, from the cache.
 * Where no processor is free, or too few for h to end with the first tiles, oribi_lora_h runs before the product, on all of them.
 */
#include "cuda/lora_h_sm90.cuh"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cuda/lora_h_sm90_kernel.cuh"
#include "cuda/lora_matmul_sm90_plan.cuh"
#include "cuda/lora_support.cuh"
#include "cuda/tensor_map.cuh"

namespace oribi {
namespace {

using namespace lora90;
using sm90::Maps;

constexpr int64_t kHWidest = 64; /* columns of h that a block computes */

#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define ORIBI_SM90_H_THREADS kHThreads
#else
#define ORIBI_SM90_H_THREADS 32
#endif

template <class T, int kWidth>
__global__ void __launch_bounds__(ORIBI_SM90_H_THREADS, 1) lora_h_kernel(const __grid_constant__ HArguments at) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ uint8_t memory[];
  run_h<T, kWidth>(at, memory);
#endif
}

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
double number(int64_t x) { return static_cast<double>(x); }

/* Processors that have a tile less than the others. */
int64_t free_processors(const oribi_ctx* ctx, const oribi_lora_shape& shape, const LoraTiling& tiling) {
  const int64_t blocks = tiling.cluster * (tiling.sharing == LoraSharing::inner ? 2 : 1);
  const int64_t at_once = static_cast<const CudaContext*>(ctx)->processors / blocks;
  const int64_t tiles = ceil_div(ceil_div(shape.n, kRows), tiling.cluster) * ceil_div(shape.out, tiling.columns);
  return (at_once - tiles % at_once) % at_once * blocks;
}

/* In clocks for a step of 64 elements of the inner dimension. A tile of 256 columns takes 1,024 on the tensor cores. A block of h
   takes some 60 bytes a clock from the cache beside a product, near the 64 that a processor can: twice 256 tokens end with the
   first tile, or up to 2 us later. Before the product h reads 1,600 bytes a clock with the whole card, and its two launches and
   the drained card cost some 7,000 clocks. From docs/results/lora-matmul.md (20), measured on an H100. */
constexpr double kTileClocks = 4, kRingBytes = 60, kCardBytes = 1600, kLaunchClocks = 7000;

/* The fewest clocks over those of a tile; of several that have none, the widest blocks, which read A least often. */
LoraBeside choose(const oribi_ctx* ctx, const oribi_lora_shape& shape, const LoraTiling& tiling) {
  const double before = number(shape.n) * kHRowBytes / kCardBytes + kLaunchClocks / number(shape.in / 64);
  LoraBeside best{0, 0, before / kTileClocks};
  const int64_t free = free_processors(ctx, shape, tiling) / 2 * 2, width = ceil_div(lora_width(shape), 16) * 16;
  const double tile = tiling.sharing == LoraSharing::inner ? tiling.columns / 2.0 : tiling.columns;
  if (free == 0 || width > kHWidest) return best;
  for (int warpgroups = kHMostWarpgroups; warpgroups > 0; warpgroups--) {
    const int64_t tiles = ceil_div(shape.n, warpgroups * kHRows), blocks = std::min(tiles, free);
    const double clocks = number(ceil_div(tiles, blocks) * (warpgroups * kHRows + width)) * kHRowBytes / kRingBytes;
    const double late = std::max(0.0, clocks / kTileClocks - tile);
    if (late < best.cost) best = {static_cast<int>(blocks), static_cast<int>(warpgroups * kHRows), late};
  }
  return best;
}

template <class T, int kWidth>
cudaError_t launch_h(oribi_ctx* ctx, HArguments* at, int blocks) {
  const uint32_t stage = static_cast<uint32_t>(at->warpgroups * kHRows + kWidth) * kHRowBytes;
  const uint32_t room = static_cast<uint32_t>(most_shared_memory(ctx)) - 1024 - kHBarrierBytes;
  at->stages = static_cast<int>(room / stage); /* 5 to 22: some 200 KB under way */
  cudaLaunchAttribute pairs[1]; /* blocks in clusters of two, which leave whole clusters to the product */
  pairs[0].id = cudaLaunchAttributeClusterDimension;
  pairs[0].val.clusterDim.x = 2;
  pairs[0].val.clusterDim.y = pairs[0].val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>((blocks + 1) / 2 * 2));
  config.blockDim = dim3(static_cast<unsigned>(128 * at->warpgroups + 32));
  config.dynamicSmemBytes = 1024 + at->stages * stage + kHBarrierBytes;
  config.stream = stream_of(ctx);
  config.attrs = pairs;
  config.numAttrs = 1;
  const cudaError_t error = allow_shared_memory<lora_h_kernel<T, kWidth>>(ctx);
  return error != cudaSuccess ? error : cudaLaunchKernelEx(&config, lora_h_kernel<T, kWidth>, *at);
}

template <class T>
cudaError_t dispatch(oribi_ctx* ctx, HArguments* at, int blocks) {
  switch ((at->width + 15) / 16) {
    case 1: return launch_h<T, 16>(ctx, at, blocks);
    case 2: return launch_h<T, 32>(ctx, at, blocks);
    case 3: return launch_h<T, 48>(ctx, at, blocks);
    default: return launch_h<T, 64>(ctx, at, blocks);
  }
}

/* Asks for a way by name, TOKENSxBLOCKS; false: it is not such a name. */
bool parse(const char* name, LoraBeside* beside) {
  *beside = {};
  int length = 0;
  if (std::sscanf(name, "%dx%d%n", &beside->tokens, &beside->blocks, &length) != 2 || name[length] != '\0') return false;
  const bool tokens = beside->tokens > 0 && beside->tokens % kHRows == 0 && beside->tokens <= kHRows * kHMostWarpgroups;
  return tokens && beside->blocks > 0 && beside->blocks <= 1024;
}

}  // namespace

bool lora_h_way_named(const char* name) {
  LoraBeside ignored{};
  return std::strcmp(name, "before") == 0 || parse(name, &ignored);
}

LoraBeside lora_beside_sm90(const oribi_ctx* ctx, const oribi_lora_shape& shape, const LoraTiling& tiling) {
  const char* wanted = std::getenv("ORIBI_LORA_H");
  if (lora_width(shape) == 0) return {};
  if (wanted == nullptr || wanted[0] == '\0') return choose(ctx, shape, tiling);
  LoraBeside asked{};
  return lora_width(shape) <= kHWidest && parse(wanted, &asked) ? asked : LoraBeside{};
}

oribi_status lora_h_sm90(oribi_ctx* ctx, const char* function, void* h, const void* x, const void* a, const oribi_lora_shape& shape,
                         const LoraBeside& beside) {
  const oribi_status selected = select_device(ctx, function);
  if (selected != ORIBI_OK) return selected;
  HArguments at{};
  at.h = h;
  at.n = shape.n;
  at.steps = static_cast<int>(shape.in / 64);
  at.width = static_cast<int>(lora_width(shape));
  at.rank = static_cast<int>(shape.rank);
  at.warpgroups = beside.tokens / kHRows;
  at.tiles = static_cast<int>(ceil_div(shape.n, beside.tokens));
  for (int p = 0; p < shape.adapters; p++) at.scale[p] = shape.scale[p];
  Maps maps(shape.t);
  maps.matrix(&at.x, x, shape.n, shape.in, shape.ld_x, beside.tokens);
  maps.matrix(&at.a, a, at.width, shape.in, shape.in, (at.width + 15) / 16 * 16);
  const oribi_status described = maps.status(ctx, function);
  if (described != ORIBI_OK) return described;
  const int blocks = std::min(beside.blocks, at.tiles);
  return cuda_status(ctx, function, shape.t == ORIBI_BF16 ? dispatch<__nv_bfloat16>(ctx, &at, blocks) : dispatch<__half>(ctx, &at, blocks));
}

oribi_status lora_forward_sm90(oribi_ctx* ctx, const char* function, void* y, void* h, const void* x, const void* w, const oribi_nf4* nf4,
                               const void* a, const void* b, void* workspace, const oribi_lora_shape& shape) {
  const LoraTiling tiling = lora_tiling_with_h_sm90(ctx, shape, w == nullptr);
  const LoraBeside beside = lora_beside_sm90(ctx, shape, tiling);
  const bool during = shape.n > 0 && beside.blocks > 0;
  const oribi_status status = during ? lora_h_sm90(ctx, function, h, x, a, shape, beside) : oribi_lora_h(ctx, h, x, a, workspace, &shape);
  if (status != ORIBI_OK) return status;
  return lora_matmul_sm90_tiled(ctx, function, y, x, w, nf4, h, b, shape, false, tiling, during);
}

}  // namespace oribi
