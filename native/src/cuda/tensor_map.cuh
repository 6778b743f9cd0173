/* How a tensor is described to the tensor memory accelerator (TMA): a function of the driver, which is found at run time, so
   that no library of the driver is linked. Host code. */
#ifndef ORIBI_CUDA_TENSOR_MAP_CUH
#define ORIBI_CUDA_TENSOR_MAP_CUH

#include <cuda.h> /* types only */
#include <cuda_runtime.h>

namespace oribi {
namespace sm90 {

using Encode = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*, const cuuint64_t*,
                            const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle,
                            CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

/* NULL where the driver has no such function. */
inline Encode find_encode() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found;
  const cudaError_t error =
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found);
  if (error != cudaSuccess || found != cudaDriverEntryPointSuccess) return nullptr;
  return reinterpret_cast<Encode>(function);
}

}  // namespace sm90
}  // namespace oribi
#endif
