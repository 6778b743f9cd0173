/*
 * Math        for the rows i of each expert e:  y[i] = scale * x[x_row[i]]·W_eᵀ;  dx[i] = scale * dy[y_row[i]]·W_e
 *             dW_e = scale * sum over i of dy[y_row[i]]ᵀ·x[x_row[i]]
 * Shapes      x, dx (n,in)  y, dy (n,out)  W, dW (E,out,in)  offsets (E+1)  x_row, y_row (n)
 * Layout      row-major with strides; bf16 and fp16 whose sizes, strides and beginnings are multiples of 8 elements go to the
 *             tensor cores, all else to a plain kernel, some twenty times slower. On sm_90 those with a side of more than 64 take
 *             the kernels of grouped_sm90.cu; the environment variable ORIBI_GROUPED=mma asks for those of every card, so that
 *             they can be tested and timed there
 * Precision   storage fp32, bf16 or fp16, dW fp32; sums fp32, with what is added to, rounded once
 * Saved       nothing
 * Writes      y = or +=, dx = or +=, dW +=
 * Determinism bit-exact on one GPU: an element is summed by one thread, or one warp's mma.sync, in the order of the steps; the
 *             host does not learn how many rows an expert has, so that a call can be captured
 * Limits      as many tiles as a grid holds; more returns UNSUPPORTED. Below sm_80 bf16 takes the plain kernel
 */
#include <cstdlib>
#include <cstring>

#include "cuda/elementwise.cuh"
#include "cuda/grouped_sm90.cuh"
#include "cuda/lora_support.cuh"

namespace oribi {
namespace {

using grouped::Arguments;

/* The arguments that a shape gives to every form. */
Arguments arguments_of(const oribi_grouped_shape& s) {
  Arguments at{};
  at.offsets = s.offsets;
  at.ld_right = at.ld_out = s.ld_w;
  at.expert_w = s.expert_w;
  at.scale = s.scale;
  at.experts = static_cast<int>(s.experts);
  at.accumulate = s.accumulate != 0;
  return at;
}

oribi_status launch(oribi_ctx* ctx, const char* function, const Arguments& at, const oribi_grouped_shape& s, Grouped form) {
  if (s.n == 0) return ORIBI_OK;
  const oribi_status status = select_device(ctx, function);
  if (status != ORIBI_OK) return status;
  const bool eights = (s.in | s.out | s.ld_x | s.ld_y | s.ld_w | s.expert_w) % 8 == 0 && aligned({at.out, at.left, at.right});
  const bool cores = s.t == ORIBI_F16 || (s.t == ORIBI_BF16 && lora_code(ctx) >= 80);
  const char* const wanted = std::getenv("ORIBI_GROUPED");
  const bool every = wanted != nullptr && wanted[0] != '\0';
  if (every && std::strcmp(wanted, "mma") != 0) {
    return fail(ctx, ORIBI_INVALID_ARGUMENT, "%s: ORIBI_GROUPED is '%s', expected mma or nothing", function, wanted);
  }
  if (!eights || !cores) return grouped::launch_plain(ctx, function, at, s.n, form, s.t);
  if (!every && grouped::sm90_takes(ctx, at, s.n, form)) return grouped::launch_sm90(ctx, function, at, s.n, form, s.t);
  return grouped::launch_mma(ctx, function, at, s.n, form, s.t);
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_grouped_matmul(oribi_ctx* ctx, void* y, const void* x, const void* w,
                                             const oribi_grouped_shape* shape) {
  const char* const function = "oribi_grouped_matmul";
  Check check(ctx, function);
  if (!check_grouped(check, shape, Grouped::kForward)) return check.status();
  const oribi_grouped_shape& s = *shape;
  if (!check.pointer("y", y, s.n).pointer("x", x, s.n).pointer("w", w, s.n).ok()) return check.status();
  Arguments at = arguments_of(s);
  at.out = y, at.left = x, at.right = w, at.left_row = s.x_row;
  at.ld_left = s.ld_x, at.ld_out = s.ld_y, at.columns = s.out, at.inner = s.in;
  return launch(ctx, function, at, s, Grouped::kForward);
}

extern "C" oribi_status oribi_grouped_matmul_dx(oribi_ctx* ctx, void* dx, const void* dy, const void* w,
                                                const oribi_grouped_shape* shape) {
  const char* const function = "oribi_grouped_matmul_dx";
  Check check(ctx, function);
  if (!check_grouped(check, shape, Grouped::kDx)) return check.status();
  const oribi_grouped_shape& s = *shape;
  if (!check.pointer("dx", dx, s.n).pointer("dy", dy, s.n).pointer("w", w, s.n).ok()) return check.status();
  Arguments at = arguments_of(s);
  at.out = dx, at.left = dy, at.right = w, at.left_row = s.y_row;
  at.ld_left = s.ld_y, at.ld_out = s.ld_x, at.columns = s.in, at.inner = s.out;
  return launch(ctx, function, at, s, Grouped::kDx);
}

/* A thin side, a LoRA rank, becomes the tile's columns, for which there are thin tiles; otherwise dW is added to as it lies:
   the transposed way writes it in pieces of 32 bytes. */
extern "C" oribi_status oribi_grouped_matmul_dw(oribi_ctx* ctx, float* dw, const void* dy, const void* x,
                                                const oribi_grouped_shape* shape) {
  const char* const function = "oribi_grouped_matmul_dw";
  Check check(ctx, function);
  if (!check_grouped(check, shape, Grouped::kDw)) return check.status();
  const oribi_grouped_shape& s = *shape;
  if (!check.pointer("dw", dw, s.n).pointer("dy", dy, s.n).pointer("x", x, s.n).ok()) return check.status();
  Arguments at = arguments_of(s);
  at.out = dw, at.transposed = s.out < s.in && s.out <= grouped::kMostThin;
  at.left = at.transposed ? x : dy, at.left_row = at.transposed ? s.x_row : s.y_row;
  at.ld_left = at.transposed ? s.ld_x : s.ld_y, at.rows = at.transposed ? s.in : s.out;
  at.right = at.transposed ? dy : x, at.right_row = at.transposed ? s.y_row : s.x_row;
  at.ld_right = at.transposed ? s.ld_y : s.ld_x, at.columns = at.transposed ? s.out : s.in;
  return launch(ctx, function, at, s, Grouped::kDw);
}
