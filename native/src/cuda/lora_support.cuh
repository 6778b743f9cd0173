/* What the LoRA entry points share: for which shapes there are kernels, and how a kernel is allowed its shared memory. */
#ifndef ORIBI_CUDA_LORA_SUPPORT_CUH
#define ORIBI_CUDA_LORA_SUPPORT_CUH

#include <atomic>
#include <initializer_list>

#include "common/lora.h"
#include "cuda/context.cuh"

namespace oribi {

/* The architecture that this library's code was compiled for, as far as the context's card is concerned, such as 75 or 80.
   The driver may have made it for a newer card from PTX. */
int lora_code(const oribi_ctx* ctx);

struct NamedArray {
  const char* name;
  const void* data;
};

/* ORIBI_OK, or ORIBI_UNSUPPORTED with the reason. `strided`: arrays with a row stride, which alone may begin anywhere, while copies
   are of 16 bytes. */
oribi_status lora_supported(oribi_ctx* ctx, const char* function, const oribi_lora_shape& shape, std::initializer_list<NamedArray> strided);

/* The most shared memory that a block of the context's card can have. */
int most_shared_memory(const oribi_ctx* ctx);

/* Allows a kernel that much, less what it declares itself; once for each card, so that nothing but the launch is left when a graph is captured. */
template <auto kKernel>
cudaError_t allow_shared_memory(const oribi_ctx* ctx) {
  static std::atomic<uint64_t> done{0};
  const int index = static_cast<const CudaContext*>(ctx)->index;
  const uint64_t bit = index < 64 ? uint64_t{1} << index : 0;
  if ((done.load() & bit) != 0) return cudaSuccess;
  cudaFuncAttributes attributes{};
  cudaError_t error = cudaFuncGetAttributes(&attributes, kKernel);
  if (error != cudaSuccess) return error;
  const int most = most_shared_memory(ctx) - static_cast<int>(attributes.sharedSizeBytes);
  error = cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most);
  if (error == cudaSuccess) done.fetch_or(bit);
  return error;
}

}  // namespace oribi
#endif
