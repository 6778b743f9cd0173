/*
 * liboribi: forwards each call to the library of the context's device.
 *
 * The kernels of a device live in libraries of their own that export the same names: liboribi_cpu, compiled for three
 * instruction sets, and liboribi_cuda. They are looked for beside this library and loaded when a context first asks for
 * the device, so that a program runs where a driver or an instruction set is missing. Which CPU library: the best that
 * this processor runs, or the one that the environment variable ORIBI_CPU_ISA names (baseline, avx2, avx512).
 */
#include <dlfcn.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "common/context.h"

namespace {

constexpr int kDevices = 2;

struct Library {
  std::mutex mutex;
  void* handle = nullptr;
  char message[768] = "";
};

Library libraries[kDevices];

#if defined(__x86_64__)
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
}

bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#else
bool has_avx2() { return false; }
bool has_avx512() { return false; }
#endif

/* The file of the CPU's kernels, or NULL with the reason in the library's message. */
const char* cpu_file(Library& library) {
  const char* wanted = std::getenv("ORIBI_CPU_ISA");
  if (wanted == nullptr || *wanted == '\0') {
    wanted = has_avx512() ? "avx512" : has_avx2() ? "avx2" : "baseline";
  }
  if (std::strcmp(wanted, "baseline") == 0) return "liboribi_cpu.so";
  const bool avx2 = std::strcmp(wanted, "avx2") == 0, avx512 = std::strcmp(wanted, "avx512") == 0;
  if (!avx2 && !avx512) {
    std::snprintf(library.message, sizeof library.message,
                  "ORIBI_CPU_ISA is '%s', expected baseline, avx2 or avx512; unset it to take the best", wanted);
    return nullptr;
  }
  if (avx2 ? !has_avx2() : !has_avx512()) {
    std::snprintf(library.message, sizeof library.message,
                  "ORIBI_CPU_ISA is '%s', which this processor does not have; unset it to take the best", wanted);
    return nullptr;
  }
  return avx2 ? "liboribi_cpu_avx2.so" : "liboribi_cpu_avx512.so";
}

/* Loads a file that lies beside this library. */
void* open_beside(const char* file, const char* remedy, Library& library) {
  Dl_info self;
  char path[4096];
  const bool found = dladdr(reinterpret_cast<const void*>(&oribi_version), &self) != 0 && self.dli_fname != nullptr;
  const char* slash = found ? std::strrchr(self.dli_fname, '/') : nullptr;
  const int folder = slash != nullptr ? static_cast<int>(slash - self.dli_fname) + 1 : 0;
  const int length = std::snprintf(path, sizeof path, "%.*s%s", folder, folder > 0 ? self.dli_fname : "", file);
  void* handle = length < static_cast<int>(sizeof path) ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
  if (handle == nullptr) {
    const char* reason = dlerror();
    std::snprintf(library.message, sizeof library.message, "cannot load %s (%s); %s", file,
                  reason != nullptr ? reason : "its path is too long", remedy);
  }
  return handle;
}

void* open_cpu(Library& library) {
  /* Idle OpenMP threads that spin take cycles from OpenBLAS's threads, which run between our kernels: on two cores a
     GEMM fell from 184 to 95 GFLOP/s. A value that the user set is kept. */
  setenv("OMP_WAIT_POLICY", "passive", 0);
  const char* file = cpu_file(library);
  return file == nullptr ? nullptr : open_beside(file, "install liboribi_cpu*.so beside liboribi.so, and libgomp1", library);
}

void* open_cuda(Library& library) {
  return open_beside("liboribi_cuda.so", "build it with nvcc on the path (-DORIBI_CUDA=ON) and install it beside liboribi.so",
                     library);
}

/* The library of a device, loaded once; NULL when it is not there. A failure is tried again: a file may have appeared. */
void* library_of(oribi_device device) {
  Library& library = libraries[device];
  std::lock_guard<std::mutex> lock(library.mutex);
  if (library.handle == nullptr) library.handle = device == ORIBI_CPU ? open_cpu(library) : open_cuda(library);
  return library.handle;
}

/* One function of oribi.h in each device's library, looked up at its first use. */
template <class F>
class Symbol {
 public:
  explicit Symbol(const char* name) : name_(name) {}

  /* NULL when the library or the function is not there. */
  F* of(oribi_device device) {
    F* function = functions_[device].load(std::memory_order_acquire);
    if (function != nullptr) return function;
    void* library = library_of(device);
    if (library == nullptr) return nullptr;
    function = reinterpret_cast<F*>(dlsym(library, name_));
    functions_[device].store(function, std::memory_order_release);
    return function;
  }

 private:
  const char* name_;
  std::atomic<F*> functions_[kDevices]{};
};

/* What no device changes: of the CPU's library, or of the card's where that cannot be loaded. */
template <class F>
F* any_of(Symbol<F>& symbol) {
  F* function = symbol.of(ORIBI_CPU);
  return function != nullptr ? function : symbol.of(ORIBI_CUDA);
}

/* A table that both libraries hold. */
#define FORWARD_TABLE(name)                      \
  const float* name(void) {                      \
    static Symbol<decltype(name)> symbol(#name); \
    auto* function = any_of(symbol);             \
    return function ? function() : nullptr;      \
  }

oribi_status unsupported(oribi_ctx* ctx, const char* function) {
  return oribi::fail(ctx, ORIBI_UNSUPPORTED, "%s: not available on %s; run this model on the CPU", function,
                     ctx->device_name);
}

}  // namespace

#define FORWARD(name, parameters, arguments)                     \
  oribi_status name parameters {                                 \
    static Symbol<decltype(name)> symbol(#name);                 \
    if (ctx == nullptr) return ORIBI_INVALID_ARGUMENT;           \
    auto* function = symbol.of(ctx->device);                     \
    return function ? function arguments : unsupported(ctx, #name); \
  }

/* Sizes without a context are the same on every device: the CPU's library answers, or the card's where that cannot be loaded.
   -1: neither can. */
#define FORWARD_SIZE(name, parameters, arguments) \
  int64_t name parameters {                       \
    static Symbol<decltype(name)> symbol(#name);  \
    auto* function = any_of(symbol);              \
    return function ? function arguments : -1;    \
  }

extern "C" {

oribi_status oribi_ctx_create(oribi_ctx** ctx, oribi_device device, int32_t index, int32_t threads) {
  static Symbol<decltype(oribi_ctx_create)> create("oribi_ctx_create");
  static Symbol<decltype(oribi_create_message)> message("oribi_create_message");
  if (ctx == nullptr) return oribi::fail_create(ORIBI_INVALID_ARGUMENT, "oribi_ctx_create: ctx is NULL");
  *ctx = nullptr;
  if (device != ORIBI_CPU && device != ORIBI_CUDA) {
    return oribi::fail_create(ORIBI_INVALID_ARGUMENT, "oribi_ctx_create: device is %d, expected ORIBI_CPU or ORIBI_CUDA",
                              static_cast<int>(device));
  }
  auto* function = create.of(device);
  if (function == nullptr) {
    std::lock_guard<std::mutex> lock(libraries[device].mutex);
    return oribi::fail_create(ORIBI_NO_DEVICE, "oribi_ctx_create: %s", libraries[device].message);
  }
  const oribi_status status = function(ctx, device, index, threads);
  if (status != ORIBI_OK) oribi::fail_create(status, "%s", message.of(device)());
  return status;
}

void oribi_ctx_destroy(oribi_ctx* ctx) {
  static Symbol<decltype(oribi_ctx_destroy)> destroy("oribi_ctx_destroy");
  if (ctx != nullptr) destroy.of(ctx->device)(ctx);
}

FORWARD(oribi_ctx_synchronize, (oribi_ctx * ctx), (ctx))
FORWARD(oribi_ctx_keep_awake, (oribi_ctx * ctx, int32_t on), (ctx, on))

void* oribi_ctx_stream(const oribi_ctx* ctx) {
  static Symbol<decltype(oribi_ctx_stream)> symbol("oribi_ctx_stream");
  return ctx == nullptr || ctx->device == ORIBI_CPU ? nullptr : symbol.of(ctx->device)(ctx);
}

int32_t oribi_ctx_architecture(const oribi_ctx* ctx) {
  static Symbol<decltype(oribi_ctx_architecture)> symbol("oribi_ctx_architecture");
  return ctx == nullptr || ctx->device == ORIBI_CPU ? 0 : symbol.of(ctx->device)(ctx);
}

FORWARD(oribi_cast, (oribi_ctx * ctx, void* y, const void* x, int64_t count, oribi_dtype ty, oribi_dtype tx),
        (ctx, y, x, count, ty, tx))
FORWARD(oribi_cast_rows,
        (oribi_ctx * ctx, void* y, const void* x, int64_t rows, int64_t cols, int64_t ldy, int64_t ldx, oribi_dtype ty,
         oribi_dtype tx, int32_t accumulate),
        (ctx, y, x, rows, cols, ldy, ldx, ty, tx, accumulate))
FORWARD(oribi_add, (oribi_ctx * ctx, void* y, const void* a, const void* b, int64_t count, oribi_dtype t),
        (ctx, y, a, b, count, t))
FORWARD(oribi_scale,
        (oribi_ctx * ctx, void* y, const void* x, int64_t count, float scale, float softcap, oribi_dtype t),
        (ctx, y, x, count, scale, softcap, t))
FORWARD(oribi_bias_add,
        (oribi_ctx * ctx, void* y, const void* b, int64_t rows, int64_t cols, int64_t ld, oribi_dtype t),
        (ctx, y, b, rows, cols, ld, t))
FORWARD(oribi_bias_backward,
        (oribi_ctx * ctx, float* db, const void* dy, void* workspace, int64_t rows, int64_t cols, int64_t ld, oribi_dtype t),
        (ctx, db, dy, workspace, rows, cols, ld, t))
FORWARD_SIZE(oribi_bias_backward_workspace, (int64_t rows, int64_t cols), (rows, cols))
FORWARD(oribi_fill, (oribi_ctx * ctx, void* y, int64_t count, float value, oribi_dtype t), (ctx, y, count, value, t))
FORWARD(oribi_gather_rows,
        (oribi_ctx * ctx, void* y, const void* x, const int32_t* index, int64_t n, int64_t rows, int64_t c, int64_t ldy,
         int64_t ldx, oribi_dtype t),
        (ctx, y, x, index, n, rows, c, ldy, ldx, t))
FORWARD(oribi_scatter_rows,
        (oribi_ctx * ctx, void* y, const void* x, const int32_t* index, int64_t n, int64_t rows, int64_t c, int64_t ldy,
         int64_t ldx, oribi_dtype t),
        (ctx, y, x, index, n, rows, c, ldy, ldx, t))
FORWARD(oribi_random_uniform,
        (oribi_ctx * ctx, void* y, int64_t count, float low, float high, uint64_t seed, uint64_t stream, oribi_dtype t),
        (ctx, y, count, low, high, seed, stream, t))
FORWARD(oribi_random_normal,
        (oribi_ctx * ctx, void* y, int64_t count, float mean, float std, uint64_t seed, uint64_t stream, oribi_dtype t),
        (ctx, y, count, mean, std, seed, stream, t))
FORWARD(oribi_dropout,
        (oribi_ctx * ctx, void* y, const void* x, int64_t count, float p, uint64_t seed, uint64_t stream,
         int32_t accumulate, oribi_dtype t),
        (ctx, y, x, count, p, seed, stream, accumulate, t))

FORWARD(oribi_embedding_forward,
        (oribi_ctx * ctx, void* y, const void* table, const int32_t* ids, int64_t n, int64_t c, int64_t v, oribi_dtype t),
        (ctx, y, table, ids, n, c, v, t))
FORWARD(oribi_embedding_backward,
        (oribi_ctx * ctx, float* dtable, const void* dy, const int32_t* ids, int64_t n, int64_t c, int64_t v, oribi_dtype t),
        (ctx, dtable, dy, ids, n, c, v, t))

FORWARD(oribi_rms_norm_forward,
        (oribi_ctx * ctx, void* y, float* rstd, const void* x, const void* w, int64_t n, int64_t c, float eps,
         oribi_norm_weight weight, oribi_dtype t),
        (ctx, y, rstd, x, w, n, c, eps, weight, t))
FORWARD(oribi_add_rms_norm_forward,
        (oribi_ctx * ctx, void* r, void* y, float* rstd, const void* x, const void* delta, const void* w, int64_t n,
         int64_t c, float eps, oribi_norm_weight weight, oribi_dtype t),
        (ctx, r, y, rstd, x, delta, w, n, c, eps, weight, t))
FORWARD(oribi_rms_norm_backward,
        (oribi_ctx * ctx, void* dx, float* dw, const float* rstd, const void* dy, const void* x, const void* w,
         void* workspace, int64_t n, int64_t c, int32_t accumulate, oribi_norm_weight weight, oribi_dtype t),
        (ctx, dx, dw, rstd, dy, x, w, workspace, n, c, accumulate, weight, t))
FORWARD_SIZE(oribi_rms_norm_backward_workspace, (int64_t n, int64_t c), (n, c))

FORWARD(oribi_head_norm_forward,
        (oribi_ctx * ctx, void* y, float* rstd, const void* x, const void* w, const oribi_head_norm_shape* shape),
        (ctx, y, rstd, x, w, shape))
FORWARD(oribi_head_norm_backward,
        (oribi_ctx * ctx, void* dx, float* dw, const float* rstd, const void* dy, const void* x, const void* w,
         void* workspace, const oribi_head_norm_shape* shape),
        (ctx, dx, dw, rstd, dy, x, w, workspace, shape))
FORWARD_SIZE(oribi_head_norm_backward_workspace, (int64_t n, int64_t h, int64_t d), (n, h, d))

FORWARD(oribi_rope,
        (oribi_ctx * ctx, void* q, void* k, const float* cos, const float* sin, const int32_t* positions,
         const oribi_rope_shape* shape),
        (ctx, q, k, cos, sin, positions, shape))

FORWARD(oribi_glu_forward,
        (oribi_ctx * ctx, void* f, const void* gu, int64_t n, int64_t f_size, oribi_activation act, oribi_dtype t),
        (ctx, f, gu, n, f_size, act, t))
FORWARD(oribi_glu_backward,
        (oribi_ctx * ctx, void* dgu, void* f, const void* df, const void* gu, int64_t n, int64_t f_size, oribi_activation act,
         oribi_dtype t),
        (ctx, dgu, f, df, gu, n, f_size, act, t))

FORWARD(oribi_attention_forward,
        (oribi_ctx * ctx, void* o, float* lse, const void* q, const void* k, const void* v, void* workspace,
         const oribi_attention_shape* shape),
        (ctx, o, lse, q, k, v, workspace, shape))
FORWARD(oribi_attention_backward,
        (oribi_ctx * ctx, void* dq, void* dk, void* dv, const void* o, const float* lse, const void* d_o, const void* q,
         const void* k, const void* v, void* workspace, const oribi_attention_shape* shape),
        (ctx, dq, dk, dv, o, lse, d_o, q, k, v, workspace, shape))

int64_t oribi_attention_workspace(const oribi_ctx* ctx, const oribi_attention_shape* shape, int32_t backward) {
  static Symbol<decltype(oribi_attention_workspace)> symbol("oribi_attention_workspace");
  auto* function = ctx == nullptr ? nullptr : symbol.of(ctx->device);
  return function ? function(ctx, shape, backward) : -1;
}
FORWARD(oribi_packed_offsets,
        (oribi_ctx * ctx, int64_t* offsets, int32_t* lengths, const int32_t* cu_seqlens, const int64_t* strides,
         int64_t arrays, int64_t pitch, int64_t slots, int64_t sequences),
        (ctx, offsets, lengths, cu_seqlens, strides, arrays, pitch, slots, sequences))

FORWARD(oribi_latent_forward,
        (oribi_ctx * ctx, void* q, void* k, void* v, const void* kv, const void* k_rope, const float* cos, const float* sin,
         const int32_t* positions, const oribi_latent_shape* shape),
        (ctx, q, k, v, kv, k_rope, cos, sin, positions, shape))
FORWARD(oribi_latent_backward,
        (oribi_ctx * ctx, void* dq, void* dkv, void* dk_rope, const void* dk, const void* dv, const float* cos,
         const float* sin, const int32_t* positions, const oribi_latent_shape* shape),
        (ctx, dq, dkv, dk_rope, dk, dv, cos, sin, positions, shape))

FORWARD(oribi_cross_entropy,
        (oribi_ctx * ctx, void* dlogits, float* loss, const void* logits, const int32_t* labels, const float* grad_scale,
         int64_t n, int64_t v, float logit_scale, float softcap, oribi_dtype t),
        (ctx, dlogits, loss, logits, labels, grad_scale, n, v, logit_scale, softcap, t))

FORWARD(oribi_adamw,
        (oribi_ctx * ctx, float* p, void* p16, float* m, float* v, const float* g, const float* grad_scale,
         const oribi_adamw_hyper* hyper, int64_t count, oribi_dtype t16),
        (ctx, p, p16, m, v, g, grad_scale, hyper, count, t16))
FORWARD(oribi_adamw8,
        (oribi_ctx * ctx, float* p, void* p16, uint8_t* m8, uint8_t* v8, float* m_max, float* v_max, const float* g,
         const float* grad_scale, const oribi_adamw_hyper* hyper, int64_t count, oribi_dtype t16),
        (ctx, p, p16, m8, v8, m_max, v_max, g, grad_scale, hyper, count, t16))
FORWARD_TABLE(oribi_dynamic_map_signed)
FORWARD_TABLE(oribi_dynamic_map_unsigned)
FORWARD(oribi_sum_squares,
        (oribi_ctx * ctx, double* out, const float* x, void* workspace, int64_t count, int32_t accumulate),
        (ctx, out, x, workspace, count, accumulate))
FORWARD(oribi_sum, (oribi_ctx * ctx, double* out, const float* x, void* workspace, int64_t count, int32_t accumulate),
        (ctx, out, x, workspace, count, accumulate))
FORWARD_SIZE(oribi_sum_workspace, (int64_t count), (count))
FORWARD(oribi_clip_scale,
        (oribi_ctx * ctx, float* grad_scale, float* norm, const double* sum_squares, float max_norm),
        (ctx, grad_scale, norm, sum_squares, max_norm))

FORWARD(oribi_nf4_quantize,
        (oribi_ctx * ctx, const oribi_nf4* q, const void* w, void* workspace, int64_t count, oribi_dtype t),
        (ctx, q, w, workspace, count, t))
FORWARD_SIZE(oribi_nf4_workspace, (int64_t count), (count))
FORWARD(oribi_nf4_dequantize,
        (oribi_ctx * ctx, void* w, const oribi_nf4* q, int64_t rows, int64_t cols, int64_t ld, oribi_dtype t),
        (ctx, w, q, rows, cols, ld, t))

FORWARD(oribi_int8_quantize,
        (oribi_ctx * ctx, const oribi_int8* q, float* lost, float* all, const void* w, int64_t rows, int64_t cols, oribi_dtype t),
        (ctx, q, lost, all, w, rows, cols, t))
FORWARD(oribi_int8_dequantize,
        (oribi_ctx * ctx, void* w, const oribi_int8* q, int64_t rows, int64_t cols, int64_t ld, oribi_dtype t),
        (ctx, w, q, rows, cols, ld, t))

FORWARD(oribi_ggml_dequantize,
        (oribi_ctx * ctx, void* w, const void* blocks, int64_t rows, int64_t cols, int64_t ld, oribi_ggml_type type, oribi_dtype t),
        (ctx, w, blocks, rows, cols, ld, type, t))
FORWARD(oribi_ggml_embedding,
        (oribi_ctx * ctx, void* y, const void* table, const int32_t* ids, int64_t n, int64_t c, int64_t v, oribi_ggml_type type,
         oribi_dtype t),
        (ctx, y, table, ids, n, c, v, type, t))
FORWARD(oribi_ggml_matmul,
        (oribi_ctx * ctx, float* y, const float* x, const void* w, int64_t n, int64_t in, int64_t out, int64_t ld_x, int64_t ld_y,
         oribi_ggml_type type),
        (ctx, y, x, w, n, in, out, ld_x, ld_y, type))
FORWARD(oribi_ggml_matmul_q8,
        (oribi_ctx * ctx, float* y, const float* x, const void* w, int64_t n, int64_t in, int64_t out, int64_t ld_x, int64_t ld_y,
         oribi_ggml_type type),
        (ctx, y, x, w, n, in, out, ld_x, ld_y, type))

FORWARD(oribi_fp8_quantize,
        (oribi_ctx * ctx, const oribi_fp8* q, const void* x, int64_t rows, int64_t cols, int64_t ld, oribi_dtype t),
        (ctx, q, x, rows, cols, ld, t))
FORWARD(oribi_fp8_quantize_transposed,
        (oribi_ctx * ctx, const oribi_fp8* q, const void* x, int64_t rows, int64_t cols, int64_t ld, oribi_dtype t),
        (ctx, q, x, rows, cols, ld, t))

FORWARD(oribi_lora_matmul,
        (oribi_ctx * ctx, void* y, const void* x, const void* w, const oribi_nf4* nf4, const void* h, const void* b,
         const oribi_lora_shape* shape),
        (ctx, y, x, w, nf4, h, b, shape))
FORWARD(oribi_lora_matmul_dx,
        (oribi_ctx * ctx, void* dx, const void* dy, const void* w, const oribi_nf4* nf4, const void* g, const void* a,
         const oribi_lora_shape* shape),
        (ctx, dx, dy, w, nf4, g, a, shape))
FORWARD(oribi_lora_h,
        (oribi_ctx * ctx, void* h, const void* x, const void* a, void* workspace, const oribi_lora_shape* shape),
        (ctx, h, x, a, workspace, shape))
FORWARD(oribi_lora_forward,
        (oribi_ctx * ctx, void* y, void* h, const void* x, const void* w, const oribi_nf4* nf4, const void* a, const void* b,
         void* workspace, const oribi_lora_shape* shape),
        (ctx, y, h, x, w, nf4, a, b, workspace, shape))
FORWARD(oribi_lora_g_db,
        (oribi_ctx * ctx, void* g, float* db, const void* dy, const void* b, const void* h, void* workspace,
         const oribi_lora_shape* shape),
        (ctx, g, db, dy, b, h, workspace, shape))
FORWARD(oribi_lora_da,
        (oribi_ctx * ctx, float* da, const void* g, const void* x, void* workspace, const oribi_lora_shape* shape),
        (ctx, da, g, x, workspace, shape))

int64_t oribi_lora_workspace(const oribi_ctx* ctx, const oribi_lora_shape* shape) {
  static Symbol<decltype(oribi_lora_workspace)> symbol("oribi_lora_workspace");
  auto* function = ctx == nullptr ? nullptr : symbol.of(ctx->device);
  return function ? function(ctx, shape) : -1;
}

const char* oribi_lora_unsupported(oribi_ctx* ctx, const oribi_lora_shape* shape, int32_t nf4) {
  static Symbol<decltype(oribi_lora_unsupported)> symbol("oribi_lora_unsupported");
  auto* function = ctx == nullptr ? nullptr : symbol.of(ctx->device);
  return function ? function(ctx, shape, nf4) : "this device's library has no LoRA kernels";
}

FORWARD(oribi_router_forward,
        (oribi_ctx * ctx, int32_t* expert, float* weight, const void* logits, const float* bias,
         const oribi_router_shape* shape),
        (ctx, expert, weight, logits, bias, shape))
FORWARD(oribi_router_backward,
        (oribi_ctx * ctx, void* dlogits, const int32_t* expert, const float* dweight, const void* logits,
         const oribi_router_shape* shape),
        (ctx, dlogits, expert, dweight, logits, shape))
FORWARD(oribi_route,
        (oribi_ctx * ctx, int32_t* offsets, int32_t* pair, int32_t* token, int32_t* row, const int32_t* expert,
         void* workspace, int64_t n, int64_t k, int64_t experts),
        (ctx, offsets, pair, token, row, expert, workspace, n, k, experts))
FORWARD_SIZE(oribi_route_workspace, (int64_t n, int64_t k, int64_t experts), (n, k, experts))
FORWARD(oribi_unroute,
        (oribi_ctx * ctx, void* y, const void* x, const int32_t* row, int64_t n, int64_t k, int64_t c, int32_t accumulate,
         oribi_dtype t),
        (ctx, y, x, row, n, k, c, accumulate, t))
FORWARD(oribi_grouped_matmul,
        (oribi_ctx * ctx, void* y, const void* x, const void* w, const oribi_grouped_shape* shape), (ctx, y, x, w, shape))
FORWARD(oribi_grouped_matmul_dx,
        (oribi_ctx * ctx, void* dx, const void* dy, const void* w, const oribi_grouped_shape* shape),
        (ctx, dx, dy, w, shape))
FORWARD(oribi_grouped_matmul_dw,
        (oribi_ctx * ctx, float* dw, const void* dy, const void* x, const oribi_grouped_shape* shape),
        (ctx, dw, dy, x, shape))
FORWARD(oribi_weighted_glu_forward,
        (oribi_ctx * ctx, void* f, const void* gu, const float* weight, const int32_t* pair, int64_t n, int64_t f_size,
         oribi_activation act, oribi_dtype t),
        (ctx, f, gu, weight, pair, n, f_size, act, t))
FORWARD(oribi_weighted_glu_backward,
        (oribi_ctx * ctx, void* dgu, void* f, float* dweight, const void* df, const void* gu, const float* weight,
         const int32_t* pair, int64_t n, int64_t f_size, oribi_activation act, oribi_dtype t),
        (ctx, dgu, f, dweight, df, gu, weight, pair, n, f_size, act, t))

FORWARD(oribi_sample,
        (oribi_ctx * ctx, int32_t* token, const float* logits, const int32_t* seen, void* workspace, int64_t n, int64_t v,
         int64_t seen_count, const oribi_sample_options* options),
        (ctx, token, logits, seen, workspace, n, v, seen_count, options))
FORWARD_SIZE(oribi_sample_workspace, (int64_t n, int64_t v), (n, v))

}  // extern "C"
