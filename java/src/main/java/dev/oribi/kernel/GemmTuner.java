package dev.oribi.kernel;

import dev.oribi.device.Arena;
import dev.oribi.device.Clock;
import dev.oribi.device.Device;
import dev.oribi.device.Mem;
import dev.oribi.kernel.CublasLtProduct.Algorithm;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;

/**
 * Times the algorithms that cublasLt offers for a product and keeps the fastest. cublasLt's own order is a model of the card,
 * not a measurement; for products with an adapter beside the weight its first choice can be several per cent off.
 *
 * <p>The operands are scratch memory with random numbers, so that no buffer of a plan is touched: run it before the plan is
 * taken, where there is room for the largest product. A choice holds for that exact shape; other row counts keep the
 * heuristic's.
 */
public final class GemmTuner {
  private static final int CANDIDATES = 8;
  private static final int RUNS = 7;

  /** What was found for one shape: nanoseconds of the heuristic's first and of the fastest. */
  public record Result(Gemm.Shape shape, boolean adds, int candidates, int chosen, long first, long fastest) {}

  private final Device device;
  private final Kernels kernels;
  private final CublasLtGemm gemm;

  public GemmTuner(Device device, Kernels kernels, CublasLtGemm gemm) {
    this.device = device;
    this.kernels = kernels;
    this.gemm = gemm;
  }

  /** Every shape that programs were planned with so far, written and added to. */
  public List<Result> tunePlanned() {
    return List.copyOf(gemm.planned()).stream().flatMap(s -> Stream.of(tune(s, 0), tune(s, 1))).toList();
  }

  /** {@code beta} 0 or 1: whether C is added to. Its value is part of what is chosen for. */
  public Result tune(Gemm.Shape s, float beta) {
    long a = aligned((s.transposeA() ? s.k() : s.m()) * s.lda() * s.typeA().bytes());
    long b = aligned((s.transposeB() ? s.n() : s.k()) * s.ldb() * s.typeB().bytes());
    long c = aligned(s.m() * s.ldc() * s.typeC().bytes());
    long space = aligned(gemm.workspace(s));
    boolean fp8 = s.typeA() == DType.E4M3;
    long scales = fp8 ? aligned(Float.BYTES * s.m()) + aligned(Float.BYTES * s.n()) : 0;
    long values = fp8 ? DType.BF16.bytes() * Math.max(a, b) : 0;
    try (Arena arena = device.allocate("tuning products", a + b + c + space + scales + values);
        Clock clock = device.clock()) {
      Mem memA = arena.all().slice(0, a);
      Mem memB = arena.all().slice(a, b);
      Mem memC = arena.all().slice(a + b, c);
      Mem workspace = arena.all().slice(a + b + c, space);
      CublasLtProduct product = gemm.product(CublasLtGemm.form(memC, memA, memB, workspace, s, beta != 0));
      if (fp8) {
        Mem scaleA = arena.all().slice(a + b + c + space, Float.BYTES * s.m());
        Mem scaleB = arena.all().slice(a + b + c + space + aligned(scaleA.bytes()), Float.BYTES * s.n());
        Mem plain = arena.all().slice(a + b + c + space + scales, values);
        fill(new Fp8(memA, scaleA), plain, s.m(), s.k(), 1);
        fill(new Fp8(memB, scaleB), plain, s.n(), s.k(), 2);
        product.scale(scaleA, scaleB);
      } else {
        kernels.randomNormal(memA, a / s.typeA().bytes(), 0, 1, 1, 1, s.typeA());
        kernels.randomNormal(memB, b / s.typeB().bytes(), 0, 1, 1, 2, s.typeB());
      }
      List<Algorithm> all = product.candidates(CANDIDATES);
      long[] nanos = new long[all.size()];
      for (int i = 0; i < nanos.length; i++) {
        Algorithm how = all.get(i);
        nanos[i] = median(clock, () -> gemm.run(product, how, memC, memA, memB, workspace, 1, beta));
      }
      int fastest = 0;
      for (int i = 1; i < nanos.length; i++) {
        fastest = nanos[i] < nanos[fastest] ? i : fastest;
      }
      product.choose(all.get(fastest));
      for (int i = 0; i < nanos.length; i++) {
        if (i != fastest) {
          all.get(i).close();
        }
      }
      return new Result(s, beta != 0, nanos.length, fastest, nanos[0], nanos[fastest]);
    }
  }

  private void fill(Fp8 q, Mem plain, long rows, long cols, long stream) {
    kernels.randomNormal(plain, rows * cols, 0, 1, 1, stream, DType.BF16);
    kernels.fp8().quantize(q, plain, rows, cols, cols, DType.BF16);
  }

  private static long median(Clock clock, Runnable product) {
    product.run(); // The first run loads the kernel.
    clock.reset();
    int[] marks = new int[RUNS + 1];
    for (int i = 0; i <= RUNS; i++) {
      marks[i] = clock.mark();
      if (i < RUNS) {
        product.run();
      }
    }
    long[] nanos = new long[RUNS];
    for (int i = 0; i < RUNS; i++) {
      nanos[i] = clock.nanos(marks[i], marks[i + 1]);
    }
    Arrays.sort(nanos);
    return nanos[RUNS / 2];
  }

  private static long aligned(long bytes) {
    return (bytes + 255) / 256 * 256;
  }
}
