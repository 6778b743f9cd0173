/* h of lora_h_sm90.cu, beside the product that reads it. Arguments have been checked by the entry points. */
#ifndef ORIBI_CUDA_LORA_H_SM90_CUH
#define ORIBI_CUDA_LORA_H_SM90_CUH

#include "cuda/lora_matmul_sm90.cuh"

namespace oribi {

/* How h is computed on the processors that a product leaves free. blocks 0: not there, but before. */
struct LoraBeside {
  int blocks;
  int tokens;  /* that a block computes together: 64, 128, 192 or 256 */
  double cost; /* what h adds to the product's time, in the unit of the cuts' (lora_matmul_sm90_tiling.cu) */
};
/* The environment variable ORIBI_LORA_H may ask for a way by name: 128x16 are 16 blocks of 128 tokens, `before` is no block beside
   the product. */
bool lora_h_way_named(const char* name);
LoraBeside lora_beside_sm90(const oribi_ctx* ctx, const oribi_lora_shape& shape, const LoraTiling& tiling);

/* h = scale * x·Aᵀ, and lets the next kernel of the stream begin at once if it was launched as a dependent one. */
oribi_status lora_h_sm90(oribi_ctx* ctx, const char* function, void* h, const void* x, const void* a, const oribi_lora_shape& shape,
                         const LoraBeside& beside);

/* h = and y = one after the other, the product beginning while h is computed. */
oribi_status lora_forward_sm90(oribi_ctx* ctx, const char* function, void* y, void* h, const void* x, const void* w, const oribi_nf4* nf4,
                               const void* a, const void* b, void* workspace, const oribi_lora_shape& shape);

}  // namespace oribi
#endif
