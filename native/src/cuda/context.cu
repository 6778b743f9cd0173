/* The context of a CUDA device: its number, a stream of its own and its fault word. */
#include "cuda/context.cuh"

#include <cstdio>
#include <new>

namespace oribi {
namespace {

/* Whether there is such a device; without a driver the runtime answers, it does not crash. */
oribi_status check_device(int32_t index) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    cudaGetLastError(); /* forget it: a later call must not report it again */
    return fail_create(ORIBI_NO_DEVICE, "oribi_ctx_create: CUDA finds no device: %s; install NVIDIA's driver, or run on the CPU",
                       cudaGetErrorString(error));
  }
  if (index < 0 || index >= count) {
    return fail_create(ORIBI_NO_DEVICE, "oribi_ctx_create: CUDA device %d asked for, the devices are 0 to %d", index, count - 1);
  }
  return ORIBI_OK;
}

const char* fault_sentence(int fault) {
  switch (fault) {
    case kFaultGatherIndex:
      return "oribi_gather_rows: an index was outside [0, rows); zeros were written for its row";
    case kFaultScatterIndex:
      return "oribi_scatter_rows: an index was outside [0, rows); its row was written nowhere";
    case kFaultEmbeddingId:
      return "oribi_embedding_forward or oribi_embedding_backward: an id was outside [0, v); zeros stand for its row";
    case kFaultRopePosition:
      return "oribi_rope: a position was outside [0, max_position); zeros were written for its row of q and k";
    case kFaultLabel:
      return "oribi_cross_entropy: a label was not below v; zeros were written for its row";
    case kFaultSeenToken:
      return "oribi_sample: a token of seen was outside [0, v); it was passed over";
    case kFaultLogits:
      return "oribi_sample: the logits of a row held a NaN or +infinity, or nothing finite; token 0 stands for it";
    case kFaultExpert:
      return "oribi_route: an expert was outside [0, experts); expert 0 stands for it";
    case kFaultLatentPosition:
      return "oribi_latent: a position was outside [0, max_position); zeros stand for the rotated channels of its row";
    default:
      return "a kernel wrote a fault that is not known here";
  }
}

/* The stream and the fault word, in memory that the card can write while a kernel runs. */
cudaError_t make_resources(CudaContext* made) {
  cudaError_t error = cudaSetDevice(made->index);
  if (error == cudaSuccess) error = cudaStreamCreateWithFlags(&made->stream, cudaStreamNonBlocking);
  if (error == cudaSuccess) error = cudaHostAlloc(reinterpret_cast<void**>(&made->fault), sizeof(int), cudaHostAllocMapped);
  if (error != cudaSuccess) return error;
  *made->fault = kFaultNone;
  return cudaHostGetDevicePointer(reinterpret_cast<void**>(&made->fault_on_device), made->fault, 0);
}

void free_context(CudaContext* made) {
  if (made->fault != nullptr) cudaFreeHost(made->fault);
  if (made->stream != nullptr) cudaStreamDestroy(made->stream);
  delete made;
}

}  // namespace

oribi_status cuda_status(oribi_ctx* ctx, const char* function, cudaError_t error) {
  if (error == cudaSuccess) return ORIBI_OK;
  const oribi_status status = error == cudaErrorMemoryAllocation ? ORIBI_OUT_OF_MEMORY : ORIBI_DEVICE_ERROR;
  return fail(ctx, status, "%s: %s reports %s (%s)", function, ctx->device_name, cudaGetErrorString(error),
              cudaGetErrorName(error));
}

}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_ctx_create(oribi_ctx** ctx, oribi_device device, int32_t index, int32_t threads) {
  if (ctx == nullptr) return fail_create(ORIBI_INVALID_ARGUMENT, "oribi_ctx_create: ctx is NULL");
  *ctx = nullptr;
  if (device != ORIBI_CUDA) {
    return fail_create(ORIBI_NO_DEVICE, "oribi_ctx_create: this library has device ORIBI_CUDA only; found device %d",
                       static_cast<int>(device));
  }
  if (threads < 0) return fail_create(ORIBI_INVALID_ARGUMENT, "oribi_ctx_create: threads must be at least 0, found %d", threads);
  const oribi_status status = check_device(index);
  if (status != ORIBI_OK) return status;
  CudaContext* made = new (std::nothrow) CudaContext{};
  if (made == nullptr) return fail_create(ORIBI_OUT_OF_MEMORY, "oribi_ctx_create: no memory for a context");
  made->device = ORIBI_CUDA;
  made->threads = threads;
  made->index = index;
  cudaDeviceProp properties;
  cudaError_t error = cudaGetDeviceProperties(&properties, index);
  if (error == cudaSuccess) error = make_resources(made);
  if (error != cudaSuccess) {
    free_context(made);
    return fail_create(ORIBI_DEVICE_ERROR, "oribi_ctx_create: CUDA device %d reports %s", index, cudaGetErrorString(error));
  }
  made->architecture = 10 * properties.major + properties.minor;
  made->processors = properties.multiProcessorCount;
  std::snprintf(made->device_name, sizeof made->device_name, "%s", properties.name);
  *ctx = made;
  return ORIBI_OK;
}

extern "C" void oribi_ctx_destroy(oribi_ctx* ctx) {
  if (ctx != nullptr) free_context(static_cast<CudaContext*>(ctx));
}

extern "C" oribi_status oribi_ctx_synchronize(oribi_ctx* ctx) {
  if (ctx == nullptr) return ORIBI_INVALID_ARGUMENT;
  const oribi_status status = cuda_status(ctx, "oribi_ctx_synchronize", cudaStreamSynchronize(stream_of(ctx)));
  if (status != ORIBI_OK) return status;
  volatile int* word = static_cast<CudaContext*>(ctx)->fault; /* written by the card, behind the compiler's back */
  const int fault = *word;
  if (fault == kFaultNone) return ORIBI_OK;
  *word = kFaultNone;
  return fail(ctx, ORIBI_INVALID_ARGUMENT, "%s", fault_sentence(fault));
}

extern "C" oribi_status oribi_ctx_keep_awake(oribi_ctx* ctx, int32_t) { return ctx == nullptr ? ORIBI_INVALID_ARGUMENT : ORIBI_OK; }

extern "C" void* oribi_ctx_stream(const oribi_ctx* ctx) {
  return ctx == nullptr ? nullptr : static_cast<const CudaContext*>(ctx)->stream;
}

extern "C" int32_t oribi_ctx_architecture(const oribi_ctx* ctx) {
  return ctx == nullptr ? 0 : static_cast<const CudaContext*>(ctx)->architecture;
}
