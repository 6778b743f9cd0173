/* How a tensor is described to the tensor memory accelerator (TMA): a function of the driver, which is found at run time, so
   that no library of the driver is linked. Host code. */
#ifndef ORIBI_CUDA_TENSOR_MAP_CUH
#define ORIBI_CUDA_TENSOR_MAP_CUH

#include <cuda.h> /* types only */
#include <cuda_runtime.h>

#include "common/context.h"

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

/* Describes matrices one after another; remembers whether the driver refused one. */
class Maps {
 public:
  explicit Maps(oribi_dtype t)
      : type_(t == ORIBI_BF16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16) {
    static const sm90::Encode encode = sm90::find_encode();
    encode_ = encode;
  }
  /* A matrix of 16-bit elements, read or written in boxes of 64 or 32 columns, swizzled, or of 16. */
  void matrix(CUtensorMap* map, const void* data, int64_t rows, int64_t columns, int64_t ld, int box_rows, int box_columns = 64) {
    if (encode_ == nullptr || !ok()) return;
    const cuuint64_t sizes[] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
    const cuuint64_t strides[] = {static_cast<cuuint64_t>(ld) * 2};
    const cuuint32_t box[] = {static_cast<cuuint32_t>(box_columns), static_cast<cuuint32_t>(box_rows)};
    const CUtensorMapSwizzle swizzle = box_columns == 64   ? CU_TENSOR_MAP_SWIZZLE_128B
                                       : box_columns == 32 ? CU_TENSOR_MAP_SWIZZLE_64B
                                                           : CU_TENSOR_MAP_SWIZZLE_NONE;
    const cuuint32_t steps[] = {1, 1};
    result_ = encode_(map, type_, 2, const_cast<void*>(data), sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                      swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  }
  /* A stack of matrices, `stride` elements from one to the next, read in boxes of 64 columns of 16-bit elements, or added to in
     boxes of 32 of fp32. */
  void stack(CUtensorMap* map, const void* data, int64_t matrices, int64_t rows, int64_t columns, int64_t ld, int64_t stride, int box_rows,
             bool fp32 = false) {
    if (encode_ == nullptr || !ok()) return;
    const cuuint64_t element = fp32 ? 4 : 2;
    const cuuint64_t sizes[] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows), static_cast<cuuint64_t>(matrices)};
    const cuuint64_t strides[] = {static_cast<cuuint64_t>(ld) * element, static_cast<cuuint64_t>(stride) * element};
    const cuuint32_t box[] = {fp32 ? 32u : 64u, static_cast<cuuint32_t>(box_rows), 1};
    const cuuint32_t steps[] = {1, 1, 1};
    result_ = encode_(map, fp32 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT32 : type_, 3, const_cast<void*>(data), sizes, strides, box, steps,
                      CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  }
  /* The codes of a matrix in NF4, read in boxes of a block, 32 bytes, of each row. */
  void codes(CUtensorMap* map, const uint8_t* data, int64_t rows, int64_t columns, int box_rows) {
    if (encode_ == nullptr || !ok()) return;
    const cuuint64_t sizes[] = {static_cast<cuuint64_t>(columns) / 2, static_cast<cuuint64_t>(rows)};
    const cuuint64_t strides[] = {static_cast<cuuint64_t>(columns) / 2};
    const cuuint32_t box[] = {32, static_cast<cuuint32_t>(box_rows)};
    const cuuint32_t steps[] = {1, 1};
    result_ = encode_(map, CU_TENSOR_MAP_DATA_TYPE_UINT8, 2, const_cast<uint8_t*>(data), sizes, strides, box, steps,
                      CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_32B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  }
  bool ok() const { return result_ == CUDA_SUCCESS; }
  oribi_status status(oribi_ctx* ctx, const char* function) const {
    if (encode_ == nullptr) {
      return fail(ctx, ORIBI_DEVICE_ERROR, "%s: the driver has no cuTensorMapEncodeTiled; install one for CUDA 12 or later", function);
    }
    if (ok()) return ORIBI_OK;
    return fail(ctx, ORIBI_INVALID_ARGUMENT, "%s: the driver cannot describe a tensor to TMA (error %d): is each pointer aligned to 16 bytes?",
                function, static_cast<int>(result_));
  }

 private:
  CUtensorMapDataType type_;
  sm90::Encode encode_ = nullptr;
  CUresult result_ = CUDA_SUCCESS;
};

}  // namespace sm90
}  // namespace oribi
#endif
