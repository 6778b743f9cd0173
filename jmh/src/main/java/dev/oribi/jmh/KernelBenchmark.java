package dev.oribi.jmh;

import dev.oribi.jmh.Bench.Work;
import dev.oribi.kernel.DType;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;

/** Calls of every kernel in a second, with a whole and an awkward number of rows. */
@State(Scope.Benchmark)
public class KernelBenchmark {
  @Param public Case kernel;

  @Param({"F32", "BF16"})
  public DType type;

  @Param({"4096", "4095"})
  public int n;

  private Bench bench;
  private Work work;

  @Setup
  public void open() {
    bench = Bench.open(type, n);
    work = kernel.of(bench);
  }

  @Benchmark
  public void call(Rates rates) {
    bench.run(work, rates);
  }

  @TearDown
  public void close() {
    bench.close();
  }
}
