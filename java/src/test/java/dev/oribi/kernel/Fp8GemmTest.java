package dev.oribi.kernel;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.OribiException;
import dev.oribi.device.Arena;
import dev.oribi.device.Mem;
import dev.oribi.io.Half;
import dev.oribi.model.Machine;
import dev.oribi.testing.Fp8Reference;
import dev.oribi.testing.TestMachine;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;

/** Matrices in e4m3 as Java sees them, and their products against products in double of what they stand for. */
class Fp8GemmTest {
  /** Rows of C lie apart. */
  private static final int GAP = 16;

  private static final int TUNED = 256;

  private record Case(int m, int n, int k, float beta, DType type) {}

  private static List<Case> cases() {
    List<Case> all = new ArrayList<>();
    for (DType type : List.of(DType.BF16, DType.F16, DType.F32)) {
      for (float beta : new float[] {0, 1}) {
        all.add(new Case(1, 64, 192, beta, type));
        all.add(new Case(13, 176, 64, beta, type)); // any number of tokens: rows of A need no multiple
        all.add(new Case(257, 16, 16, beta, type));
        all.add(new Case(128, 576, 2048, beta, type));
      }
    }
    return all;
  }

  @TestFactory
  Stream<DynamicTest> productsAreThoseOfWhatTheCodesStandFor() {
    return cases().stream().map(c -> DynamicTest.dynamicTest(c.toString(), () -> check(c)));
  }

  private static void check(Case c) {
    TestMachine.needsCuda();
    int ldc = c.n + GAP;
    Gemm.Shape shape = Gemm.Shape.fp8(c.m, c.n, c.k, ldc, c.type);
    Random random = new Random(c.hashCode());
    float[] x = normals(random, c.m * c.k, 1);
    float[] w = normals(random, c.n * c.k, 1 / Math.sqrt(c.k));
    float[] before = normals(random, c.m * ldc, 1);
    try (Machine machine = TestMachine.open(0);
        Arena arena = machine.device().allocate("a test", 256L << 20)) {
      Places places = new Places(arena.all());
      Fp8 qx = quantized(machine, places, x, c.m, c.k);
      Fp8 qw = quantized(machine, places, w, c.n, c.k);
      double[] dx = Fp8Reference.read(machine.device(), qx, c.m, c.k);
      double[] dw = Fp8Reference.read(machine.device(), qw, c.n, c.k);
      assertThat(dx).as("x").isEqualTo(Fp8Reference.roundTrip(x, c.k));
      assertThat(dw).as("w").isEqualTo(Fp8Reference.roundTrip(w, c.k));
      Mem memC = places.take((long) before.length * c.type.bytes());
      write(machine, memC, before, c.type);
      float[] old = read(machine, memC, before.length, c.type);
      machine.gemm().multiplyFp8(memC, qx, qw, places.take(machine.gemm().workspace(shape)), shape, c.beta);
      compare(c, ldc, read(machine, memC, before.length, c.type), old, dx, dw);
    }
  }

  /**
   * Roundings to the type of C, of the product, and of what it and the old C make together. And what the tensor cores leave out of a
   * sum: they align the 32 products of an instruction at the largest and keep some 14 bits, so that an error is of the size of the
   * terms and not of the result.
   */
  private static void compare(Case c, int ldc, float[] found, float[] old, double[] x, double[] w) {
    double rounding = c.type == DType.F32 ? 0x1p-24 : c.type == DType.BF16 ? 0x1p-8 : 0x1p-11; // half the distance of two numbers
    double worst = 0;
    for (int i = 0; i < c.m; i++) {
      for (int j = 0; j < c.n; j++) {
        double sum = 0;
        double terms = 0;
        for (int l = 0; l < c.k; l++) {
          double term = x[i * c.k + l] * w[j * c.k + l];
          sum += term;
          terms += Math.abs(term);
        }
        double expected = sum + c.beta * old[i * ldc + j];
        double tolerance = rounding * (Math.abs(expected) + c.beta * Math.abs(sum)) + 0x1p-12 * terms;
        worst = Math.max(worst, Math.abs(found[i * ldc + j] - expected) / tolerance);
      }
      for (int j = c.n; j < ldc; j++) {
        assertThat(found[i * ldc + j]).as("between the rows").isEqualTo(old[i * ldc + j]);
      }
    }
    System.out.printf("%s: error %.2f of the tolerance%n", c, worst);
    assertThat(worst).isLessThanOrEqualTo(1);
  }

  /** A row that holds NaN or infinity gives a row of NaN, and no other. */
  @Test
  void whatIsNotFiniteIsNotHidden() {
    TestMachine.needsCuda();
    int n = 64;
    Gemm.Shape shape = Gemm.Shape.fp8(n, n, n, n, DType.BF16);
    float[] x = normals(new Random(1), n * n, 1);
    float[] w = x.clone();
    x[3 * n + 5] = Float.NaN;
    x[7 * n + 63] = Float.POSITIVE_INFINITY;
    Arrays.fill(x, 9 * n, 10 * n, 0);
    try (Machine machine = TestMachine.open(0);
        Arena arena = machine.device().allocate("a test", 64L << 20)) {
      Places places = new Places(arena.all());
      Fp8 qx = quantized(machine, places, x, n, n);
      Fp8 qw = quantized(machine, places, w, n, n);
      Mem c = places.take(2L * n * n);
      machine.gemm().multiplyFp8(c, qx, qw, places.take(machine.gemm().workspace(shape)), shape, 0);
      float[] y = read(machine, c, n * n, DType.BF16);
      for (int i = 0; i < y.length; i++) {
        int row = i / n;
        assertThat(Float.isNaN(y[i])).as("row %d", row).isEqualTo(row == 3 || row == 7);
        assertThat(y[i] == 0 || row != 9).as("a row of zeros").isTrue();
      }
    }
  }

  @Test
  void theTunerTimesThem() {
    TestMachine.needsCuda();
    try (Machine machine = TestMachine.open(0)) {
      CublasLtGemm gemm = (CublasLtGemm) machine.gemm();
      Gemm.Shape shape = Gemm.Shape.fp8(TUNED, TUNED, TUNED, TUNED, DType.BF16);
      for (float beta : new float[] {0, 1}) {
        GemmTuner.Result r = new GemmTuner(machine.device(), machine.kernels(), gemm).tune(shape, beta);
        assertThat(r.fastest()).isPositive().isLessThanOrEqualTo(r.first());
      }
    }
  }

  @Test
  void aCpuSaysThatItHasNone() {
    try (Machine machine = TestMachine.cpu()) {
      assertThatThrownBy(machine::checkFp8)
          .isInstanceOf(OribiException.class)
          .hasMessageStartingWith("--fp8: a CPU has no products in FP8, only GPUs of compute capability 9.0 (Hopper)");
      assertThatThrownBy(() -> machine.gemm().multiplyFp8(null, null, null, null, Gemm.Shape.fp8(1, 16, 16, 16, DType.F32), 0))
          .hasMessageStartingWith("a CPU has no products in FP8");
    }
  }

  /** Rows and columns by the kernels, of a matrix with a stride: what Java reads is what the definition says. */
  @Test
  void roundTrip() {
    int rows = 48;
    int cols = 80;
    int ld = 96;
    float[] x = normals(new Random(2), rows * ld, 3);
    float[] byRows = new float[rows * cols];
    float[] byColumns = new float[rows * cols];
    for (int r = 0; r < rows; r++) {
      for (int c = 0; c < cols; c++) {
        byRows[r * cols + c] = x[r * ld + c];
        byColumns[c * rows + r] = x[r * ld + c];
      }
    }
    try (Machine machine = TestMachine.open(2);
        Arena arena = machine.device().allocate("a test", 1L << 20)) {
      Places places = new Places(arena.all());
      Mem values = places.take(4L * x.length);
      machine.device().write(values, x, 0, x.length);
      Fp8 plain = new Fp8(places.take((long) rows * cols), places.take(4L * rows));
      Fp8 turned = new Fp8(places.take((long) rows * cols), places.take(4L * cols));
      machine.kernels().fp8().quantize(plain, values, rows, cols, ld, DType.F32);
      machine.kernels().fp8().quantizeTransposed(turned, values, rows, cols, ld, DType.F32);
      assertThat(Fp8Reference.read(machine.device(), plain, rows, cols)).isEqualTo(Fp8Reference.roundTrip(byRows, cols));
      assertThat(Fp8Reference.read(machine.device(), turned, cols, rows)).isEqualTo(Fp8Reference.roundTrip(byColumns, rows));
    }
  }

  private static Fp8 quantized(Machine machine, Places places, float[] x, int rows, int cols) {
    Mem values = places.take(4L * x.length);
    machine.device().write(values, x, 0, x.length);
    Fp8 q = new Fp8(places.take((long) rows * cols), places.take(4L * rows));
    machine.kernels().fp8().quantize(q, values, rows, cols, cols, DType.F32);
    return q;
  }

  private static float[] normals(Random random, int count, double std) {
    float[] all = new float[count];
    for (int i = 0; i < count; i++) {
      all[i] = (float) (std * random.nextGaussian());
    }
    return all;
  }

  private static void write(Machine machine, Mem to, float[] values, DType type) {
    if (type == DType.F32) {
      machine.device().write(to, values, 0, values.length);
      return;
    }
    ByteBuffer half = ByteBuffer.allocateDirect(2 * values.length).order(ByteOrder.nativeOrder());
    for (float x : values) {
      half.putShort(type == DType.BF16 ? Half.toBf16(x) : Half.toF16(x));
    }
    machine.device().write(to, half.flip());
  }

  private static float[] read(Machine machine, Mem from, int count, DType type) {
    float[] values = new float[count];
    if (type == DType.F32) {
      machine.device().read(from, values, 0, count);
      return values;
    }
    ByteBuffer half = ByteBuffer.allocateDirect(2 * count).order(ByteOrder.nativeOrder());
    machine.device().read(from.slice(0, 2L * count), half);
    half.flip();
    for (int i = 0; i < count; i++) {
      values[i] = type == DType.BF16 ? Half.fromBf16(half.getShort()) : Half.fromF16(half.getShort());
    }
    return values;
  }

  /** Places in a test's memory, one after the other. */
  private static final class Places {
    private final Mem all;
    private long at;

    Places(Mem all) {
      this.all = all;
    }

    Mem take(long bytes) {
      Mem m = all.slice(at, bytes);
      at += (bytes + 255) / 256 * 256;
      return m;
    }
  }
}
