/* What every CUDA entry point needs: the stream of its context, and a status for what the runtime answers. */
#ifndef ORIBI_CUDA_CONTEXT_CUH
#define ORIBI_CUDA_CONTEXT_CUH

#include <cuda_runtime.h>

#include "common/context.h"

namespace oribi {

struct CudaContext : oribi_ctx {
  int index;
  int architecture; /* compute capability times ten */
  int processors;   /* streaming multiprocessors */
  cudaStream_t stream;
};

/* A failed call as a status, with the function and the device in the message. */
oribi_status cuda_status(oribi_ctx* ctx, const char* function, cudaError_t error);

/* Makes the context's device the thread's current one; to be called before a launch. */
inline oribi_status select_device(oribi_ctx* ctx, const char* function) {
  return cuda_status(ctx, function, cudaSetDevice(static_cast<CudaContext*>(ctx)->index));
}

inline cudaStream_t stream_of(oribi_ctx* ctx) { return static_cast<CudaContext*>(ctx)->stream; }

/* Whether the launches since the last call of this were accepted. */
inline oribi_status launch_status(oribi_ctx* ctx, const char* function) {
  return cuda_status(ctx, function, cudaGetLastError());
}

}  // namespace oribi
#endif
