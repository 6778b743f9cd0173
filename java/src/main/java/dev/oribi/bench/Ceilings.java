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
 * @param gemm FLOP/s of a square product, median: 2048 in fp32 on a CPU, 8192 in bf16 (or fp16) on a GPU
 * @param bandwidth bytes/s read plus written by y = a + b over arrays larger than the caches, median
 */
public record Ceilings(double gemm, double bandwidth) {
  private static final int CPU_SIZE = 2048;
  private static final int GPU_SIZE = 8192;
  private static final long CPU_ELEMENTS = 32L << 20;
  private static final long GPU_ELEMENTS = 256L << 20;
  private static final int READ_COLS = 4096;
  private static final int RUNS = 9;

  public static Ceilings measure(Machine machine) {
    return new Ceilings(gemmRate(machine), bandwidth(machine));
  }

  private static double gemmRate(Machine machine) {
    int size = machine.isCuda() ? GPU_SIZE : CPU_SIZE;
    DType type = machine.isCuda() ? machine.halfType() : DType.F32;
    Gemm.Shape shape = new Gemm.Shape(false, true, size, size, size, size, size, size, type, type, type);
    long bytes = (long) type.bytes() * size * size;
    long workspace = machine.gemm().workspace(shape);
    try (Arena arena = machine.device().allocate("the measurement of products", 3 * bytes + workspace)) {
      Mem a = arena.all().slice(0, bytes);
      Mem b = arena.all().slice(bytes, bytes);
      Mem c = arena.all().slice(2 * bytes, bytes);
      Mem space = arena.all().slice(3 * bytes, workspace);
      machine.kernels().randomNormal(a, (long) size * size, 0, 1, 1, 1, type);
      machine.kernels().randomNormal(b, (long) size * size, 0, 1, 1, 2, type);
      double seconds = median(machine, () -> machine.gemm().multiply(c, a, b, space, shape, 1, 0));
      return 2.0 * size * size * size / seconds;
    }
  }

  private static double bandwidth(Machine machine) {
    long elements = machine.isCuda() ? GPU_ELEMENTS : CPU_ELEMENTS;
    try (Arena arena = machine.device().allocate("the measurement of bandwidth", 12 * elements)) {
      Mem a = arena.all().slice(0, 4 * elements);
      Mem b = arena.all().slice(4 * elements, 4 * elements);
      Mem y = arena.all().slice(8 * elements, 4 * elements);
      double seconds = median(machine, () -> machine.kernels().add(y, a, b, elements, DType.F32));
      return 12.0 * elements / seconds;
    }
  }

  /**
   * Bytes/s at which the device reads a matrix larger than the caches, median: a product of one row with it in fp32, which computes
   * little.
   */
  public static double reading(Machine machine) {
    long rows = (machine.isCuda() ? GPU_ELEMENTS : CPU_ELEMENTS) / READ_COLS;
    Gemm.Shape shape = new Gemm.Shape(false, true, 1, rows, READ_COLS, READ_COLS, READ_COLS, rows, DType.F32, DType.F32, DType.F32);
    long workspace = machine.gemm().workspace(shape);
    try (Arena arena = machine.device().allocate("the measurement of reading", 4 * (rows * READ_COLS + READ_COLS + rows) + workspace)) {
      Mem w = arena.all().slice(0, 4 * rows * READ_COLS);
      Mem x = arena.all().slice(w.bytes(), 4L * READ_COLS);
      Mem y = arena.all().slice(w.bytes() + x.bytes(), 4 * rows);
      Mem space = arena.all().slice(w.bytes() + x.bytes() + y.bytes(), workspace);
      machine.kernels().fill(w, rows * READ_COLS, 1, DType.F32);
      machine.kernels().fill(x, READ_COLS, 1, DType.F32);
      machine.kernels().keepAwake(true);
      double seconds = median(machine, () -> machine.gemm().multiply(y, x, w, space, shape, 1, 0));
      machine.kernels().keepAwake(false);
      return 4.0 * rows * READ_COLS / seconds;
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
