/*
 * The entry points of the LoRA product and what its kernels have in common. Which kernel: that of sm_90a where it takes the
 * shape, and otherwise that of every card. The environment variable ORIBI_LORA_MATMUL=mma asks for the latter always, and
 * the name of a cut (lora_matmul_sm90_tiling.cu) for that cut of the former, so that each can be tested and timed; ORIBI_LORA_H
 * likewise asks oribi_lora_forward for a way to compute h (lora_h_sm90.cuh).
 */
#include <cstdlib>
#include <cstring>

#include "cuda/lora_matmul_mma.cuh"
#include "cuda/lora_support.cuh"
#if __has_include("cuda/lora_matmul_sm90.cuh")
#include "cuda/lora_h_sm90.cuh"
#define ORIBI_HAS_LORA_SM90
#endif

namespace oribi {
namespace {

/* What was compiled for the card is asked of a kernel that does nothing. */
__global__ void marker_kernel() {}

/* What the environment asks for: "" for the best. */
const char* wanted_kernel() {
  const char* wanted = std::getenv("ORIBI_LORA_MATMUL");
  return wanted == nullptr ? "" : wanted;
}

bool is_kernel(const char* name) {
#ifdef ORIBI_HAS_LORA_SM90
  if (lora_cut_named(name)) return true;
#endif
  return name[0] == '\0' || std::strcmp(name, "mma") == 0;
}

oribi_status matmul(oribi_ctx* ctx, const char* function, void* y, const void* x, const void* w, const oribi_nf4* nf4,
                    const void* h, const void* b, const oribi_lora_shape& shape, bool dx) {
  const char* const wanted = wanted_kernel();
  if (!is_kernel(wanted)) {
    return fail(ctx, ORIBI_INVALID_ARGUMENT, "%s: ORIBI_LORA_MATMUL is '%s', which is neither mma nor a cut such as 256x2", function, wanted);
  }
#ifdef ORIBI_HAS_LORA_SM90
  if (std::strcmp(wanted, "mma") != 0 && lora_matmul_sm90_takes(ctx, shape, dx, w == nullptr)) {
    return lora_matmul_sm90(ctx, function, y, x, w, nf4, h, b, shape, dx);
  }
#endif
  return lora_matmul_mma(ctx, function, y, x, w, nf4, h, b, shape, dx);
}

}  // namespace

int lora_code(const oribi_ctx* ctx) {
  constexpr int kCards = 64;
  static std::atomic<int> known[kCards];
  const int index = static_cast<const CudaContext*>(ctx)->index;
  int code = index < kCards ? known[index].load() : 0;
  if (code != 0) return code;
  int before = 0;
  cudaFuncAttributes attributes{};
  cudaGetDevice(&before);
  cudaSetDevice(index);
  const cudaError_t error = cudaFuncGetAttributes(&attributes, marker_kernel);
  cudaSetDevice(before);
  if (error != cudaSuccess) {
    cudaGetLastError(); /* the launch will tell what is wrong */
    return oribi_ctx_architecture(ctx);
  }
  code = attributes.ptxVersion;
  if (index < kCards) known[index].store(code);
  return code;
}

int most_shared_memory(const oribi_ctx* ctx) {
  int bytes = 0;
  cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, static_cast<const CudaContext*>(ctx)->index);
  return bytes;
}

oribi_status lora_supported(oribi_ctx* ctx, const char* function, const oribi_lora_shape& s, std::initializer_list<NamedArray> strided) {
  const auto number = [](int64_t x) { return static_cast<long long>(x); };
  if (s.t == ORIBI_F32) {
    return fail(ctx, ORIBI_UNSUPPORTED, "%s: a GPU has this product in bf16 and fp16, found fp32", function);
  }
  if (s.t == ORIBI_BF16 && lora_code(ctx) < 80) {
    return fail(ctx, ORIBI_UNSUPPORTED,
                "%s: bf16 needs compute capability 8.0 or newer and code for it; %s has %d.%d and the code is for %d.%d; use fp16",
                function, ctx->device_name, oribi_ctx_architecture(ctx) / 10, oribi_ctx_architecture(ctx) % 10,
                lora_code(ctx) / 10, lora_code(ctx) % 10);
  }
  const struct {
    const char* name;
    int64_t value;
  } sizes[] = {{"in", s.in}, {"out", s.out}, {"ld_x", s.ld_x}, {"ld_y", s.ld_y}};
  for (const auto& size : sizes) {
    if (size.value % 8 == 0) continue;
    return fail(ctx, ORIBI_UNSUPPORTED, "%s: %s is %lld, on a GPU a multiple of 8", function, size.name, number(size.value));
  }
  for (int32_t p = 0; p < s.adapters; p++) {
    if (s.first_out[p] % 8 == 0 && s.outs[p] % 8 == 0) continue;
    return fail(ctx, ORIBI_UNSUPPORTED, "%s: first_out and outs of adapter %d are %lld and %lld, on a GPU multiples of 8",
                function, p, number(s.first_out[p]), number(s.outs[p]));
  }
  for (const NamedArray& array : strided) {
    const int past = static_cast<int>(reinterpret_cast<uintptr_t>(array.data) % 16);
    if (past == 0) continue;
    return fail(ctx, ORIBI_UNSUPPORTED, "%s: %s begins %d bytes after a multiple of 16, on a GPU it must begin at one", function,
                array.name, past);
  }
  return ORIBI_OK;
}

}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_lora_matmul(oribi_ctx* ctx, void* y, const void* x, const void* w, const oribi_nf4* nf4,
                                          const void* h, const void* b, const oribi_lora_shape* shape) {
  const char* const function = "oribi_lora_matmul";
  Check check(ctx, function);
  if (!check_lora_shape(check, shape) || !check_lora_weight(check, w, nf4, *shape)) return check.status();
  const int64_t adapted = shape->n * lora_width(*shape);
  check.pointer("y", y, shape->n * shape->out).pointer("x", x, shape->n * shape->in);
  check.pointer("h", h, adapted).pointer("b", b, adapted);
  if (!check.ok()) return check.status();
  const oribi_status status = lora_supported(ctx, function, *shape, {{"y", y}, {"x", x}});
  return status != ORIBI_OK ? status : matmul(ctx, function, y, x, w, nf4, h, b, *shape, false);
}

extern "C" oribi_status oribi_lora_forward(oribi_ctx* ctx, void* y, void* h, const void* x, const void* w, const oribi_nf4* nf4,
                                           const void* a, const void* b, void* workspace, const oribi_lora_shape* shape) {
  const char* const function = "oribi_lora_forward";
  Check check(ctx, function);
  if (!check_lora_shape(check, shape) || !check_lora_weight(check, w, nf4, *shape)) return check.status();
  const oribi_lora_shape& s = *shape;
  const int64_t adapted = s.n * lora_width(s);
  check.pointer("y", y, s.n * s.out).pointer("h", h, adapted).pointer("x", x, s.n * s.in);
  check.pointer("a", a, adapted).pointer("b", b, adapted).pointer("workspace", workspace, adapted);
  if (!check.ok()) return check.status();
  oribi_status status = lora_supported(ctx, function, s, {{"y", y}, {"x", x}});
  if (status != ORIBI_OK) return status;
#ifdef ORIBI_HAS_LORA_SM90
  const char* const way = std::getenv("ORIBI_LORA_H");
  if (way != nullptr && way[0] != '\0' && !lora_h_way_named(way)) {
    return fail(ctx, ORIBI_INVALID_ARGUMENT, "%s: ORIBI_LORA_H is '%s', which is neither before nor tokens and blocks such as 128x16", function, way);
  }
  if (is_kernel(wanted_kernel()) && std::strcmp(wanted_kernel(), "mma") != 0 && lora_matmul_sm90_takes(ctx, s, false, w == nullptr)) {
    return lora_forward_sm90(ctx, function, y, h, x, w, nf4, a, b, workspace, s);
  }
#endif
  status = oribi_lora_h(ctx, h, x, a, workspace, shape);
  return status != ORIBI_OK ? status : oribi_lora_matmul(ctx, y, x, w, nf4, h, b, shape);
}

extern "C" oribi_status oribi_lora_matmul_dx(oribi_ctx* ctx, void* dx, const void* dy, const void* w, const oribi_nf4* nf4,
                                             const void* g, const void* a, const oribi_lora_shape* shape) {
  const char* const function = "oribi_lora_matmul_dx";
  Check check(ctx, function);
  if (!check_lora_shape(check, shape) || !check_lora_weight(check, w, nf4, *shape)) return check.status();
  const int64_t adapted = shape->n * lora_width(*shape);
  check.pointer("dx", dx, shape->n * shape->in).pointer("dy", dy, shape->n * shape->out);
  check.pointer("g", g, adapted).pointer("a", a, adapted);
  if (!check.ok()) return check.status();
  const oribi_status status = lora_supported(ctx, function, *shape, {{"dx", dx}, {"dy", dy}});
  return status != ORIBI_OK ? status : matmul(ctx, function, dx, dy, w, nf4, g, a, *shape, true);
}

extern "C" const char* oribi_lora_unsupported(oribi_ctx* ctx, const oribi_lora_shape* shape, int32_t nf4) {
  const char* const function = "oribi_lora_unsupported";
  Check check(ctx, function);
  if (!check_lora_shape(check, shape)) return oribi_ctx_message(ctx);
  check.that(nf4 == 0 || shape->in % 64 == 0, "in is %lld, expected a multiple of 64, the block of NF4",
             static_cast<long long>(shape->in));
  if (!check.ok()) return oribi_ctx_message(ctx);
  return lora_supported(ctx, function, *shape, {}) == ORIBI_OK ? nullptr : oribi_ctx_message(ctx);
}
