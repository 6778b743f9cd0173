package dev.oribi.jmh;

import dev.oribi.device.Mem;
import dev.oribi.jmh.Bench.Work;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.Gemm;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;

/** The products of a layer at the {@link Sizes} of a model: with the weight, back through it, for its gradient, for an adapter. */
@State(Scope.Benchmark)
public class GemmBenchmark {
  /** Output and input size of a weight. */
  public enum Layer {
    QKV(Case.QKV(), Case.C()),
    O(Case.C(), Case.C()),
    GATE_UP(2L * Case.F(), Case.C()),
    DOWN(Case.C(), Case.F()),
    LORA_A(3 * Case.RANK(), Case.C());

    private final int out;
    private final int in;

    Layer(long out, long in) {
      this.out = (int) out;
      this.in = (int) in;
    }
  }

  /** y = x·Wᵀ, dx = dy·W, dW += dyᵀ·x. */
  public enum Pass {
    Y,
    DX,
    DW
  }

  @Param public Layer layer;
  @Param public Pass pass;

  @Param({"F32", "BF16"})
  public DType type;

  @Param({"1024", "1023"})
  public int n;

  private Bench bench;
  private Work work;

  @Setup
  public void open() {
    bench = Bench.open(type, n);
    Mem x = bench.normals((long) n * layer.in);
    Mem w = bench.normals((long) layer.out * layer.in);
    Mem y = bench.normals((long) n * layer.out);
    Mem dw = bench.floats((long) layer.out * layer.in, 0);
    Gemm.Shape shape =
        switch (pass) {
          case Y -> new Gemm.Shape(false, true, n, layer.out, layer.in, layer.in, layer.in, layer.out, type, type, type);
          case DX -> new Gemm.Shape(false, false, n, layer.in, layer.out, layer.out, layer.in, layer.in, type, type, type);
          case DW -> new Gemm.Shape(true, false, layer.out, layer.in, n, layer.out, layer.in, layer.in, type, type, DType.F32);
        };
    Gemm gemm = bench.machine.gemm();
    Mem space = bench.raw(gemm.workspace(shape));
    Runnable call =
        switch (pass) {
          case Y -> () -> gemm.multiply(y, x, w, space, shape, 1, 0);
          case DX -> () -> gemm.multiply(x, y, w, space, shape, 1, 0);
          case DW -> () -> gemm.multiply(dw, y, x, space, shape, 1, 1);
        };
    double elements = (double) n * (layer.in + layer.out) + (double) layer.out * layer.in;
    work = new Work(call, elements * type.bytes(), 2.0 * n * layer.in * layer.out);
  }

  @Benchmark
  public void multiply(Rates rates) {
    bench.run(work, rates);
  }

  @TearDown
  public void close() {
    bench.close();
  }
}
