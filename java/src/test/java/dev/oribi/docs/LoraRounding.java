package dev.oribi.docs;

import dev.oribi.device.Mem;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.Kernels;
import dev.oribi.layer.Linear;
import dev.oribi.layer.Parameters.Param;
import dev.oribi.model.Machine;
import dev.oribi.program.Buffer;
import dev.oribi.program.Buffer.Lifetime;
import dev.oribi.program.Buffer.Rows;
import dev.oribi.program.Emit;
import dev.oribi.program.Executor;
import dev.oribi.program.Op.Kind;
import dev.oribi.program.Plan;
import dev.oribi.program.Program;
import dev.oribi.program.Run;
import dev.oribi.program.View;
import java.util.List;
import java.util.Locale;

/**
 * Measures what each way to put the brackets of a LoRA layer rounds away, against double precision; prints the table of
 * docs/derivations/lora.md, which has the command. Products, sums and storage are those of a training step; "ours" is
 * {@link Linear} itself.
 */
public final class LoraRounding {
  private static final int N = 256;
  private static final int IN = 576;
  private static final int OUT = 1536;
  private static final int R = 16;
  private static final float SCALE = 2;
  private static final float STD_OF_W = 0.02f;
  private static final long SEED = 1;

  /** Sizes of the elements of B: AdamW moves each by about the learning rate, 2e-4, in a step. */
  private static final float[] SIZES_OF_B = {2e-4f, 2e-3f, 2e-2f};

  /** One way to compute the layer. */
  private record Way(String name, Buffer y, Buffer dx) {}

  private final Machine machine;
  private final DType type;
  private final Program program = new Program("lora_rounding");
  private final Emit emit;
  private final Buffer x;
  private final Buffer w;
  private final Buffer a;
  private final Buffer b;
  private final Buffer dy;
  private final Buffer inner;
  private final Buffer innerW;
  private final Buffer innerDy;
  private final Buffer innerWa;
  private final List<Way> ways;

  private LoraRounding(Machine machine, DType type) {
    this.machine = machine;
    this.type = type;
    this.emit = new Emit(program, new Emit.Sizes(N, N, 1, N, type, false, 0), machine.library());
    this.x = matrix("x", N, IN);
    this.w = matrix("w", OUT, IN);
    this.a = matrix("a", R, IN);
    this.b = matrix("b", OUT, R);
    this.dy = matrix("dy", N, OUT);
    this.inner = matrix("inner.x", N, IN + R);
    this.innerW = matrix("inner.w", OUT, IN + R);
    this.innerDy = matrix("inner.dy", N, OUT + R);
    this.innerWa = matrix("inner.wa", OUT + R, IN);
    this.ways = List.of(merged(), separate(), ours(), inner());
  }

  private Buffer matrix(String name, long rows, long cols) {
    return new Buffer(name, Lifetime.IO, type, Rows.FIXED, rows, cols);
  }

  /** x · (w + s·b·a)ᵀ, the sum rounded once */
  private Way merged() {
    Buffer sum = matrix("merged.w", OUT, IN);
    Buffer y = matrix("merged.y", N, OUT);
    Buffer dx = matrix("merged.dx", N, IN);
    emit.fill("merged", sum, 0);
    emit.add("merged", sum, sum, w);
    emit.matmulDx(Kind.LORA, "merged", View.of(sum), View.of(b), View.of(a), SCALE, 1);
    emit.matmul(Kind.MATMUL, "merged", View.of(y), View.of(x), View.of(sum), 1, 0);
    emit.matmulDx(Kind.MATMUL_DX, "merged", View.of(dx), View.of(dy), View.of(sum), 1, 0);
    return new Way("X(W + sBA)^\\top", y, dx);
  }

  /** x·wᵀ + s·(x·aᵀ)·bᵀ, each product and the sum stored */
  private Way separate() {
    Buffer h = matrix("separate.h", N, R);
    Buffer part = matrix("separate.part", N, OUT);
    Buffer y = matrix("separate.y", N, OUT);
    emit.matmul(Kind.MATMUL, "separate", View.of(y), View.of(x), View.of(w), 1, 0);
    emit.matmul(Kind.LORA, "separate", View.of(h), View.of(x), View.of(a), 1, 0);
    emit.matmul(Kind.LORA, "separate", View.of(part), View.of(h), View.of(b), SCALE, 0);
    emit.add("separate", y, y, part);
    Buffer g = matrix("separate.g", N, R);
    Buffer through = matrix("separate.through", N, IN);
    Buffer dx = matrix("separate.dx", N, IN);
    emit.matmulDx(Kind.MATMUL_DX, "separate", View.of(dx), View.of(dy), View.of(w), 1, 0);
    emit.matmulDx(Kind.LORA_DX, "separate", View.of(g), View.of(dy), View.of(b), SCALE, 0);
    emit.matmulDx(Kind.LORA_DX, "separate", View.of(through), View.of(g), View.of(a), 1, 0);
    emit.add("separate", dx, dx, through);
    return new Way("XW^\\top + s(XA^\\top)B^\\top", y, dx);
  }

  private Way ours() {
    Buffer y = matrix("ours.y", N, OUT);
    Buffer dx = matrix("ours.dx", N, IN);
    Param paramA = new Param(View.of(a), View.of(gradient("da", R, IN)));
    Param paramB = new Param(View.of(b), View.of(gradient("db", OUT, R)));
    Linear.Adapter adapter = new Linear.Adapter(0, OUT, 0, R, paramB, SCALE, 0);
    Linear linear = new Linear("ours", new Param(View.of(w), null), new Linear.Lora(paramA, paramB, List.of(adapter), 0));
    View h = View.of(linear.h(emit));
    linear.emitForward(emit, View.of(y), View.of(x), h);
    linear.emitDw(emit, View.of(dy), linear.emitDx(emit, View.of(dx), View.of(dy), h), View.of(x));
    return new Way("\\text{ours}", y, dx);
  }

  /** [x | s·h] · [w | b]ᵀ: one product and one rounding. Its operands are put side by side by {@link #fill}. */
  private Way inner() {
    Buffer y = matrix("inner.y", N, OUT);
    Buffer dx = matrix("inner.dx", N, IN);
    emit.matmul(Kind.LORA, "inner", View.of(inner).cols(IN, R), View.of(x), View.of(a), SCALE, 0);
    emit.matmul(Kind.MATMUL, "inner", View.of(y), View.of(inner), View.of(innerW), 1, 0);
    emit.matmulDx(Kind.LORA_DX, "inner", View.of(innerDy).cols(OUT, R), View.of(dy), View.of(b), SCALE, 0);
    emit.matmulDx(Kind.MATMUL_DX, "inner", View.of(dx), View.of(innerDy), View.of(innerWa), 1, 0);
    return new Way("[X \\mid sH][W \\mid B]^\\top", y, dx);
  }

  private static Buffer gradient(String name, long rows, long cols) {
    return new Buffer(name, Lifetime.GRADIENT, DType.F32, Rows.FIXED, rows, cols);
  }

  // --------------------------------------------------------------------------------------------------------- measuring

  private void measure() {
    try (Plan plan = new Plan(List.of(program), List.of())) {
      plan.take(machine.device(), "the measurement");
      for (float sizeOfB : SIZES_OF_B) {
        fill(sizeOfB);
        new Executor().run(program, new Run(machine.library(), N, N, 1, N, 0));
        print(sizeOfB);
      }
    }
  }

  private void fill(float sizeOfB) {
    Kernels k = machine.kernels();
    float bound = (float) (1 / Math.sqrt(IN));
    k.randomNormal(x.mem(), N * IN, 0, 1, SEED, 1, type);
    k.randomNormal(w.mem(), OUT * IN, 0, STD_OF_W, SEED, 2, type);
    k.randomUniform(a.mem(), R * IN, -bound, bound, SEED, 3, type);
    k.randomNormal(b.mem(), OUT * R, 0, sizeOfB, SEED, 4, type);
    k.randomNormal(dy.mem(), N * OUT, 0, 1, SEED, 5, type);
    copy(View.of(inner).cols(0, IN), x);
    copy(View.of(innerW).cols(0, IN), w);
    copy(View.of(innerW).cols(IN, R), b);
    copy(View.of(innerDy).cols(0, OUT), dy);
    copy(View.of(innerWa).rows(0, OUT), w);
    copy(View.of(innerWa).rows(OUT, R), a);
  }

  private void copy(View to, Buffer from) {
    machine.kernels().castRows(to.mem(), from.mem(), to.rows(), to.cols(), to.ld(), from.cols(), type, type, false);
  }

  private void print(float sizeOfB) {
    double[] base = product(read(x), read(w), true, N, IN, OUT);
    double[] update = product(product(read(x), read(a), true, N, IN, R), read(b), true, N, R, OUT);
    double[] baseDx = product(read(dy), read(w), false, N, OUT, IN);
    double[] updateDx = product(product(read(dy), read(b), false, N, OUT, R), read(a), false, N, R, IN);
    for (Way way : ways) {
      double[] y = read(way.y);
      double[] dx = read(way.dx);
      System.out.printf(
          Locale.ROOT, "| %s | %.0e | $%s$ | %.1e | %.3f | %.1e | %.3f |%n", type.label(), sizeOfB, way.name,
          error(y, base, update), arrives(y, base, update), error(dx, baseDx, updateDx), arrives(dx, baseDx, updateDx));
    }
  }

  /** Norm of the error over the norm of the exact result. */
  private static double error(double[] found, double[] base, double[] update) {
    double wrong = 0;
    double whole = 0;
    for (int i = 0; i < found.length; i++) {
      double exact = base[i] + SCALE * update[i];
      wrong += (found[i] - exact) * (found[i] - exact);
      whole += exact * exact;
    }
    return Math.sqrt(wrong / whole);
  }

  /** How much of the adapter's part is in the result: 1 is all of it, 0 is as if there were no adapter. */
  private static double arrives(double[] found, double[] base, double[] update) {
    double dot = 0;
    double whole = 0;
    for (int i = 0; i < found.length; i++) {
      double exact = SCALE * update[i];
      dot += (found[i] - base[i]) * exact;
      whole += exact * exact;
    }
    return dot / whole;
  }

  private double[] read(Buffer from) {
    int count = Math.toIntExact(from.rows() * from.cols());
    float[] values = new float[count];
    try (var wide = machine.device().allocate("a copy", 4L * count)) {
      Mem to = wide.all();
      machine.kernels().cast(to, from.mem(), count, DType.F32, type);
      machine.device().read(to, values, 0, count);
    }
    double[] exact = new double[count];
    for (int i = 0; i < count; i++) {
      exact[i] = values[i];
    }
    return exact;
  }

  /** a[m,k] · b[k,n] in double, or with b[n,k] transposed. */
  private static double[] product(double[] a, double[] b, boolean transposeB, int m, int k, int n) {
    double[] c = new double[m * n];
    for (int i = 0; i < m; i++) {
      for (int l = 0; l < k; l++) {
        for (int j = 0; j < n; j++) {
          c[i * n + j] += a[i * k + l] * (transposeB ? b[j * k + l] : b[l * n + j]);
        }
      }
    }
    return c;
  }

  public static void main(String[] args) {
    System.out.println("| storage | std of B | brackets | error of y | update in y | error of dx | update in dx |");
    System.out.println("|---|---|---|---|---|---|---|");
    try (Machine machine = Machine.cpu(0)) {
      for (DType type : List.of(DType.F32, DType.BF16)) {
        new LoraRounding(machine, type).measure();
      }
    }
  }
}
