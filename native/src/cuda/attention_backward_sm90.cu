/* Attention backward on Hopper, for heads of at most 128 elements: its two kernels, and when they are taken. */
#include "cuda/attention_backward_sm90.cuh"

#include <cstdlib>
#include <cstring>
#include <type_traits>

#include "cuda/attention_backward_sm90_keys.cuh"
#include "cuda/attention_backward_sm90_queries.cuh"
#include "cuda/tensor_map.cuh"

namespace oribi::attention {
namespace {

using attention90::Arguments;
using attention90::Cut;
using attention90::kBoxRows;
using attention90::kOwned;
using attention90::kSlab;
using attention90::kThreads;

/* Code for other architectures is empty, and says so through its launch bounds. */
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define ORIBI_SM90_THREADS kThreads
#else
#define ORIBI_SM90_THREADS 32
#endif

/* On an H100 at 1x8192, 32/8 heads of 128, 661 TFLOP/s of its four products; three stages 659. Heads of 64: 611, with 64
   queries a step 485; with softcap 128 do not fit in the registers. */
template <int kHead, bool kPlain>
using KeysCut = Cut<kHead, kHead == 64 && kPlain ? 128 : 64, kHead == 64 && kPlain ? 3 : 4, kPlain>;
/* 750 of its three products; 64 keys a step, four stages 730 (but 466 against 439 at 8x1024). Heads of 64: 557 against 514. */
template <int kHead, bool kPlain>
using QueriesCut = Cut<kHead, 128, kHead == 64 ? 4 : 2, kPlain>;

template <class T, class C>
__global__ void __launch_bounds__(ORIBI_SM90_THREADS, 1) keys_kernel(const __grid_constant__ Arguments<T> a) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(1024) unsigned char memory[];
  attention90::run_keys<T, C>(a, memory);
#endif
}

template <class T, class C>
__global__ void __launch_bounds__(ORIBI_SM90_THREADS, 1) queries_kernel(const __grid_constant__ Arguments<T> a) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(1024) unsigned char memory[];
  attention90::run_queries<T, C>(a, memory);
#endif
}

/* Rows of heads of 16-bit elements, in boxes of 64 rows and 64 columns of a head; false where the driver refuses. */
template <class T>
bool describe(CUtensorMap* map, const T* data, int64_t d, int64_t heads, int64_t rows, int64_t ld) {
  static const sm90::Encode encode = sm90::find_encode();
  if (encode == nullptr) return false;
  const auto type = std::is_same<T, __half>::value ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(d), static_cast<cuuint64_t>(heads), static_cast<cuuint64_t>(rows)};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(d) * 2, static_cast<cuuint64_t>(ld) * 2};
  const cuuint32_t box[] = {kSlab, 1, kBoxRows}, steps[] = {1, 1, 1};
  return encode(map, type, 3, const_cast<T*>(data), sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

/* delta and lse2, which lie one after the other; a box is one of them for a step. */
bool describe_lines(CUtensorMap* map, float* delta, int64_t count, int queries) {
  static const sm90::Encode encode = sm90::find_encode();
  if (encode == nullptr) return false;
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(count)}, none[] = {0}; /* strides, which a line has none of */
  const cuuint32_t box[] = {static_cast<cuuint32_t>(queries)}, steps[] = {1};
  return encode(map, CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 1, delta, sizes, none, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

template <class T, int kHead, bool kPlain>
cudaError_t launch(cudaStream_t stream, Arguments<T>& a) {
  using Keys = KeysCut<kHead, kPlain>;
  if (!describe_lines(&a.lines, a.x.delta, 2 * ld_line(a.x.at.n) * a.x.at.h, Keys::kSteps)) return cudaErrorNotSupported;
  using Queries = QueriesCut<kHead, kPlain>;
  cudaError_t error = cudaFuncSetAttribute(queries_kernel<T, Queries>, cudaFuncAttributeMaxDynamicSharedMemorySize, Queries::kBytes);
  if (error == cudaSuccess) error = cudaFuncSetAttribute(keys_kernel<T, Keys>, cudaFuncAttributeMaxDynamicSharedMemorySize, Keys::kBytes);
  if (error != cudaSuccess) return error;
  const int64_t tiles = tile_bound(a.x.at, kOwned);
  queries_kernel<T, Queries><<<static_cast<unsigned>(tiles * a.x.at.h), kThreads, Queries::kBytes, stream>>>(a);
  keys_kernel<T, Keys><<<static_cast<unsigned>(tiles * a.x.at.h_kv), kThreads, Keys::kBytes, stream>>>(a);
  return cudaSuccess;
}

/* ORIBI_ATTENTION_BACKWARD=mma asks for the kernels of every card, so that they can be tested and timed on one that has both. */
bool wants_mma() {
  const char* wanted = std::getenv("ORIBI_ATTENTION_BACKWARD");
  return wanted != nullptr && std::strcmp(wanted, "mma") == 0;
}

bool has_code() {
  static const bool has = [] {
    cudaFuncAttributes attributes{};
    const cudaError_t error = cudaFuncGetAttributes(&attributes, keys_kernel<__half, KeysCut<128, true>>);
    cudaGetLastError(); /* not the next launch's failure */
    return error == cudaSuccess && attributes.maxThreadsPerBlock > 32;
  }();
  return has;
}

}  // namespace

bool backward_sm90_takes(const oribi_ctx* ctx, const Layout& at) {
  const bool fits = at.d <= 128 && 2 * ld_line(at.n) * at.h <= INT32_MAX - 2 * kOwned; /* coordinates are of 32 bits */
  return oribi_ctx_architecture(ctx) == 90 && at.wide && fits && !wants_mma() && has_code();
}

template <class T>
cudaError_t launch_backward_sm90(cudaStream_t stream, const BackwardArguments<T>& x) {
  const Layout& at = x.at;
  Arguments<T> a{};
  a.x = x;
  const bool described = describe(&a.q, x.q, at.d, at.h, at.n, at.ld_q) && describe(&a.d_o, x.d_o, at.d, at.h, at.n, at.ld_o) &&
                         describe(&a.k, x.k, at.d, at.h_kv, at.n, at.ld_k) && describe(&a.v, x.v, at.d, at.h_kv, at.n, at.ld_v);
  if (!described) return cudaErrorNotSupported;
  const bool plain = at.softcap == 0 && at.scale > 0;
  if (at.d <= 64) return plain ? launch<T, 64, true>(stream, a) : launch<T, 64, false>(stream, a);
  return plain ? launch<T, 128, true>(stream, a) : launch<T, 128, false>(stream, a);
}

template cudaError_t launch_backward_sm90<__nv_bfloat16>(cudaStream_t, const BackwardArguments<__nv_bfloat16>&);
template cudaError_t launch_backward_sm90<__half>(cudaStream_t, const BackwardArguments<__half>&);

}  // namespace oribi::attention
