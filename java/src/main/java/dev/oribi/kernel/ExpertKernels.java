package dev.oribi.kernel;

import static dev.oribi.kernel.Kernels.f;
import static dev.oribi.kernel.Kernels.p;

import dev.oribi.device.Mem;
import dev.oribi.kernel.Kernels.Activation;
import dev.oribi.kernel.jni.OribiNative;
import dev.oribi.kernel.jni.oribi_ctx;
import dev.oribi.kernel.jni.oribi_grouped_shape;
import dev.oribi.kernel.jni.oribi_router_shape;
import org.bytedeco.javacpp.IntPointer;

/** The functions of {@code oribi.h} on routed experts, on the device of a {@link Kernels}. */
public final class ExpertKernels {
  /**
   * Which rows belong to which expert, and where rows are read.
   *
   * @param n rows
   * @param offsets [experts + 1]
   * @param xRow where each row of x is read; null: where it stands
   * @param yRow the same of dy
   */
  public record RowsOf(long n, Mem offsets, Mem xRow, Mem yRow) {}

  private final Kernels kernels;
  private final oribi_ctx ctx;

  ExpertKernels(Kernels kernels, oribi_ctx ctx) {
    this.kernels = kernels;
    this.ctx = ctx;
  }

  /** expert[n,k], weight[n,k] = from logits[n,E]; {@code bias} null: none. */
  public void routerForward(Mem expert, Mem weight, Mem logits, Mem bias, long n, RouterShape shape) {
    try (oribi_router_shape s = struct(n, shape)) {
      kernels.check(OribiNative.oribi_router_forward(ctx, i(expert), f(weight), p(logits), f(bias), s));
    }
  }

  /** dlogits[n,E] = */
  public void routerBackward(Mem dlogits, Mem expert, Mem dweight, Mem logits, long n, RouterShape shape) {
    try (oribi_router_shape s = struct(n, shape)) {
      kernels.check(OribiNative.oribi_router_backward(ctx, p(dlogits), i(expert), f(dweight), p(logits), s));
    }
  }

  /** offsets[E+1], pair[n*k], token[n*k], row[n*k] = */
  public void route(Mem offsets, Mem pair, Mem token, Mem row, Mem expert, Mem workspace, long n, long k, long experts) {
    kernels.check(
        OribiNative.oribi_route(ctx, i(offsets), i(pair), i(token), i(row), i(expert), p(workspace), n, k, experts));
  }

  public static long routeWorkspace(long n, long k, long experts) {
    NativeLibrary.load();
    return Kernels.size(OribiNative.oribi_route_workspace(n, k, experts));
  }

  /** y[n,c] = or += the sums of each token's k rows of x. */
  public void unroute(Mem y, Mem x, Mem row, long n, long k, long c, boolean accumulate, DType t) {
    kernels.check(OribiNative.oribi_unroute(ctx, p(y), p(x), i(row), n, k, c, accumulate ? 1 : 0, t.code()));
  }

  /** y = or += scale * x·Wᵀ of each row's expert. */
  public void matmul(Mem y, Mem x, Mem w, RowsOf rows, GroupedShape shape) {
    try (oribi_grouped_shape s = struct(rows, shape)) {
      kernels.check(OribiNative.oribi_grouped_matmul(ctx, p(y), p(x), p(w), s));
    }
  }

  /** dx = or += scale * dy·W of each row's expert. */
  public void matmulDx(Mem dx, Mem dy, Mem w, RowsOf rows, GroupedShape shape) {
    try (oribi_grouped_shape s = struct(rows, shape)) {
      kernels.check(OribiNative.oribi_grouped_matmul_dx(ctx, p(dx), p(dy), p(w), s));
    }
  }

  /** dW += scale * dyᵀ·x of each expert's rows, fp32. */
  public void matmulDw(Mem dw, Mem dy, Mem x, RowsOf rows, GroupedShape shape) {
    try (oribi_grouped_shape s = struct(rows, shape)) {
      kernels.check(OribiNative.oribi_grouped_matmul_dw(ctx, f(dw), p(dy), p(x), s));
    }
  }

  /** f[n,F] = weight * act(gate) * up */
  public void weightedGluForward(Mem f, Mem gu, Mem weight, Mem pair, long n, long size, Activation act, DType t) {
    kernels.check(
        OribiNative.oribi_weighted_glu_forward(ctx, p(f), p(gu), f(weight), i(pair), n, size, act.ordinal(), t.code()));
  }

  /** dgu =, dweight =, f = once more unless null; dgu may be gu, f may be df. */
  public void weightedGluBackward(
      Mem dgu, Mem f, Mem dweight, Mem df, Mem gu, Mem weight, Mem pair, long n, long size, Activation act, DType t) {
    kernels.check(
        OribiNative.oribi_weighted_glu_backward(
            ctx, p(dgu), p(f), f(dweight), p(df), p(gu), f(weight), i(pair), n, size, act.ordinal(), t.code()));
  }

  private static IntPointer i(Mem m) {
    return m == null ? null : m.ints();
  }

  private static oribi_router_shape struct(long n, RouterShape r) {
    oribi_router_shape s = new oribi_router_shape();
    s.n(n).experts(r.experts()).k(r.chosen()).groups(r.groups()).top_groups(r.topGroups()).group_best(r.groupBest());
    return s.score(r.score().ordinal()).normalize(r.normalize() ? 1 : 0).scale(r.scale()).t(r.type().code());
  }

  private static oribi_grouped_shape struct(RowsOf r, GroupedShape g) {
    oribi_grouped_shape s = new oribi_grouped_shape();
    s.n(r.n).experts(g.experts()).in(g.in()).out(g.out()).ld_x(g.ldX()).ld_y(g.ldY()).ld_w(g.ldW()).expert_w(g.expertW());
    s.offsets(i(r.offsets)).x_row(i(r.xRow)).y_row(i(r.yRow));
    return s.scale(g.scale()).accumulate(g.accumulate() ? 1 : 0).t(g.type().code());
  }
}
