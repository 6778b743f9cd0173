/* The LoRA product of lora_matmul_sm90.cu, for the entry points of lora_matmul.cu. Arguments have been checked there. */
#ifndef ORIBI_CUDA_LORA_MATMUL_SM90_CUH
#define ORIBI_CUDA_LORA_MATMUL_SM90_CUH

#include "cuda/context.cuh"

namespace oribi {

/* Whether this kernel takes the shape: a card of compute capability 9.0 and code built for it; bf16 or fp16; in and out
   multiples of 64; row strides multiples of 8; n, in and out below 2^31. Pointers must be aligned to 16 bytes. */
bool lora_matmul_sm90_takes(const oribi_ctx* ctx, const oribi_lora_shape& shape, bool dx, bool nf4);

/* dx false: y[n,out] = x·Wᵀ + h·Bᵀ. dx true: y is dx[n,in] = x·W + h·b with x = dy, h = g, b = A. w NULL: nf4. */
oribi_status lora_matmul_sm90(oribi_ctx* ctx, const char* function, void* y, const void* x, const void* w,
                              const oribi_nf4* nf4, const void* h, const void* b, const oribi_lora_shape& shape, bool dx);

/* How the two consumers of a block, or two blocks, share work. */
enum class LoraSharing {
  halves, /* the consumers halve the rows of each tile */
  turns,  /* each consumer has every other tile and stores while the other multiplies */
  inner   /* two blocks of a cluster halve the inner dimension of a tile; the consumers halve its rows */
};

/* How the product is cut, for whoever wants to measure another cut than the one chosen. */
struct LoraTiling {
  int columns; /* of a tile of 128 rows: 256, 224 and 176 (not for dx), 192 or 128; 256 or 128 for NF4 */
  int cluster; /* blocks that share a tile of the weight: 1 or 2 */
  int group;   /* rows of tiles that are walked together, so that what they share stays in the cache */
  LoraSharing sharing;
};
/* Whether ORIBI_LORA_MATMUL may ask for it: 256x2 are tiles of 256 columns in clusters of 2, 128/2 two
   blocks a tile, 176x2t tiles by turns. */
bool lora_cut_named(const char* name);
LoraTiling lora_tiling_sm90(const oribi_ctx* ctx, const oribi_lora_shape& shape, bool dx, bool nf4);
/* The same for a forward product beside which h is computed. */
LoraTiling lora_tiling_with_h_sm90(const oribi_ctx* ctx, const oribi_lora_shape& shape, bool nf4);
/* during_h: the kernel launched before writes h, and nothing else that the product reads or writes; the product may then begin
   while it runs, and waits for it where it reads h. */
oribi_status lora_matmul_sm90_tiled(oribi_ctx* ctx, const char* function, void* y, const void* x, const void* w,
                                    const oribi_nf4* nf4, const void* h, const void* b, const oribi_lora_shape& shape,
                                    bool dx, const LoraTiling& tiling, bool during_h);

#ifdef ORIBI_SM90_DEBUG
/* How many waits gave up so far; reports[81] as in sm90.cuh. */
int lora_matmul_sm90_stuck(int* reports);
#endif

}  // namespace oribi
#endif
