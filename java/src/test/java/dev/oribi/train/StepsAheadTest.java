package dev.oribi.train;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.OribiException;
import dev.oribi.data.Batches;
import dev.oribi.data.Dataset;
import dev.oribi.data.MicroBatch;
import dev.oribi.data.Row;
import dev.oribi.device.Device;
import dev.oribi.kernel.KernelAttention;
import dev.oribi.model.Decoder.Training;
import dev.oribi.model.Machine;
import dev.oribi.optim.LossScale;
import dev.oribi.testing.StepFixture;
import dev.oribi.testing.StepFixture.Plan;
import dev.oribi.testing.TestMachine;
import dev.oribi.testing.TinyModels;
import dev.oribi.train.TrainStep.Loss;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The host's work between the device's: data are made on another thread, and nothing waits for a pass before the next is issued. */
class StepsAheadTest {
  @TempDir Path folder;

  private static Batches order(TrainConfig config, Dataset data) {
    return new Batches(data, config.perDeviceTrainBatchSize, config.maxSeqLength, config.packing, true, 3);
  }

  /** Steps of two and a half epochs, from the start and from the middle, with and without packing. */
  @Test
  void stepsAreThoseThatWouldBeMadeOnTheSpot() {
    for (boolean packing : List.of(false, true)) {
      TestRun run = new TestRun(folder.resolve("out"));
      run.config.packing = packing;
      Batches order = order(run.config, run.data);
      int total = 2 * ((order.microBatches(0) + 2) / 3) + 1;
      RunState state = RunState.start(LossScale.NONE);
      for (int begin = 0; begin < total; begin++) {
        try (StepsAhead ahead = new StepsAhead(run.config, order(run.config, run.data), total)) {
          RunState now = state;
          for (int i = begin; i < total; i++) {
            StepPlan expected = StepPlan.next(run.config, order, now);
            assertThat(ahead.take(now)).usingRecursiveComparison().isEqualTo(expected);
            now = now.advance(expected, 1, LossScale.NONE, true).logged();
          }
          assertThat(ahead.madeAhead()).as("all but the first").isEqualTo(total - begin - 1);
        }
        state = state.advance(StepPlan.next(run.config, order, state), 1, LossScale.NONE, true);
      }
    }
  }

  /** An error in the data of a step comes when it is that step's turn. */
  @Test
  void anErrorWaitsForItsStep() {
    TestRun run = new TestRun(folder.resolve("out"));
    run.config.perDeviceTrainBatchSize = 1;
    run.config.gradientAccumulationSteps = 1;
    List<Row> rows = new ArrayList<>();
    for (int i = 0; i < 3; i++) {
      int label = i == 1 ? MicroBatch.IGNORE : 2;
      rows.add(new Row(new int[] {1, 2}, new int[] {label, label}, "rows.jsonl:" + i, false));
    }
    Batches order = new Batches(Dataset.of(rows), 1, 8, false, false, 3);
    try (StepsAhead ahead = new StepsAhead(run.config, order, 3)) {
      RunState state = RunState.start(LossScale.NONE);
      RunState second = state.advance(ahead.take(state), 1, LossScale.NONE, true);
      assertThatThrownBy(() -> ahead.take(second)).isInstanceOf(OribiException.class).hasMessageContaining("Step 2 has no target");
    }
  }

  /** 13 rows by 2: seven micro-batches of an epoch in steps of three, three and one; two of evaluation. */
  @Test
  void aPassIsIssuedBeforeTheLossOfTheOneBeforeItIsRead() {
    TestRun run = new TestRun(folder.resolve("out")).with(r -> r.eval = TestRun.rows(4, 9));
    run.config.maxSteps = 3;
    run.config.perDeviceEvalBatchSize = 2;
    run.config.evalStrategy = IntervalStrategy.EPOCH;
    List<String> log = new ArrayList<>();
    run.open().step.losses = sum -> {
      int pass = (int) log.stream().filter(line -> line.startsWith("issue")).count();
      log.add("issue " + pass);
      return () -> {
        log.add("read " + pass);
        return sum;
      };
    };
    run.step.beforeUpdate = () -> log.add("update");
    run.trainer.run();
    assertThat(log).containsExactly(
        "issue 0", "issue 1", "read 0", "issue 2", "read 1", "update", "read 2",
        "issue 3", "issue 4", "read 3", "issue 5", "read 4", "update", "read 5",
        "issue 6", "update", "read 6",
        "issue 7", "issue 8", "read 7", "read 8");
  }

  /** A step on a device whose calls with names that begin with {@code word} are written down. */
  private static StepFixture fixture(List<String> calls, String word) {
    Machine m = TestMachine.open(2);
    Device listening =
        (Device) Proxy.newProxyInstance(Device.class.getClassLoader(), new Class<?>[] {Device.class}, (proxy, method, arguments) -> {
          if (method.getName().startsWith(word)) {
            calls.add(method.getName());
          }
          try {
            return method.invoke(m.device(), arguments);
          } catch (InvocationTargetException e) {
            throw e.getCause();
          }
        });
    Machine machine =
        new Machine(listening, m.kernels(), m.gemm(), new KernelAttention(m.kernels()), m.ahead(), m.lanes(), m.options(), "");
    return new StepFixture(TinyModels.small(false), Training.FULL, Plan.DEFAULT, 7, machine);
  }

  /** What was copied ahead is not copied again, and a hint that was wrong changes no bit. */
  @Test
  void whatIsPreparedIsOnlyRun() {
    List<String> calls = new ArrayList<>();
    MicroBatch one = TinyModels.batch(TinyModels.sequences(7, 512, 30, 40));
    MicroBatch other = TinyModels.batch(TinyModels.sequences(8, 512, 21, 17, 9));
    try (StepFixture f = fixture(calls, "write")) {
      double first = f.step().microStep(one, 1e-2, 0);
      double second = f.step().microStep(other, 1e-2, 1);
      f.step().prepare(one);
      calls.clear();
      assertThat(f.step().microStep(one, 1e-2, 0)).isEqualTo(first);
      assertThat(calls).as("the scale of the gradients alone").containsExactly("write");
      assertThat(f.step().microStep(one, 1e-2, 0)).isEqualTo(first);
      f.step().prepare(one);
      assertThat(f.step().microStep(other, 1e-2, 1)).isEqualTo(second);
      assertThat(f.step().microStep(one, 1e-2, 0)).isEqualTo(first);
      f.step().prepare(one);
      f.step().evaluate(other);
      assertThat(f.step().microStep(one, 1e-2, 0)).isEqualTo(first);
    }
  }

  /** What a step asks of the device: one wait for the norm, none for a loss that nobody looks at. */
  @Test
  void aStepWaitsForTheNormAlone() {
    List<String> calls = new ArrayList<>();
    try (StepFixture f = fixture(calls, "read")) {
      MicroBatch batch = TinyModels.batch(TinyModels.sequences(7, 512, 30, 40));
      List<Loss> losses = new ArrayList<>();
      calls.clear();
      for (int i = 0; i < 3; i++) {
        losses.add(f.step().startMicroStep(batch, 1e-2, i));
      }
      f.step().update(1, 1e-3);
      assertThat(calls).containsExactly("readDoubleLater", "readDoubleLater", "readDoubleLater", "read");
      calls.clear();
      double first = losses.get(0).sum();
      assertThat(losses.get(2).sum()).as("the same batch, before the update").isEqualTo(first);
      assertThat(calls).as("the numbers are on their way already").isEmpty();
      double sum = 0;
      for (float loss : f.step().lastLosses()) {
        sum += loss;
      }
      assertThat(sum).isEqualTo(first, org.assertj.core.api.Assertions.within(1e-3));
    }
  }
}
