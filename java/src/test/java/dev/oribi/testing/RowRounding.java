package dev.oribi.testing;

import dev.oribi.device.Arena;
import dev.oribi.device.Mem;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.Gemm;
import dev.oribi.model.Machine;
import java.util.Random;

/**
 * Whether the library of products gives a row the same bits whatever the number of rows beside it. OpenBLAS does with the
 * kernels it has for AVX-512, and does not with those for Haswell, which handle the last rows of a product with other code
 * (its environment variable OPENBLAS_CORETYPE may ask for them on a newer processor). cublasLt chooses its algorithm, and with
 * it the order of a sum, by the number of rows. Gradients of the same rows in other
 * batches then differ by the rounding of every product on their way, and not by that of their sums alone.
 */
public final class RowRounding {
  /** How much further apart gradients may be where rows are rounded unalike: measured 1.2 to 3.8 times, with reserve. */
  private static final double UNALIKE = 5;

  private static final int MOST = 480;
  private static final int[] ROWS = {50, 61, 77, 128};
  private static final int[][] OUT_IN = {{64, 64}, {172, 64}, {64, 172}, {512, 64}};

  private static Boolean alike;

  private RowRounding() {}

  /** {@code limit} where this machine's products round rows alike, and a wider one, said aloud, where they do not. */
  public static synchronized double limit(double limit) {
    if (alike == null) {
      try (Machine machine = TestMachine.open(2)) {
        alike = measure(machine);
      }
      if (!alike) {
        System.out.println("The library of products rounds a row by the number of rows beside it: limits are " + UNALIKE + " times wider");
      }
    }
    return alike ? limit : UNALIKE * limit;
  }

  private static boolean measure(Machine machine) {
    for (int[] size : OUT_IN) {
      float[] all = product(machine, MOST, size[0], size[1]);
      for (int rows : ROWS) {
        float[] some = product(machine, rows, size[0], size[1]);
        for (int i = 0; i < some.length; i++) {
          if (some[i] != all[i]) {
            return false;
          }
        }
      }
    }
    return true;
  }

  private static float[] product(Machine machine, int rows, int out, int in) {
    Gemm.Shape shape = new Gemm.Shape(false, true, rows, out, in, in, in, out, DType.F32, DType.F32, DType.F32);
    long scratch = machine.gemm().workspace(shape);
    long operands = (4L * (MOST * in + out * in + MOST * out) + 255) / 256 * 256;
    try (Arena arena = machine.device().allocate("a product", operands + scratch)) {
      Mem x = arena.all().slice(0, 4L * MOST * in);
      Mem w = arena.all().slice(4L * MOST * in, 4L * out * in);
      Mem y = arena.all().slice(4L * (MOST * in + out * in), 4L * MOST * out);
      Random random = new Random(1);
      machine.device().write(x, normals(random, MOST * in), 0, MOST * in);
      machine.device().write(w, normals(random, out * in), 0, out * in);
      Mem workspace = scratch == 0 ? null : arena.all().slice(operands, scratch);
      machine.gemm().multiply(y, x, w, workspace, shape, 1, 0);
      float[] result = new float[rows * out];
      machine.device().read(y, result, 0, result.length);
      return result;
    }
  }

  private static float[] normals(Random random, int count) {
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }
}
