package dev.oribi.layer;

import static org.assertj.core.api.Assertions.assertThat;

import dev.oribi.device.Device;
import dev.oribi.device.Mem;
import dev.oribi.io.Half;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.LoraKernels;
import dev.oribi.kernel.Nf4;
import dev.oribi.layer.Linear.Adapter;
import dev.oribi.layer.Linear.Lora;
import dev.oribi.layer.Parameters.Param;
import dev.oribi.model.Machine;
import dev.oribi.program.Buffer;
import dev.oribi.program.Buffer.Lifetime;
import dev.oribi.program.Buffer.Rows;
import dev.oribi.program.Copies;
import dev.oribi.program.Emit;
import dev.oribi.program.Executor;
import dev.oribi.program.Fp8Matrix;
import dev.oribi.program.FrozenStack;
import dev.oribi.program.Op;
import dev.oribi.program.Op.Kind;
import dev.oribi.program.Plan;
import dev.oribi.program.Program;
import dev.oribi.program.Run;
import dev.oribi.program.View;
import dev.oribi.testing.Fp8Gemm;
import dev.oribi.testing.Fp8Reference;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.TestFactory;

/**
 * One stack of projections in FP8, forward and backward, against the same in double on what e4m3 makes of x, W, dy and the columns
 * of W: y and dx have the rounding of the products, h, g, dA and dB none of it. Next to it, how far FP8 is from the plain layer.
 */
class Fp8LinearTest {
  private static final int IN = 96;
  private static final int[] OUTS = {64, 16, 48};
  private static final int OUT = 128;
  private static final int RANK = 8;
  private static final float SCALE = 2;

  /** Rows that are planned, and rows of the run: the last tile of 16 is cut. */
  private static final int PLANNED = 48;

  private static final int N = 41;

  /** fp32: sums in another order. bf16: roundings of operands and results, of the size of the largest. */
  private static final double FLOAT32 = 1e-5;

  private static final double BFLOAT16 = 2e-2;

  /**
   * FP8's own error, of norms: x and W, or dy and W, are each off by 2.65 % of their rms where numbers are normal, and by as much
   * independently, so that a product is off by 3.75 %. The adapters' part has no error and makes it smaller.
   */
  private static final double LEAST_OFF = 0.02;

  private static final double MOST_OFF = 0.0425;

  private record Case(String name, String paths, List<Integer> adapted, boolean in4Bits, boolean tiles) {}

  @AfterEach
  void clear() {
    System.clearProperty("oribi.lora");
  }

  @TestFactory
  Stream<DynamicTest> forwardAndBackward() {
    List<Integer> all = List.of(0, 1, 2);
    return Stream.of(
        new Case("every projection adapted, fused kernels", "fused", all, false, false),
        new Case("every projection adapted, products one by one", "separate", all, false, false),
        new Case("some adapted, fused kernels", "fused", List.of(0, 2), false, false),
        new Case("some adapted, products one by one", "separate", List.of(1), false, false),
        new Case("none adapted", "auto", List.of(), false, false),
        new Case("tiles of tokens", "fused", all, false, true),
        new Case("a copy of 4 bits", "fused", all, true, false),
        new Case("a copy of 4 bits, products one by one, tiles", "separate", all, true, true))
        .map(c -> DynamicTest.dynamicTest(c.name, () -> check(c)));
  }

  private static void check(Case c) {
    System.setProperty("oribi.lora", c.paths);
    try (Machine machine = Fp8Gemm.open()) {
      new Layer(machine, c).check();
    }
  }

  /** The layer of a case, written, run and compared. */
  private static final class Layer {
    private final Machine machine;
    private final Case c;
    private final DType type;
    private final Parameters parameters;
    private final Param weight;
    private final Lora lora;
    private final Buffer x;
    private final Buffer y;
    private final Buffer dy;
    private final Buffer dx;
    private final Random random = new Random(3);

    Layer(Machine machine, Case c) {
      this.machine = machine;
      this.c = c;
      type = machine.isCuda() ? DType.BF16 : DType.F32;
      parameters = new Parameters(type);
      long[] rows = {OUTS[0], OUTS[1], OUTS[2]};
      List<String> names = List.of("a.weight", "b.weight", "c.weight");
      weight = c.in4Bits
          ? parameters.stackIn4Bits(names, rows, IN, new boolean[] {true, true, true})
          : parameters.stackInFp8(names, rows, IN);
      lora = c.adapted.isEmpty() ? null : lora();
      x = io("x", IN);
      y = io("y", OUT);
      dy = io("dy", OUT);
      dx = io("dx", IN);
    }

    private Buffer io(String name, int cols) {
      return new Buffer(name, Lifetime.IO, type, Rows.TOKENS, PLANNED, cols);
    }

    private Lora lora() {
      long[] ranks = c.adapted.stream().mapToLong(i -> RANK).toArray();
      long[] outs = c.adapted.stream().mapToLong(i -> OUTS[i]).toArray();
      List<String> ofA = c.adapted.stream().map(i -> "A" + i).toList();
      List<String> ofB = c.adapted.stream().map(i -> "B" + i).toList();
      Param a = parameters.stack(ofA, ranks, IN, false, true, true);
      Param b = parameters.stack(ofB, outs, RANK, false, true, true);
      List<Adapter> adapters = new ArrayList<>();
      long at = 0;
      for (int p = 0; p < c.adapted.size(); p++) {
        int i = c.adapted.get(p);
        adapters.add(new Adapter(first(i), OUTS[i], (long) p * RANK, RANK, b.rows(at, OUTS[i]), SCALE, p));
        at += OUTS[i];
      }
      return new Lora(a, b, adapters, 0);
    }

    private static int first(int projection) {
      return projection == 0 ? 0 : projection == 1 ? OUTS[0] : OUTS[0] + OUTS[1];
    }

    private List<View> pieces(Buffer b) {
      List<View> all = new ArrayList<>();
      int rows = c.tiles ? 16 : PLANNED;
      for (int at = 0; at < PLANNED; at += rows) {
        all.add(View.of(b).rows(at, rows));
      }
      return all;
    }

    void check() {
      Program unpack = new Program("unpack");
      Program program = new Program("layer");
      Emit.Sizes sizes = new Emit.Sizes(PLANNED, PLANNED, 1, PLANNED, type, false, 0);
      Emit.Library library = machine.library();
      Copies copies = new Copies();
      if (c.in4Bits) {
        new Emit(unpack, sizes, library).lora().copy("layer", weight.frozen(), true, copies);
      }
      Emit e = new Emit(program, sizes, library, copies);
      Linear layer = new Linear("layer", weight, lora);
      Buffer h = layer.h(e);
      for (int i = 0; i < pieces(x).size(); i++) {
        View tile = pieces(x).get(i);
        View ofTile = h == null ? null : View.of(h).rows(tile.firstRow(), tile.rows());
        layer.emitForward(e, pieces(y).get(i), tile, ofTile);
        View g = layer.emitDx(e, pieces(dx).get(i), pieces(dy).get(i), ofTile);
        layer.emitDw(e, pieces(dy).get(i), g, tile);
      }
      assertOps(program);
      try (Plan plan = new Plan(List.of(program, unpack), parameters.buffers(), 1 << 20);
          Executor executor = new Executor()) {
        plan.take(machine.device(), "a test");
        float[] w = fillWeight(plan);
        float[] a = trained("A", lora == null ? 0 : c.adapted.size() * RANK * IN, 1 / Math.sqrt(IN));
        float[] b = trained("B", lora == null ? 0 : rowsOfB() * RANK, 0.1);
        float[] inputs = write(x, values(N * IN, 1));
        float[] gradients = write(dy, values(N * OUT, 1e-3));
        executor.run(unpack, Run.fixed(library));
        executor.run(program, new Run(library, N, N, 1, N, 0));
        compare(copies, w, a, b, inputs, gradients);
      }
    }

    private void assertOps(Program program) {
      long products = program.ops().stream().map(Op::kind).filter(k -> k == Kind.FP8_MATMUL || k == Kind.FP8_MATMUL_DX).count();
      assertThat(products).isEqualTo(2L * pieces(x).size());
      assertThat(program.ops()).noneMatch(op -> List.of(Kind.MATMUL, Kind.MATMUL_DX, Kind.DEQUANTIZE, Kind.LORA_FORWARD, Kind.LORA_MATMUL).contains(op.kind()));
    }

    private int rowsOfB() {
      return c.adapted.stream().mapToInt(i -> OUTS[i]).sum();
    }

    /** The weight, in 4 bits or as both forms in FP8; what it is before it is rounded to FP8. */
    private float[] fillWeight(Plan plan) {
      float[] w = values(OUT * IN, 1 / Math.sqrt(IN));
      if (!c.in4Bits) {
        Fp8Matrix q = weight.inFp8();
        device().write(plan.shared().slice(0, 4L * w.length), w, 0, w.length);
        machine.kernels().fp8().quantize(q.place(), plan.shared(), OUT, IN, IN, DType.F32);
        machine.kernels().fp8().quantizeTransposed(q.turned(), plan.shared(), OUT, IN, IN, DType.F32);
        machine.kernels().synchronize();
        return w;
      }
      int at = 0;
      for (FrozenStack.Part part : weight.frozen().parts()) {
        int count = (int) part.rows() * IN;
        float[] own = Arrays.copyOfRange(w, at, at + count);
        device().write(plan.shared().slice(0, 4L * count), own, 0, count);
        machine.kernels().lora().nf4Quantize(
            part.nf4().place(), plan.shared(), plan.shared().slice(1 << 19, LoraKernels.nf4Workspace(count)), count, DType.F32);
        machine.kernels().synchronize();
        Mem back = plan.shared().slice(0, (long) type.bytes() * count);
        machine.kernels().lora().nf4Dequantize(back, part.nf4().place(), part.rows() * IN / Nf4.BLOCK, Nf4.BLOCK, Nf4.BLOCK, type);
        System.arraycopy(read(back, count), 0, w, at, count);
        at += count;
      }
      return w;
    }

    private Device device() {
      return machine.device();
    }

    private float rounded(float v) {
      return type == DType.F32 ? v : Half.fromBf16(Half.toBf16(v));
    }

    private float[] values(int count, double std) {
      float[] all = new float[count];
      for (int i = 0; i < count; i++) {
        all[i] = rounded((float) (std * random.nextGaussian()));
      }
      return all;
    }

    /** All tensors whose names begin so, which lie one after the other; their gradients are 0. */
    private float[] trained(String name, int count, double std) {
      float[] all = values(count, std);
      int at = 0;
      for (Parameters.Tensor t : parameters.trainable()) {
        if (t.name().startsWith(name)) {
          int n = (int) t.elements();
          device().write(t.part(t.group().value()).mem(), all, at, n);
          device().write(t.part(t.group().grad()).mem(), new float[n], 0, n);
          if (t.group().value16() != null) {
            machine.kernels().cast(t.part(t.group().value16()).mem(), t.part(t.group().value()).mem(), n, type, DType.F32);
          }
          at += n;
        }
      }
      return all;
    }

    private float[] write(Buffer to, float[] values) {
      if (type == DType.F32) {
        device().write(to.mem(), values, 0, values.length);
        return values;
      }
      ByteBuffer half = ByteBuffer.allocateDirect(2 * values.length).order(ByteOrder.nativeOrder());
      for (float v : values) {
        half.putShort(Half.toBf16(v));
      }
      device().write(to.mem(), half.flip());
      return values;
    }

    private float[] read(Mem from, int count) {
      float[] all = new float[count];
      if (type == DType.F32) {
        device().read(from, all, 0, count);
        return all;
      }
      ByteBuffer half = ByteBuffer.allocateDirect(2 * count).order(ByteOrder.nativeOrder());
      device().read(from.slice(0, 2L * count), half);
      half.flip();
      for (int i = 0; i < count; i++) {
        all[i] = Half.fromBf16(half.getShort());
      }
      return all;
    }

    private void compare(Copies copies, float[] w, float[] a, float[] b, float[] in, float[] gradients) {
      Fp8Matrix q = c.in4Bits ? copies.fp8(weight.frozen()) : weight.inFp8();
      double[] rows = Fp8Reference.roundTrip(w, IN);
      double[] columns = Fp8Reference.roundTrip(turned(w, OUT, IN), OUT);
      assertThat(Arrays.equals(Fp8Reference.read(device(), q.place(), OUT, IN), rows)).as("rows").isTrue();
      assertThat(Arrays.equals(Fp8Reference.read(device(), q.turned(), IN, OUT), columns)).as("columns").isTrue();
      Expected plain = new Expected(wide(w), wide(turned(w, OUT, IN)), wide(in), wide(gradients), a, b);
      Expected fp8 = new Expected(
          rows, columns, Fp8Reference.roundTrip(in, IN), Fp8Reference.roundTrip(gradients, OUT), a, b, wide(in), wide(gradients));
      double[] foundY = wide(read(y.mem(), N * OUT));
      double[] foundDx = wide(read(dx.mem(), N * IN));
      double limit = type == DType.F32 ? FLOAT32 : BFLOAT16;
      System.out.printf("%s: y off by %.1e, dx by %.1e of the largest; against the plain layer %.2f %%, %.2f %%%n", c.name,
          largest(foundY, fp8.y), largest(foundDx, fp8.dx), 100 * norm(foundY, plain.y), 100 * norm(foundDx, plain.dx));
      assertThat(largest(foundY, fp8.y)).as("y").isLessThanOrEqualTo(limit);
      assertThat(largest(foundDx, fp8.dx)).as("dx").isLessThanOrEqualTo(limit);
      assertThat(norm(foundY, plain.y)).as("y against the plain layer").isBetween(LEAST_OFF, MOST_OFF);
      assertThat(norm(foundDx, plain.dx)).as("dx against the plain layer").isBetween(LEAST_OFF, MOST_OFF);
      if (lora != null) {
        assertThat(largest(gradient("A", a.length), plain.da)).as("dA").isLessThanOrEqualTo(limit);
        assertThat(largest(gradient("B", b.length), plain.db)).as("dB").isLessThanOrEqualTo(limit);
      }
    }

    private double[] gradient(String name, int count) {
      double[] all = new double[count];
      int at = 0;
      for (Parameters.Tensor t : parameters.trainable()) {
        if (t.name().startsWith(name)) {
          float[] values = new float[(int) t.elements()];
          device().read(t.part(t.group().grad()).mem(), values, 0, values.length);
          for (float v : values) {
            all[at++] = v;
          }
        }
      }
      return all;
    }

    /** The layer in double. {@code w[OUT,IN]} and {@code wt[IN,OUT]} may be rounded differently. */
    private final class Expected {
      final double[] y;
      final double[] dx;
      final double[] da;
      final double[] db;

      Expected(double[] w, double[] wt, double[] x, double[] dy, float[] a, float[] b) {
        this(w, wt, x, dy, a, b, x, dy);
      }

      /** {@code x} and {@code dy} are what W is multiplied by; the adapters read the other two. */
      Expected(double[] w, double[] wt, double[] x, double[] dy, float[] a, float[] b, double[] plainX, double[] plainDy) {
        y = product(x, w, N, OUT, IN);
        dx = product(dy, wt, N, IN, OUT);
        da = new double[a.length];
        db = new double[b.length];
        int rowOfB = 0;
        for (int p = 0; p < c.adapted.size(); p++) {
          int first = first(c.adapted.get(p));
          int outs = OUTS[c.adapted.get(p)];
          for (int n = 0; n < N; n++) {
            for (int r = 0; r < RANK; r++) {
              adapt(a, b, plainX, plainDy, p * RANK + r, rowOfB, first, outs, n, r);
            }
          }
          rowOfB += outs;
        }
      }

      private void adapt(
          float[] a, float[] b, double[] x, double[] dy, int rowOfA, int rowOfB, int first, int outs, int n, int r) {
        double h = 0;
        double g = 0;
        for (int i = 0; i < IN; i++) {
          h += SCALE * x[n * IN + i] * a[rowOfA * IN + i];
        }
        for (int o = 0; o < outs; o++) {
          g += SCALE * dy[n * OUT + first + o] * b[(rowOfB + o) * RANK + r];
        }
        for (int o = 0; o < outs; o++) {
          y[n * OUT + first + o] += h * b[(rowOfB + o) * RANK + r];
          db[(rowOfB + o) * RANK + r] += h * dy[n * OUT + first + o];
        }
        for (int i = 0; i < IN; i++) {
          dx[n * IN + i] += g * a[rowOfA * IN + i];
          da[rowOfA * IN + i] += g * x[n * IN + i];
        }
      }
    }
  }

  /** a[m,k] · b[n,k]ᵀ */
  private static double[] product(double[] a, double[] b, int m, int n, int k) {
    double[] c = new double[m * n];
    for (int i = 0; i < m; i++) {
      for (int j = 0; j < n; j++) {
        for (int l = 0; l < k; l++) {
          c[i * n + j] += a[i * k + l] * b[j * k + l];
        }
      }
    }
    return c;
  }

  private static float[] turned(float[] w, int rows, int cols) {
    float[] t = new float[w.length];
    for (int i = 0; i < w.length; i++) {
      t[i % cols * rows + i / cols] = w[i];
    }
    return t;
  }

  private static double[] wide(float[] v) {
    double[] all = new double[v.length];
    Arrays.setAll(all, i -> v[i]);
    return all;
  }

  /** The largest difference over the largest expected. */
  private static double largest(double[] found, double[] expected) {
    double difference = 0;
    double most = 0;
    for (int i = 0; i < expected.length; i++) {
      difference = Double.isNaN(found[i]) ? Double.NaN : Math.max(difference, Math.abs(found[i] - expected[i]));
      most = Math.max(most, Math.abs(expected[i]));
    }
    return difference / most;
  }

  /** The norm of the difference over that of what is expected. */
  private static double norm(double[] found, double[] expected) {
    double difference = 0;
    double all = 0;
    for (int i = 0; i < expected.length; i++) {
      difference += (found[i] - expected[i]) * (found[i] - expected[i]);
      all += expected[i] * expected[i];
    }
    return Math.sqrt(difference / all);
  }
}
