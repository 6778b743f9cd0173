package dev.oribi.jmh;

import dev.oribi.bench.StepBench;
import dev.oribi.model.Machine;
import dev.oribi.optim.OptimizerType;
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
  public StorageType dtype;

  @Param({"cpu"})
  public String device;

  private Machine machine;
  private StepBench bench;

  @Setup
  public void open() {
    machine = Machine.open(device, 0);
    StepBench.Options options =
        new StepBench.Options(
            shape, batch, seq, 16, false, false, false, false, false, 0, false, 0, dtype, OptimizerType.ADAMW_TORCH, 0, null);
    bench = StepBench.open(options, machine);
  }

  @Benchmark
  public void step() {
    bench.step();
  }

  @TearDown
  public void close() {
    bench.close();
    machine.close();
  }
}
