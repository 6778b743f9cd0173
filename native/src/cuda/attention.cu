/*
 * The entry points of attention: which kernel does what, and the workspace.
 *
 * Storage of 16 bits goes to the tensor cores (attention_forward.cuh, attention_backward.cuh; on Hopper, backward, to
 * attention_backward_sm90.cu unless ORIBI_ATTENTION_BACKWARD=mma), fp32 storage and decoding to attention_rows.cu.
 * cu_seqlens, kv_start and kv_len lie in the card's memory: what they hold is not checked.
 */
#include "cuda/attention_backward.cuh"
#include "cuda/attention_backward_sm90.cuh"
#include "cuda/attention_forward.cuh"
#include "cuda/attention_rows.cuh"

namespace oribi::attention {
namespace {

/* Asked which code was loaded; all files are compiled for the same targets. */
__global__ void code_kernel() {}

int64_t padded(int64_t bytes) { return (bytes + 63) / 64 * 64; }

bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

bool wide_rows(const Shape& s) {
  const int64_t pack = s.t == ORIBI_F32 ? 4 : 8;
  return s.d % pack == 0 && s.ld_q % pack == 0 && s.ld_k % pack == 0 && s.ld_v % pack == 0 && s.ld_o % pack == 0;
}

Layout layout_of(const Shape& s) {
  Layout at{};
  at.cu_seqlens = s.cu_seqlens, at.kv_start = s.kv_start, at.kv_len = s.kv_len;
  at.ld_q = s.ld_q, at.ld_k = s.ld_k, at.ld_v = s.ld_v, at.ld_o = s.ld_o;
  at.n = static_cast<int32_t>(s.n), at.sequences = static_cast<int32_t>(s.sequences);
  at.h = static_cast<int32_t>(s.h), at.h_kv = static_cast<int32_t>(s.h_kv), at.group = at.h / at.h_kv;
  at.d = static_cast<int32_t>(s.d);
  at.window = s.window == 0 || s.window > INT32_MAX ? INT32_MAX : static_cast<int32_t>(s.window);
  at.scale = s.scale, at.softcap = s.softcap;
  return at;
}

/* What a grid and 32-bit row numbers can hold. The smallest tile has 32 rows. */
oribi_status check_limits(oribi_ctx* ctx, const char* function, const Shape& s) {
  if (s.n > INT32_MAX || s.sequences > INT32_MAX || s.h > 65535 || (s.n / 32 + s.sequences) * s.h > INT32_MAX || s.n * s.h > 4 * int64_t{INT32_MAX}) {
    return fail(ctx, ORIBI_UNSUPPORTED, "%s: %lld rows of %lld heads in %lld sequences are too many for one launch", function,
                static_cast<long long>(s.n), static_cast<long long>(s.h), static_cast<long long>(s.sequences));
  }
  return ORIBI_OK;
}

/* Whether the loaded code can multiply bf16: machine code or PTX of sm_80 at least. A newer card that runs the PTX of
   compute_75 has the instruction, but not the code. */
oribi_status check_bf16(oribi_ctx* ctx, const char* function, const Shape& s) {
  if (s.t != ORIBI_BF16) return ORIBI_OK;
  cudaFuncAttributes attributes;
  const cudaError_t error = cudaFuncGetAttributes(&attributes, code_kernel);
  if (error != cudaSuccess) return cuda_status(ctx, function, error);
  if (attributes.ptxVersion >= 80) return ORIBI_OK;
  return fail(ctx, ORIBI_UNSUPPORTED,
              "%s: bf16 needs tensor cores of compute capability 8.0 and code for them; %s runs code for %d.%d: use fp16",
              function, ctx->device_name, attributes.ptxVersion / 10, attributes.ptxVersion % 10);
}

oribi_status begin(oribi_ctx* ctx, const char* function, const Shape& s) {
  oribi_status status = check_limits(ctx, function, s);
  if (status == ORIBI_OK) status = select_device(ctx, function);
  if (status == ORIBI_OK) status = check_bf16(ctx, function, s);
  return status;
}

int32_t processors_of(const oribi_ctx* ctx) { return static_cast<const CudaContext*>(ctx)->processors; }

/* A tile of queries pays when a sequence fills a good part of it; below, each row reads its cache alone. */
constexpr int64_t kFewQueries = 4;

bool few_rows(const Shape& s) { return s.kv_start != nullptr && s.n <= kFewQueries * s.sequences; }

template <class T>
cudaError_t forward_tiles(cudaStream_t stream, const ForwardArguments<T>& x) {
  if (x.at.d <= 64) return launch_forward_64(stream, x);
  return x.at.d <= 128 ? launch_forward_128(stream, x) : launch_forward_256(stream, x);
}

template <class T>
cudaError_t forward(oribi_ctx* ctx, const ForwardArguments<T>& x, const Shape& s) {
  const cudaStream_t stream = stream_of(ctx);
  if (few_rows(s)) return launch_forward_rows(stream, x, splits_of(x.at, processors_of(ctx)));
  return forward_tiles(stream, x);
}

template <>
cudaError_t forward(oribi_ctx* ctx, const ForwardArguments<float>& x, const Shape&) {
  return launch_forward_rows(stream_of(ctx), x, splits_of(x.at, processors_of(ctx)));
}

template <class T>
cudaError_t backward(oribi_ctx* ctx, const BackwardArguments<T>& x) {
  const cudaStream_t stream = stream_of(ctx);
  int32_t shared_bytes = 0;
  cudaError_t error = cudaDeviceGetAttribute(&shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin,
                                             static_cast<CudaContext*>(ctx)->index);
  if (error == cudaSuccess) error = launch_delta(stream, x);
  if (error != cudaSuccess) return error;
  if (backward_sm90_takes(ctx, x.at)) return launch_backward_sm90(stream, x);
  if (x.at.d <= 64) return launch_backward_64(stream, x, shared_bytes);
  return x.at.d <= 128 ? launch_backward_128(stream, x, shared_bytes) : launch_backward_256(stream, x, shared_bytes);
}

template <>
cudaError_t backward(oribi_ctx* ctx, const BackwardArguments<float>& x) {
  const cudaError_t error = launch_delta(stream_of(ctx), x);
  return error != cudaSuccess ? error : launch_backward_rows(stream_of(ctx), x);
}

template <class F>
void dispatch_type(oribi_dtype t, F&& f) {
  dispatch_pack(t, 1, [&](auto type, auto) { f(type); });
}

}  // namespace
}  // namespace oribi::attention

using namespace oribi;

extern "C" int64_t oribi_attention_workspace(const oribi_ctx* ctx, const oribi_attention_shape* shape, int32_t backward) {
  if (ctx == nullptr || shape == nullptr || shape->n < 0 || shape->sequences < 0 || shape->h_kv < 1 || shape->d < 1) return 0;
  if (backward != 0) return attention::padded(2 * attention::ld_line(shape->n) * shape->h * 4) + 64;
  return attention::padded(attention::split_floats(*shape, attention::processors_of(ctx)) * 4);
}

extern "C" oribi_status oribi_attention_forward(oribi_ctx* ctx, void* o, float* lse, const void* q, const void* k,
                                                const void* v, void* workspace, const oribi_attention_shape* shape) {
  const char* const function = "oribi_attention_forward";
  Check check(ctx, function);
  check.pointer("shape", shape);
  if (check.ok()) attention::check_shape(check, *shape);
  if (!check.ok()) return check.status();
  const int64_t n = shape->n;
  check.pointer("o", o, n).pointer("q", q, n).pointer("k", k, n).pointer("v", v, n).pointer("workspace", workspace);
  if (!check.ok() || n == 0) return check.status();
  const oribi_status status = attention::begin(ctx, function, *shape);
  if (status != ORIBI_OK) return status;
  cudaError_t error = cudaSuccess;
  attention::dispatch_type(shape->t, [&](auto type) {
    using T = decltype(type);
    attention::ForwardArguments<T> x{static_cast<T*>(o), lse, static_cast<const T*>(q), static_cast<const T*>(k),
                                     static_cast<const T*>(v), static_cast<float*>(workspace), attention::layout_of(*shape)};
    x.at.wide = attention::wide_rows(*shape) && attention::aligned(o) && attention::aligned(q) && attention::aligned(k) &&
                attention::aligned(v);
    error = attention::forward(ctx, x, *shape);
  });
  return error != cudaSuccess ? cuda_status(ctx, function, error) : launch_status(ctx, function);
}

extern "C" oribi_status oribi_attention_backward(oribi_ctx* ctx, void* dq, void* dk, void* dv, const void* o,
                                                 const float* lse, const void* d_o, const void* q, const void* k,
                                                 const void* v, void* workspace, const oribi_attention_shape* shape) {
  const char* const function = "oribi_attention_backward";
  Check check(ctx, function);
  check.pointer("shape", shape);
  if (check.ok()) attention::check_shape(check, *shape);
  if (!check.ok()) return check.status();
  const int64_t n = shape->n;
  check.that(shape->kv_start == nullptr, "there is no backward pass through a cache: kv_start must be NULL");
  check.pointer("dq", dq, n).pointer("dk", dk, n).pointer("dv", dv, n).pointer("o", o, n).pointer("lse", lse, n);
  check.pointer("d_o", d_o, n).pointer("q", q, n).pointer("k", k, n).pointer("v", v, n).pointer("workspace", workspace);
  if (!check.ok() || n == 0) return check.status();
  const oribi_status status = attention::begin(ctx, function, *shape);
  if (status != ORIBI_OK) return status;
  cudaError_t error = cudaSuccess;
  attention::dispatch_type(shape->t, [&](auto type) {
    using T = decltype(type);
    float* const delta = static_cast<float*>(workspace);
    attention::BackwardArguments<T> x{
        static_cast<T*>(dq), static_cast<T*>(dk), static_cast<T*>(dv), static_cast<const T*>(o), lse,
        static_cast<const T*>(d_o), static_cast<const T*>(q), static_cast<const T*>(k), static_cast<const T*>(v),
        delta, delta + attention::ld_line(n) * shape->h, attention::layout_of(*shape)};
    x.at.wide = attention::wide_rows(*shape) && attention::aligned(o) && attention::aligned(q) && attention::aligned(k) &&
                attention::aligned(v) && attention::aligned(d_o) && attention::aligned(dq) && attention::aligned(dk) &&
                attention::aligned(dv) && attention::aligned(workspace);
    error = attention::backward(ctx, x);
  });
  return error != cudaSuccess ? cuda_status(ctx, function, error) : launch_status(ctx, function);
}
