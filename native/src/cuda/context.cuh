/*
 * What every CUDA entry point needs: the stream of its context, a status for what the runtime answers, and the fault word.
 *
 * An index that a kernel finds out of range cannot be returned by the call that launched it. The kernel writes zeros where
 * its result would stand and a code into the fault word, which lies in host memory that the card can write;
 * oribi_ctx_synchronize reads it, reports it once and clears it. Codes of several kernels overwrite each other: one of
 * them is reported.
 */
#ifndef ORIBI_CUDA_CONTEXT_CUH
#define ORIBI_CUDA_CONTEXT_CUH

#include <cuda_runtime.h>

#include "common/context.h"

namespace oribi {

/* What a kernel writes into the fault word: `if (bad) *fault = kFaultLabel;`. fault_sentence has a sentence for each. */
enum Fault : int {
  kFaultNone = 0,
  kFaultGatherIndex,   /* oribi_gather_rows: index */
  kFaultScatterIndex,  /* oribi_scatter_rows: index */
  kFaultEmbeddingId,   /* oribi_embedding_forward, oribi_embedding_backward: ids */
  kFaultRopePosition,  /* oribi_rope: positions */
  kFaultLabel,         /* oribi_cross_entropy: labels */
  kFaultSeenToken,     /* oribi_sample: seen */
  kFaultLogits,        /* oribi_sample: logits without a distribution */
  kFaultExpert,        /* oribi_route: expert */
  kFaultLatentPosition /* oribi_latent_*: positions */
};

struct CudaContext : oribi_ctx {
  int index;
  int architecture; /* compute capability times ten */
  int processors;   /* streaming multiprocessors */
  cudaStream_t stream;
  int* fault;           /* one word of pinned host memory, as the host sees it */
  int* fault_on_device; /* and as the card does */
};

/* A failed call as a status, with the function and the device in the message. */
oribi_status cuda_status(oribi_ctx* ctx, const char* function, cudaError_t error);

/* Makes the context's device the thread's current one; to be called before a launch. */
inline oribi_status select_device(oribi_ctx* ctx, const char* function) {
  return cuda_status(ctx, function, cudaSetDevice(static_cast<CudaContext*>(ctx)->index));
}

inline cudaStream_t stream_of(oribi_ctx* ctx) { return static_cast<CudaContext*>(ctx)->stream; }

/* The fault word for a kernel to write. */
inline int* fault_of(oribi_ctx* ctx) { return static_cast<CudaContext*>(ctx)->fault_on_device; }

/* Whether the launches since the last call of this were accepted. */
inline oribi_status launch_status(oribi_ctx* ctx, const char* function) {
  return cuda_status(ctx, function, cudaGetLastError());
}

}  // namespace oribi
#endif
