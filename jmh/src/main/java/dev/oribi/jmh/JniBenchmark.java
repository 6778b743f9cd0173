package dev.oribi.jmh;

import dev.oribi.kernel.Kernels;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;

/** What it costs to cross from Java into native code and back: a call that does nothing there. */
@State(Scope.Benchmark)
public class JniBenchmark {
  private Kernels kernels;

  @Setup
  public void open() {
    kernels = Kernels.cpu(1);
  }

  @Benchmark
  public int call() {
    return kernels.threads();
  }

  @TearDown
  public void close() {
    kernels.close();
  }
}
