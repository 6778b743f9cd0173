package dev.oribi.jmh;

import dev.oribi.bench.StepBench;
import dev.oribi.model.Machine;
import dev.oribi.train.StorageType;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;

/** Whole optimizer steps of LoRA on random weights: forward, loss, backward, clip, update. */
@State(Scope.Benchmark)
public class StepBenchmark {
  @Param({"smollm2-135m"})
  public String shape;

  @Param({"2"})
  public int batch;

  @Param({"64"})
  public int seq;

  @Param({"FLOAT32"})
  public StorageType type;

  private StepBench bench;

  @Setup
  public void open() {
    bench = StepBench.open(new StepBench.Options(shape, batch, seq, 16, false, false, false, type, 0), Machine.cpu(0));
  }

  @Benchmark
  public void step() {
    bench.step();
  }

  @TearDown
  public void close() {
    bench.close();
  }
}
