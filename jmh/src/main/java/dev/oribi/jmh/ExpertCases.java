package dev.oribi.jmh;

import dev.oribi.device.Mem;
import dev.oribi.jmh.Bench.Work;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.ExpertKernels;
import dev.oribi.kernel.GroupedShape;
import dev.oribi.kernel.Kernels.Activation;
import dev.oribi.kernel.LatentKernels.Strides;
import dev.oribi.kernel.LatentShape;
import dev.oribi.kernel.RouterShape;

/**
 * The kernels of models with routed experts and latent attention, with {@link Bench#n} tokens: on a GPU the experts of Qwen3-30B-A3B
 * and the heads of DeepSeek-V2-Lite, on a CPU fewer and smaller ones. The tokens' choices fill all experts alike.
 */
final class ExpertCases {
  private static final LatentShape HEADS = new LatentShape(16, 128, 64, 128, false);

  private ExpertCases() {}

  private static int experts() {
    return Sizes.gpu() ? 128 : 16;
  }

  private static int chosen() {
    return Sizes.gpu() ? 8 : 4;
  }

  private static int c() {
    return Sizes.gpu() ? 2048 : 576;
  }

  private static int f() {
    return Sizes.gpu() ? 768 : 256;
  }

  /** Rows of tokens for each of their experts. */
  private static int rows(Bench b) {
    return b.n * chosen();
  }

  static Work routerForward(Bench b) {
    RouterShape shape = RouterShape.softmax(experts(), chosen(), true);
    Mem logits = b.normals((long) b.n * experts(), DType.F32);
    Mem expert = b.raw(4L * rows(b));
    Mem weight = b.floats(rows(b), 0);
    return new Work(() -> b.kernels.experts().routerForward(expert, weight, logits, null, b.n, shape),
        4.0 * b.n * experts() + 8.0 * rows(b), 4.0 * b.n * experts());
  }

  static Work routerBackward(Bench b) {
    RouterShape shape = RouterShape.softmax(experts(), chosen(), true);
    Mem logits = b.normals((long) b.n * experts(), DType.F32);
    Mem dlogits = b.normals((long) b.n * experts(), DType.F32);
    Mem expert = b.counting(rows(b), experts());
    Mem dweight = b.normals(rows(b), DType.F32);
    return new Work(() -> b.kernels.experts().routerBackward(dlogits, expert, dweight, logits, b.n, shape),
        8.0 * b.n * experts() + 8.0 * rows(b), 6.0 * b.n * experts());
  }

  /** Which rows are whose, as {@code oribi_route} finds it. */
  private record Routing(Mem offsets, Mem pair, Mem token, Mem row, Runnable call) {
    static Routing of(Bench b) {
      long n = rows(b);
      Mem offsets = b.raw(4L * (experts() + 1));
      Mem pair = b.raw(4 * n);
      Mem token = b.raw(4 * n);
      Mem row = b.raw(4 * n);
      Mem expert = b.counting((int) n, experts());
      Mem space = b.raw(ExpertKernels.routeWorkspace(b.n, chosen(), experts()));
      Runnable call = () -> b.kernels.experts().route(offsets, pair, token, row, expert, space, b.n, chosen(), experts());
      call.run();
      return new Routing(offsets, pair, token, row, call);
    }
  }

  static Work route(Bench b) {
    return new Work(Routing.of(b).call(), 16.0 * rows(b), 0);
  }

  static Work unroute(Bench b) {
    Mem row = Routing.of(b).row();
    Mem x = b.normals((long) rows(b) * c());
    Mem y = b.normals((long) b.n * c());
    return new Work(() -> b.kernels.experts().unroute(y, x, row, b.n, chosen(), c(), false, b.type),
        (double) (rows(b) + b.n) * c() * b.type.bytes(), (double) rows(b) * c());
  }

  /** gate and up of every expert, in one product: from the tokens' rows, back to rows of pairs, and the weights' gradient. */
  static Work matmul(Bench b) {
    Grouped g = new Grouped(b);
    Mem w = b.normals(g.weights());
    ExpertKernels.RowsOf from = new ExpertKernels.RowsOf(rows(b), g.routing.offsets(), g.routing.token(), null);
    Mem x = b.normals((long) b.n * c());
    return g.work(() -> b.kernels.experts().matmul(g.y, x, w, from, g.shape(1, false)), b.type.bytes());
  }

  static Work matmulDx(Bench b) {
    Grouped g = new Grouped(b);
    Mem w = b.normals(g.weights());
    ExpertKernels.RowsOf own = new ExpertKernels.RowsOf(rows(b), g.routing.offsets(), null, null);
    Mem dx = b.normals((long) rows(b) * c());
    return g.work(() -> b.kernels.experts().matmulDx(dx, g.y, w, own, g.shape(1, false)), b.type.bytes());
  }

  static Work matmulDw(Bench b) {
    Grouped g = new Grouped(b);
    Mem dw = b.floats(g.weights(), 0);
    ExpertKernels.RowsOf from = new ExpertKernels.RowsOf(rows(b), g.routing.offsets(), g.routing.token(), null);
    Mem x = b.normals((long) b.n * c());
    return g.work(() -> b.kernels.experts().matmulDw(dw, g.y, x, from, g.shape(1, true)), 8);
  }

  /** What the three products share. */
  private static final class Grouped {
    private final Bench b;
    private final Routing routing;
    private final Mem y;

    Grouped(Bench b) {
      this.b = b;
      this.routing = Routing.of(b);
      this.y = b.normals((long) rows(b) * 2 * f());
    }

    long weights() {
      return 2L * experts() * f() * c();
    }

    GroupedShape shape(float scale, boolean accumulate) {
      return new GroupedShape(experts(), c(), 2L * f(), c(), 2L * f(), c(), 2L * f() * c(), scale, accumulate, b.type);
    }

    Work work(Runnable call, double weightBytes) {
      double moved = (double) b.type.bytes() * rows(b) * (c() + 2.0 * f());
      return new Work(call, moved + weightBytes * weights(), 4.0 * rows(b) * f() * c());
    }
  }

  static Work weightedGluForward(Bench b) {
    Mem pair = Routing.of(b).pair();
    Mem gu = b.normals(2L * rows(b) * f());
    Mem out = b.normals((long) rows(b) * f());
    Mem weight = b.floats(rows(b), 0.125f);
    return new Work(() -> b.kernels.experts().weightedGluForward(out, gu, weight, pair, rows(b), f(), Activation.SILU, b.type),
        3.0 * rows(b) * f() * b.type.bytes(), 7.0 * rows(b) * f());
  }

  static Work weightedGluBackward(Bench b) {
    Mem pair = Routing.of(b).pair();
    Mem gu = b.normals(2L * rows(b) * f());
    Mem dgu = b.normals(2L * rows(b) * f());
    Mem df = b.normals((long) rows(b) * f());
    Mem weight = b.floats(rows(b), 0.125f);
    Mem dweight = b.floats(rows(b), 0);
    return new Work(
        () -> b.kernels.experts().weightedGluBackward(dgu, null, dweight, df, gu, weight, pair, rows(b), f(), Activation.SILU, b.type),
        5.0 * rows(b) * f() * b.type.bytes(), 15.0 * rows(b) * f());
  }

  static Work latentForward(Bench b) {
    Latent l = new Latent(b);
    return l.work(() -> b.kernels.latent().forward(l.q, l.k, l.v, l.kv, l.rope, l.cos, l.sin, l.positions, b.n, b.n, HEADS, l.strides, b.type));
  }

  static Work latentBackward(Bench b) {
    Latent l = new Latent(b);
    return l.work(() -> b.kernels.latent().backward(l.q, l.kv, l.rope, l.k, l.v, l.cos, l.sin, l.positions, b.n, b.n, HEADS, l.strides, b.type));
  }

  private static final class Latent {
    private final Bench b;
    private final Mem q;
    private final Mem k;
    private final Mem v;
    private final Mem kv;
    private final Mem rope;
    private final Mem cos;
    private final Mem sin;
    private final Mem positions;
    private final Strides strides = new Strides(HEADS.q(), HEADS.kv(), HEADS.rope());

    Latent(Bench b) {
      this.b = b;
      q = b.normals(b.n * HEADS.q());
      k = b.normals(b.n * HEADS.q());
      v = b.normals(b.n * HEADS.q());
      kv = b.normals(b.n * HEADS.kv());
      rope = b.normals((long) b.n * HEADS.rope());
      cos = b.floats((long) b.n * HEADS.rope() / 2, 0.6f);
      sin = b.floats((long) b.n * HEADS.rope() / 2, 0.8f);
      positions = b.counting(b.n, b.n);
    }

    /** k, v and kv pass once, the rotated part of q twice, that of k once. */
    Work work(Runnable call) {
      double elements = 2.0 * HEADS.q() + HEADS.kv() + (2.0 * HEADS.heads() + 1) * HEADS.rope();
      return new Work(call, b.n * elements * b.type.bytes(), 3.0 * b.n * (HEADS.heads() + 1) * HEADS.rope());
    }
  }
}
