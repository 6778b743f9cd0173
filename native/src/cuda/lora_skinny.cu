/*
 * Math        h = scale * x·Aᵀ;  g = scale * dy·B;  dB += dyᵀ·h;  dA += gᵀ·x
 * Shapes      x (N,in)  dy (N,out)  A, dA (R,in)  B, dB (sum of outs, rank)  h, g (N,R)
 * Layout      row-major; in, out, each adapter's columns and the row strides multiples of 8 elements
 * Precision   storage bf16 or fp16, dA and dB fp32; products on tensor cores with fp32 sums, rounded once at the end
 * Saved       nothing; h is kept by the caller
 * Writes      h =, g =, dB +=, dA +=
 * Determinism bit-exact on one GPU: partial sums lie in the workspace and are added in a fixed order, without atomics
 * Limits      no bf16 below sm_80; fp32 is not taken
 *
 * Each is bound by reading x or dy, and reads it once as long as R (of h and dA), or rank (of g and dB), is at most 64;
 * beyond, once for every 64. docs/derivations/lora.md counts the bytes.
 */
#include "cuda/lora_da.cuh"
#include "cuda/lora_g_db.cuh"
#include "cuda/lora_h.cuh"
#include "cuda/lora_support.cuh"

namespace oribi {
namespace {

using namespace lora;

constexpr int64_t kWidest = 64;     /* columns of h, or rows of dA, that one pass computes */
constexpr int64_t kWidestRank = 64; /* the same of g and dB */

/* Blocks of h and dA that share a processor. One alone waits at each barrier for its slowest warp. */
constexpr int64_t kBlocksEach = 2;
constexpr int kThreadsOfSums = 256;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

int64_t processors(const oribi_ctx* ctx) { return static_cast<const CudaContext*>(ctx)->processors; }

/* The columns of h that a block computes: all R of them, or equal parts of at most 64. */
int64_t chunks_of_width(int64_t width) { return ceil_div(width, kWidest); }
int64_t chunk_width(int64_t width) { return round_up(ceil_div(width, chunks_of_width(width)), 16); }

/* R as the workspace counts it: not less than the chunks together, and never less for a larger R. */
int64_t padded_width(int64_t width) { return width <= kWidest ? round_up(width, 16) : round_up(width, kWidest); }
int64_t padded_rank(int64_t rank) { return rank <= 16 ? 16 : rank <= 32 ? 32 : round_up(rank, kWidestRank); }

/* 512 columns of dy leave the fewer bytes of partial sums, but their stages and the sums of g take more than the 99 KB that a
   block has on sm_86 and sm_89, or the 64 KB of sm_75. Past rank 32 both are halved, as a warp's columns are. Code for sm_75
   takes the narrow ones on every card, so that a test of it on a larger card runs what sm_75 would. */
constexpr int kSharedForWide = 160 * 1024;
bool takes_wide(const oribi_ctx* ctx) { return lora_code(ctx) >= 80 && most_shared_memory(ctx) >= kSharedForWide; }
int64_t columns_of_units(const oribi_ctx* ctx, int64_t rank) { return (takes_wide(ctx) ? 512 : 256) / (rank <= 32 ? 1 : 2); }

int64_t units_of_g_db(const oribi_lora_shape& s, int64_t columns) {
  int64_t units = 0;
  for (int32_t p = 0; p < s.adapters; p++) units += ceil_div(s.outs[p], columns);
  return units;
}

int64_t workspace_floats_h(const oribi_ctx* ctx, const oribi_lora_shape& s) {
  return (kBlocksEach * processors(ctx) + ceil_div(s.n, 64)) * 64 * padded_width(lora_width(s));
}
int64_t workspace_floats_da(const oribi_ctx* ctx, const oribi_lora_shape& s) {
  return (kBlocksEach * processors(ctx) + ceil_div(s.in, 128)) * 128 * padded_width(lora_width(s));
}
int64_t slot_floats_g_db(const oribi_ctx* ctx, const oribi_lora_shape& s, int64_t columns) {
  return (processors(ctx) + units_of_g_db(s, columns)) * columns * padded_rank(s.rank);
}
int64_t workspace_floats_g_db(const oribi_ctx* ctx, const oribi_lora_shape& s) {
  const int64_t columns = columns_of_units(ctx, s.rank);
  return slot_floats_g_db(ctx, s, columns) + units_of_g_db(s, columns) * s.n * padded_rank(s.rank);
}

/* Stages that fit beside `fixed` bytes when `blocks` share a processor; at least the two that the loop needs. */
int stages_for(const oribi_ctx* ctx, int stage_bytes, int fixed, int blocks) {
  constexpr int kReserved = 1024; /* of each block, by CUDA */
  const int room = (most_shared_memory(ctx) + kReserved) / blocks - kReserved - fixed;
  const int stages = room / stage_bytes;
  return stages < 2 ? 2 : stages > kMostStages ? kMostStages : stages;
}

unsigned blocks_for(int64_t elements) { return static_cast<unsigned>(ceil_div(elements, 4 * kThreadsOfSums)); }

/* Launches the kernel that adds partial sums, while the one that leaves them still runs where the card can. */
template <class Arguments>
cudaError_t launch_sums(oribi_ctx* ctx, void (*kernel)(Arguments), const Arguments& at, int64_t elements) {
  return launch_dependent(ctx, kernel, blocks_for(elements), kThreadsOfSums, at);
}

template <class T, int kWidth>
cudaError_t launch_h(oribi_ctx* ctx, HArguments& at) {
  using P = HPolicy<T, kWidth>;
  at.split = make_split(ceil_div(at.n, P::kTokens), ceil_div(at.in, P::kDepth), kBlocksEach * processors(ctx));
  at.stages = stages_for(ctx, P::kStageBytes, 0, kBlocksEach);
  const cudaError_t error = allow_shared_memory<h_kernel<T, kWidth>>(ctx);
  if (error != cudaSuccess) return error;
  const dim3 grid(static_cast<unsigned>(at.split.blocks), static_cast<unsigned>(at.chunks));
  h_kernel<T, kWidth><<<grid, P::kThreads, at.stages * P::kStageBytes, stream_of(ctx)>>>(at);
  return launch_sums(ctx, h_sum_kernel<T, kWidth>, at, at.n * at.width);
}

template <class T, int kWidth>
cudaError_t launch_da(oribi_ctx* ctx, DaArguments& at) {
  using P = DaPolicy<T, kWidth>;
  at.split = make_split(ceil_div(at.in, P::kColumns), ceil_div(at.n, P::kTokens), kBlocksEach * processors(ctx));
  at.stages = stages_for(ctx, P::kStageBytes, 0, kBlocksEach);
  const cudaError_t error = allow_shared_memory<da_kernel<T, kWidth>>(ctx);
  if (error != cudaSuccess) return error;
  const dim3 grid(static_cast<unsigned>(at.split.blocks), static_cast<unsigned>(at.chunks));
  da_kernel<T, kWidth><<<grid, P::kThreads, at.stages * P::kStageBytes, stream_of(ctx)>>>(at);
  return launch_sums(ctx, da_sum_kernel<kWidth>, at, at.width * at.in);
}

template <class T, int kRank, int kColumns>
cudaError_t launch_g_db(oribi_ctx* ctx, GDbArguments& at) {
  using P = GDbPolicy<T, kRank, kColumns>;
  constexpr int kFixed = 2 * P::kSumFloats * static_cast<int>(sizeof(float));
  /* One block a processor: each further one would leave as many slots of dB again, and one has enough bytes under way. */
  at.stages = stages_for(ctx, P::kStageBytes, kFixed, 1);
  at.split = make_split(at.first_unit[at.adapters], ceil_div(at.n, P::kTokens), processors(ctx));
  const cudaError_t error = allow_shared_memory<g_db_kernel<T, kRank, kColumns>>(ctx);
  if (error != cudaSuccess) return error;
  const dim3 grid(static_cast<unsigned>(at.split.blocks), static_cast<unsigned>(at.chunks));
  g_db_kernel<T, kRank, kColumns><<<grid, P::kThreads, at.stages * P::kStageBytes + kFixed, stream_of(ctx)>>>(at);
  return launch_sums(ctx, g_db_sum_kernel<T, kRank, kColumns>, at, at.n * at.width + at.b_rows * at.rank);
}

/* f(element, Width<columns of h>) */
template <class F>
cudaError_t dispatch_width_of(oribi_dtype t, int64_t columns, F&& f) {
  const auto by_width = [&](auto type) {
    switch (columns) {
      case 16: return f(type, Width<16>{});
      case 32: return f(type, Width<32>{});
      case 48: return f(type, Width<48>{});
      default: return f(type, Width<64>{});
    }
  };
  return t == ORIBI_BF16 ? by_width(__nv_bfloat16{}) : by_width(__half{});
}

template <class T>
cudaError_t dispatch_g_db(oribi_ctx* ctx, GDbArguments& at) {
  const bool wide = takes_wide(ctx);
  if (at.rank <= 16) return wide ? launch_g_db<T, 16, 512>(ctx, at) : launch_g_db<T, 16, 256>(ctx, at);
  if (at.rank <= 32) return wide ? launch_g_db<T, 32, 512>(ctx, at) : launch_g_db<T, 32, 256>(ctx, at);
  return wide ? launch_g_db<T, 64, 256>(ctx, at) : launch_g_db<T, 64, 128>(ctx, at);
}

/* The checks that the three have in common; false: there is nothing to launch, and *status says why. */
bool ready(oribi_ctx* ctx, const char* function, Check& check, const oribi_lora_shape& s, const NamedArray& strided, oribi_status* status) {
  *status = check.status();
  if (!check.ok()) return false;
  *status = lora_supported(ctx, function, s, {strided});
  if (*status != ORIBI_OK || s.n * lora_width(s) == 0) return false;
  *status = select_device(ctx, function);
  return *status == ORIBI_OK;
}

/* The opening of h and dA, which both read x: the checks, and what their arguments have in common. False as above. */
template <class Arguments>
bool open_x(oribi_ctx* ctx, const char* function, const oribi_lora_shape* shape, const void* x, std::initializer_list<NamedArray> arrays,
            void* workspace, Arguments* at, oribi_status* status) {
  Check check(ctx, function);
  if (!check_lora_shape(check, shape)) {
    *status = check.status();
    return false;
  }
  const oribi_lora_shape& s = *shape;
  const int64_t adapted = s.n * lora_width(s);
  for (const NamedArray& array : arrays) check.pointer(array.name, array.data, adapted);
  check.pointer("x", x, adapted).pointer("workspace", workspace, adapted);
  if (!ready(ctx, function, check, s, {"x", x}, status)) return false;
  at->x = x;
  at->partials = static_cast<float*>(workspace);
  at->n = s.n;
  at->in = s.in;
  at->ld_x = s.ld_x;
  at->width = lora_width(s);
  at->chunks = static_cast<int>(chunks_of_width(at->width));
  return true;
}

oribi_status finish(oribi_ctx* ctx, const char* function, cudaError_t error) {
  return error != cudaSuccess ? cuda_status(ctx, function, error) : launch_status(ctx, function);
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_lora_h(oribi_ctx* ctx, void* h, const void* x, const void* a, void* workspace,
                                     const oribi_lora_shape* shape) {
  const char* const function = "oribi_lora_h";
  HArguments at{};
  oribi_status status;
  if (!open_x(ctx, function, shape, x, {{"h", h}, {"a", a}}, workspace, &at, &status)) return status;
  const oribi_lora_shape& s = *shape;
  at.a = a;
  at.h = h;
  at.rank = s.rank;
  for (int32_t p = 0; p < s.adapters; p++) at.scale[p] = s.scale[p];
  return finish(ctx, function, dispatch_width_of(s.t, chunk_width(at.width), [&](auto type, auto columns) {
    return launch_h<decltype(type), decltype(columns)::value>(ctx, at);
  }));
}

extern "C" oribi_status oribi_lora_da(oribi_ctx* ctx, float* da, const void* g, const void* x, void* workspace,
                                      const oribi_lora_shape* shape) {
  const char* const function = "oribi_lora_da";
  DaArguments at{};
  oribi_status status;
  if (!open_x(ctx, function, shape, x, {{"da", da}, {"g", g}}, workspace, &at, &status)) return status;
  at.g = g;
  at.da = da;
  return finish(ctx, function, dispatch_width_of(shape->t, chunk_width(at.width), [&](auto type, auto columns) {
    return launch_da<decltype(type), decltype(columns)::value>(ctx, at);
  }));
}

extern "C" oribi_status oribi_lora_g_db(oribi_ctx* ctx, void* g, float* db, const void* dy, const void* b, const void* h,
                                        void* workspace, const oribi_lora_shape* shape) {
  const char* const function = "oribi_lora_g_db";
  Check check(ctx, function);
  if (!check_lora_shape(check, shape)) return check.status();
  const oribi_lora_shape& s = *shape;
  const int64_t adapted = s.n * lora_width(s);
  check.pointer("g", g, adapted).pointer("db", db, adapted).pointer("dy", dy, adapted);
  check.pointer("b", b, adapted).pointer("h", h, adapted).pointer("workspace", workspace, adapted);
  oribi_status status;
  if (!ready(ctx, function, check, s, {"dy", dy}, &status)) return status;
  const int64_t columns = columns_of_units(ctx, s.rank);
  GDbArguments at{};
  at.dy = dy;
  at.b = b;
  at.h = h;
  at.g = g;
  at.db = db;
  at.slots = static_cast<float*>(workspace);
  at.partials = at.slots + slot_floats_g_db(ctx, s, columns);
  at.n = s.n;
  at.ld_y = s.ld_y;
  at.width = lora_width(s);
  at.rank = s.rank;
  at.b_rows = lora_b_row(s, s.adapters);
  at.adapters = s.adapters;
  at.chunks = static_cast<int>(ceil_div(s.rank, kWidestRank));
  for (int32_t p = 0; p < s.adapters; p++) {
    at.first_out[p] = s.first_out[p];
    at.outs[p] = s.outs[p];
    at.first_unit[p + 1] = at.first_unit[p] + ceil_div(s.outs[p], columns);
    at.first_row[p] = lora_b_row(s, p);
    at.scale[p] = s.scale[p];
  }
  return finish(ctx, function, s.t == ORIBI_BF16 ? dispatch_g_db<__nv_bfloat16>(ctx, at) : dispatch_g_db<__half>(ctx, at));
}

extern "C" int64_t oribi_lora_workspace(const oribi_ctx* ctx, const oribi_lora_shape* shape) {
  if (ctx == nullptr || shape == nullptr) return -1;
  const oribi_lora_shape& s = *shape;
  if (lora_width(s) <= 0 || s.n <= 0) return 0;
  int64_t floats = workspace_floats_h(ctx, s);
  for (int64_t other : {workspace_floats_da(ctx, s), workspace_floats_g_db(ctx, s)}) floats = other > floats ? other : floats;
  return floats * static_cast<int64_t>(sizeof(float));
}
