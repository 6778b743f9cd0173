package dev.oribi.program;

import static org.assertj.core.api.Assertions.assertThat;

import dev.oribi.device.Mem;
import dev.oribi.io.Half;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.Gemm;
import dev.oribi.model.Machine;
import dev.oribi.program.Buffer.Lifetime;
import dev.oribi.program.Buffer.Rows;
import dev.oribi.testing.Int8Reference;
import dev.oribi.testing.TestMachine;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;

/** The gradient through a head in tiles is rounded once: no less exact than one product, in 16 bits too. */
class HeadProductsTest {
  private static final int ROWS = 24;
  private static final int V = 2048;
  private static final int C = 128;

  private final Buffer dh = new Buffer("dh", Lifetime.IO, DType.BF16, Rows.FIXED, ROWS, C);
  private final Buffer values = new Buffer("values", Lifetime.IO, DType.F32, Rows.FIXED, V, C);
  private final Head head = new Head(null, Int8Matrix.of("head", V, C));

  @Test
  void tilesAddNoErrorOfTheirOwn() {
    try (Machine machine = TestMachine.open()) {
      DType z = machine.gemm().logitsType(DType.BF16);
      Buffer dz = new Buffer("dz", Lifetime.IO, z, Rows.FIXED, ROWS, V);
      float[] w = normals(V * C, 1);
      float[] g = normals(ROWS * V, 2);
      double[] exact = exact(g, Int8Reference.roundTrip(w));
      // An eighth of a budget is a tile: all of the vocabulary, 1/16 of it, and an odd number of its rows.
      double whole = error(machine, dz, w, g, 8L * V * C * 2, exact);
      double tiles = error(machine, dz, w, g, 8L * V * C * 2 / 16, exact);
      double odd = error(machine, dz, w, g, 8L * 37 * C * 2, exact);
      double rounded = errorOfRoundedSums(machine, dz, w, g, V / 16, exact);
      System.out.printf("bf16 dh off by: one tile %.2e, 16 tiles %.2e, 56 tiles %.2e; rounded after each of 16 %.2e%n",
          whole, tiles, odd, rounded);
      assertThat(whole).isLessThan(3e-3);
      assertThat(tiles).isLessThan(1.01 * whole);
      assertThat(odd).isLessThan(1.01 * whole);
      assertThat(rounded).as("what this test would see of a sum in bf16").isGreaterThan(1.5 * whole);
    }
  }

  /** Rounded to bf16, so that the products read what the reference reads. */
  private static float[] normals(int n, long seed) {
    Random random = new Random(seed);
    float[] x = new float[n];
    for (int i = 0; i < n; i++) {
      x[i] = Half.fromBf16(Half.toBf16((float) random.nextGaussian()));
    }
    return x;
  }

  /** dh of the head as the products read it: its values rounded to bf16. */
  private static double[] exact(float[] g, double[] w) {
    double[] dh = new double[ROWS * C];
    for (int i = 0; i < ROWS; i++) {
      for (int v = 0; v < V; v++) {
        for (int c = 0; c < C; c++) {
          dh[i * C + c] += (double) g[i * V + v] * Half.fromBf16(Half.toBf16((float) w[v * C + c]));
        }
      }
    }
    return dh;
  }

  private double error(Machine machine, Buffer dz, float[] w, float[] g, long budget, double[] exact) {
    HeadProductsTest own = new HeadProductsTest(); // buffers belong to one plan
    Buffer from = new Buffer("dz", Lifetime.IO, dz.type(), Rows.FIXED, ROWS, V);
    HeadProducts products = new HeadProducts("head", own.head, ROWS, budget, DType.BF16, dz.type(), true, machine.gemm(), false);
    Buffer space = Emit.workspace("head", Math.max(1, products.workspace()));
    List<Buffer> all = new java.util.ArrayList<>(own.head.buffers());
    all.addAll(List.of(own.dh, own.values, from, space));
    all.addAll(products.scratch());
    try (Plan plan = new Plan(List.of(), all)) {
      plan.take(machine.device(), "products");
      own.fill(machine, from, w, g);
      products.gradient(Run.fixed(machine.library()), own.dh.mem(), from.mem(), space.mem(), ROWS);
      return own.distance(machine, exact);
    }
  }

  /** What the products would give if each tile were added to dh in bf16. */
  private double errorOfRoundedSums(Machine machine, Buffer dz, float[] w, float[] g, int tile, double[] exact) {
    HeadProductsTest own = new HeadProductsTest();
    Buffer from = new Buffer("dz", Lifetime.IO, dz.type(), Rows.FIXED, ROWS, V);
    Buffer plain = new Buffer("tile", Lifetime.IO, DType.BF16, Rows.FIXED, tile, C);
    Gemm.Shape shape = new Gemm.Shape(false, false, ROWS, C, tile, V, C, C, dz.type(), DType.BF16, DType.BF16);
    Buffer space = Emit.workspace("head", Math.max(1, machine.gemm().workspace(shape)));
    List<Buffer> all = new java.util.ArrayList<>(own.head.buffers());
    all.addAll(List.of(own.dh, own.values, from, plain, space));
    try (Plan plan = new Plan(List.of(), all)) {
      plan.take(machine.device(), "products");
      own.fill(machine, from, w, g);
      for (int begin = 0; begin < V; begin += tile) {
        machine.kernels().int8().dequantize(plain.mem(), own.head.int8().place(begin, tile), tile, C, C, DType.BF16);
        Mem columns = View.of(from).cols(begin, tile).mem();
        machine.gemm().multiply(own.dh.mem(), columns, plain.mem(), space.mem(), shape, 1, begin == 0 ? 0 : 1);
      }
      return own.distance(machine, exact);
    }
  }

  private void fill(Machine machine, Buffer dz, float[] w, float[] g) {
    machine.device().write(values.mem(), w, 0, w.length);
    machine.kernels().int8().quantize(head.int8().place(0, V), null, null, values.mem(), V, C, DType.F32);
    machine.kernels().synchronize();
    machine.device().write(values.mem(), g, 0, g.length);
    machine.kernels().cast(dz.mem(), values.mem(), g.length, dz.type(), DType.F32);
  }

  /** Root of the mean square of the difference over that of dh. */
  private double distance(Machine machine, double[] exact) {
    ByteBuffer half = ByteBuffer.allocateDirect(2 * exact.length).order(ByteOrder.nativeOrder());
    machine.kernels().synchronize();
    machine.device().read(dh.mem(), half);
    half.flip().order(ByteOrder.nativeOrder());
    double difference = 0;
    double all = 0;
    for (double x : exact) {
      double d = Half.fromBf16(half.getShort()) - x;
      difference += d * d;
      all += x * x;
    }
    return Math.sqrt(difference / all);
  }

  @Test
  void chunksAreFewAndEven() {
    assertThat(Chunks.even(8192, 1046)).isEqualTo(1024);
    assertThat(Chunks.even(1100, 1024)).isEqualTo(640);
    assertThat(Chunks.even(500, 1024)).isEqualTo(500);
    assertThat(Chunks.even(20, 7)).isEqualTo(7);
    assertThat(Chunks.even(128256, 4096)).isEqualTo(4096);
    assertThat(Chunks.even(1030, 1024)).isEqualTo(640);
  }

  /** Budget, rows of a product, and the targets there are: the least of the three decides. */
  @Test
  void rowsOfLogits() {
    assertThat(EmitLoss.chunk(8192, 128256, DType.BF16, EmitLoss.LOGITS_BUDGET, true)).isEqualTo(1024);
    assertThat(EmitLoss.chunk(8192, 32000, DType.BF16, EmitLoss.LOGITS_BUDGET, true)).isEqualTo(1024);
    assertThat(EmitLoss.chunk(8192, 128256, DType.BF16, 64L << 20, true)).isEqualTo(256);
    assertThat(EmitLoss.chunk(300, 128256, DType.BF16, EmitLoss.LOGITS_BUDGET, true)).isEqualTo(300);
    assertThat(EmitLoss.chunk(8192, 49152, DType.F32, EmitLoss.LOGITS_BUDGET, false)).isEqualTo(256);
    assertThat(EmitLoss.chunk(8192, 128256, DType.BF16, 1, true)).isEqualTo(1);
    assertThat(EmitLoss.chunk(0, 13, DType.F32, 64, true)).isEqualTo(1);
  }
}
