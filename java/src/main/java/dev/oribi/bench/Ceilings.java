package dev.oribi.bench;

import dev.oribi.device.Arena;
import dev.oribi.device.Mem;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.Gemm;
import dev.oribi.model.Machine;
import java.util.Arrays;

/**
 * What the machine can do, measured on it in the same process.
 *
 * @param gemm FLOP/s of a square fp32 product of 2048, median
 * @param bandwidth bytes/s read plus written by y = a + b over arrays larger than the caches, median
 */
public record Ceilings(double gemm, double bandwidth) {
  private static final int SIZE = 2048;
  private static final long ELEMENTS = 32L << 20;
  private static final int RUNS = 9;

  public static Ceilings measure(Machine machine) {
    return new Ceilings(gemmRate(machine), bandwidth(machine));
  }

  private static double gemmRate(Machine machine) {
    long bytes = 4L * SIZE * SIZE;
    try (Arena arena = machine.device().allocate("the measurement of products", 3 * bytes)) {
      Mem a = arena.all().slice(0, bytes);
      Mem b = arena.all().slice(bytes, bytes);
      Mem c = arena.all().slice(2 * bytes, bytes);
      machine.kernels().randomNormal(a, (long) SIZE * SIZE, 0, 1, 1, 1, DType.F32);
      machine.kernels().randomNormal(b, (long) SIZE * SIZE, 0, 1, 1, 2, DType.F32);
      Gemm.Shape shape =
          new Gemm.Shape(false, true, SIZE, SIZE, SIZE, SIZE, SIZE, SIZE, DType.F32, DType.F32, DType.F32);
      double seconds = median(machine, () -> machine.gemm().multiply(c, a, b, null, shape, 1, 0));
      return 2.0 * SIZE * SIZE * SIZE / seconds;
    }
  }

  private static double bandwidth(Machine machine) {
    try (Arena arena = machine.device().allocate("the measurement of bandwidth", 12 * ELEMENTS)) {
      Mem a = arena.all().slice(0, 4 * ELEMENTS);
      Mem b = arena.all().slice(4 * ELEMENTS, 4 * ELEMENTS);
      Mem y = arena.all().slice(8 * ELEMENTS, 4 * ELEMENTS);
      double seconds = median(machine, () -> machine.kernels().add(y, a, b, ELEMENTS, DType.F32));
      return 12.0 * ELEMENTS / seconds;
    }
  }

  private static double median(Machine machine, Runnable work) {
    double[] seconds = new double[RUNS];
    work.run();
    for (int i = 0; i < RUNS; i++) {
      machine.kernels().synchronize();
      long begun = System.nanoTime();
      work.run();
      machine.kernels().synchronize();
      seconds[i] = (System.nanoTime() - begun) / 1e9;
    }
    Arrays.sort(seconds);
    return seconds[RUNS / 2];
  }
}
