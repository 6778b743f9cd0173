package dev.oribi.kernel;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.OribiException;
import dev.oribi.device.Arena;
import dev.oribi.device.Mem;
import dev.oribi.io.Half;
import dev.oribi.kernel.Gemm.Shape;
import dev.oribi.model.Machine;
import dev.oribi.testing.TestMachine;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.TestFactory;

/**
 * Dense products in every form that a program uses: operands as they lie or transposed, rows with gaps, adding or not, fp32
 * and 16 bits. The elements are small integers, so that every sum is exact and one wrong index shows.
 */
class GemmTest {
  /** What the gaps between rows and the memory behind a matrix hold before, and must hold after. */
  private static final float UNTOUCHED = 77;

  private static final int GAP = 5;
  private static final float ALPHA = 2;

  /** The largest has more columns than are widened at once. */
  private static final int[][] SIZES = {{1, 1, 1}, {1, 600, 13}, {13, 113, 1}, {3, 7, 113}, {113, 1030, 9}};

  private record Case(boolean ta, boolean tb, int[] mnk, float beta, DType a, DType b, DType c) {
    Shape shape() {
      int m = mnk[0];
      int n = mnk[1];
      int k = mnk[2];
      return new Shape(ta, tb, m, n, k, (ta ? m : k) + GAP, (tb ? k : n) + GAP, n + GAP, a, b, c);
    }

    @Override
    public String toString() {
      String sizes = mnk[0] + "x" + mnk[1] + "x" + mnk[2];
      return (ta ? "Aᵀ " : "A ") + (tb ? "Bᵀ " : "B ") + sizes + " beta " + beta + " " + a + " " + b + " " + c;
    }
  }

  private static List<Case> cases() {
    List<Case> all = new ArrayList<>();
    for (int[] mnk : SIZES) {
      for (boolean ta : new boolean[] {false, true}) {
        for (boolean tb : new boolean[] {false, true}) {
          for (float beta : new float[] {0, 1}) {
            all.add(new Case(ta, tb, mnk, beta, DType.F32, DType.F32, DType.F32));
            all.add(new Case(ta, tb, mnk, beta, DType.BF16, DType.BF16, DType.BF16));
            all.add(new Case(ta, tb, mnk, beta, DType.BF16, DType.BF16, DType.F32));
            all.add(new Case(ta, tb, mnk, beta, DType.F16, DType.F16, DType.F16));
            all.add(new Case(ta, tb, mnk, beta, DType.F16, DType.F16, DType.F32));
            all.add(new Case(ta, tb, mnk, beta, DType.F32, DType.BF16, DType.BF16));
          }
        }
      }
    }
    return all;
  }

  private static Machine machine;

  @BeforeAll
  static void open() {
    machine = TestMachine.open();
  }

  @AfterAll
  static void close() {
    machine.close();
  }

  @TestFactory
  Stream<DynamicTest> integersAreExact() {
    return cases().stream().map(c -> DynamicTest.dynamicTest(c.toString(), () -> check(c)));
  }

  private static void check(Case c) {
    Shape s = c.shape();
    Random random = new Random(c.toString().hashCode());
    // Sums of up to 113 terms stay below 256, where bf16 still has every integer.
    float[] a = matrix(random, c.ta ? s.k() : s.m(), c.ta ? s.m() : s.k(), s.lda());
    float[] b = matrix(random, c.tb ? s.n() : s.k(), c.tb ? s.k() : s.n(), s.ldb());
    float[] before = matrix(random, s.m(), s.n(), s.ldc());
    TestMachine.uses(machine);
    try (Arena arena = machine.device().allocate("a test", 16L << 20)) {
      Stack stack = new Stack(machine, arena.all());
      Mem memA = stack.put(a, c.a);
      Mem memB = stack.put(b, c.b);
      Mem memC = stack.put(before, c.c);
      if (machine.isCuda() && c.a != c.b) {
        assertThatThrownBy(() -> machine.gemm().workspace(s))
            .isInstanceOf(OribiException.class).hasMessageContaining("operands of one type");
        return;
      }
      long scratch = machine.gemm().workspace(s);
      Mem workspace = scratch == 0 ? null : stack.take(scratch);
      Mem guard = stack.put(new float[] {UNTOUCHED, UNTOUCHED}, DType.F32);
      machine.gemm().multiply(memC, memA, memB, workspace, s, ALPHA, c.beta);
      assertThat(stack.get(memC, before.length, c.c)).isEqualTo(expected(c, s, a, b, before));
      assertThat(stack.get(guard, 2, DType.F32)).as("behind the workspace").containsOnly(UNTOUCHED);
    }
  }

  private static float[] matrix(Random random, long rows, long cols, long ld) {
    float[] values = new float[(int) (rows * ld)];
    for (int i = 0; i < values.length; i++) {
      values[i] = i % ld < cols ? random.nextInt(3) - 1 : UNTOUCHED;
    }
    return values;
  }

  private static float[] expected(Case c, Shape s, float[] a, float[] b, float[] before) {
    float[] result = before.clone();
    for (int i = 0; i < s.m(); i++) {
      for (int j = 0; j < s.n(); j++) {
        long sum = 0;
        for (int l = 0; l < s.k(); l++) {
          long left = (long) a[(int) (c.ta ? l * s.lda() + i : i * s.lda() + l)];
          sum += left * (long) b[(int) (c.tb ? j * s.ldb() + l : l * s.ldb() + j)];
        }
        int at = (int) (i * s.ldc() + j);
        result[at] = ALPHA * sum + c.beta * before[at];
      }
    }
    return result;
  }

  /** Hands out pieces of an arena. */
  private static final class Stack {
    private final Machine machine;
    private final Mem all;
    private long used;

    Stack(Machine machine, Mem all) {
      this.machine = machine;
      this.all = all;
    }

    Mem take(long bytes) {
      Mem piece = all.slice(used, bytes);
      used += (bytes + 255) / 256 * 256;
      return piece;
    }

    Mem put(float[] values, DType type) {
      ByteBuffer bytes = ByteBuffer.allocate(type.bytes() * values.length).order(ByteOrder.nativeOrder());
      for (float x : values) {
        if (type == DType.F32) {
          bytes.putFloat(x);
        } else {
          bytes.putShort(type == DType.BF16 ? Half.toBf16(x) : Half.toF16(x));
        }
      }
      Mem piece = take(bytes.position());
      machine.device().write(piece, bytes.flip());
      return piece;
    }

    float[] get(Mem from, int count, DType type) {
      ByteBuffer bytes = ByteBuffer.allocate(type.bytes() * count).order(ByteOrder.nativeOrder());
      machine.device().read(from, bytes);
      bytes.flip();
      float[] values = new float[count];
      for (int i = 0; i < count; i++) {
        values[i] = type == DType.F32 ? bytes.getFloat()
            : type == DType.BF16 ? Half.fromBf16(bytes.getShort()) : Half.fromF16(bytes.getShort());
      }
      return values;
    }
  }
}
