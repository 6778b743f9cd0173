package dev.oribi.train;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;

import com.fasterxml.jackson.databind.JsonNode;
import dev.oribi.data.Batches;
import dev.oribi.data.Dataset;
import dev.oribi.data.MicroBatch;
import dev.oribi.data.Row;
import dev.oribi.kernel.DType;
import dev.oribi.model.Decoder.Training;
import dev.oribi.model.FrozenStorage;
import dev.oribi.model.Machine;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.testing.TestMachine;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/**
 * The denominator of a loss over several micro-batches, https://unsloth.ai/blog/gradient and what was found after it: all
 * target tokens of a step, counted before it, once.
 */
class KnownAccumulationBugsTest {
  @TempDir
  private Path folder;

  private static Row row(int length, int... masked) {
    int[] ids = new Random(length).ints(length, 3, 90).toArray();
    int[] labels = ids.clone();
    for (int i : masked) {
      labels[i] = MicroBatch.IGNORE;
    }
    return new Row(ids, labels, "row of " + length, false);
  }

  /** Rows whose numbers of targets are far apart: the mean of their means is not the mean. */
  private static List<Row> unequalRows() {
    int[] prompt = new int[38];
    Arrays.setAll(prompt, i -> i);
    return List.of(row(40, prompt), row(31), row(7, 1, 2), row(3), row(25), row(2), row(40), row(12, 0, 1, 2, 3));
  }

  // -------------------------------------------------------------------------------------------------- the denominator

  /**
   * The same norm of the gradient at any accumulation: too small by its number if it is divided out once more
   * (https://github.com/unslothai/unsloth-zoo/issues/1023), too large by it if it is not divided out at all.
   */
  @ParameterizedTest
  @CsvSource({"4, 2", "2, 4", "1, 8"})
  void theNormOfTheGradientDoesNotDependOnTheAccumulation(int batch, int accumulation) {
    JsonNode together = firstStep(8, 1);
    JsonNode spread = firstStep(batch, accumulation);
    double norm = together.get("grad_norm").asDouble();
    assertThat(norm).isPositive();
    assertThat(spread.get("grad_norm").asDouble()).isCloseTo(norm, within(1e-6 * norm));
    assertThat(spread.get("loss").asDouble()).isCloseTo(together.get("loss").asDouble(), within(1e-6));
  }

  private JsonNode firstStep(int batch, int accumulation) {
    TestRun run = new TestRun(folder.resolve(batch + "x" + accumulation));
    run.config.perDeviceTrainBatchSize = batch;
    run.config.gradientAccumulationSteps = accumulation;
    run.config.shuffle = false;
    run.config.loraDropout = 0;
    run.config.maxSteps = 1;
    run.run();
    return TrainerTest.log(run).get(0);
  }

  // ------------------------------------------------------------------------------------------------------- the count

  /** Targets are counted after the shift: the first token of a row is predicted from nothing, whatever its label says. */
  @Test
  void targetsAreCountedAfterTheShift() {
    assertThat(row(9).targetTokens()).isEqualTo(8);
    assertThat(row(9, 0).targetTokens()).as("a first token that is masked is not subtracted again").isEqualTo(8);
    assertThat(row(9, 0, 8).targetTokens()).isEqualTo(7);
    assertThat(row(2, 1).targetTokens()).isZero();
  }

  /** The N-1 boundaries of a packed row are left out once each: not twice where a first label is masked anyway. */
  @Test
  void boundariesOfPackedRowsAreLeftOutOnce() {
    List<Row> rows = unequalRows();
    Batches packed = new Batches(Dataset.of(rows), 4, 64, true, false, 1);
    int targets = 0;
    for (int i = 0; i < packed.microBatches(0); i++) {
      MicroBatch batch = packed.get(0, i);
      targets += batch.targetTokens();
      for (int s = 1; s < batch.cuSeqlens().length; s++) {
        int last = batch.cuSeqlens()[s] - 1;
        assertThat(batch.targets()[last]).as("the last token of a row has no target").isEqualTo(MicroBatch.IGNORE);
        assertThat(batch.positions()[batch.cuSeqlens()[s - 1]]).as("positions begin anew").isZero();
      }
    }
    assertThat(targets).isEqualTo(rows.stream().mapToInt(Row::targetTokens).sum());
  }

  // -------------------------------------------------------------------------------------------------- the evaluation

  /** The held-out loss is the mean over tokens too: https://github.com/unslothai/unsloth/issues/4616. */
  @Test
  void theHeldOutLossIsTheMeanOverTokens() {
    Path model = Path.of("..", "models", "tiny", "model");
    List<Row> rows = unequalRows();
    Evaluator.Result together = evaluate(model, new Batches(Dataset.of(rows), 8, 64, false, false, 1));
    assertThat(together.tokens()).isEqualTo(rows.stream().mapToInt(Row::targetTokens).sum());
    List<Evaluator.Result> single = new ArrayList<>();
    for (Row row : rows) {
      if (row.targetTokens() > 0) {
        single.add(evaluate(model, new Batches(Dataset.of(List.of(row)), 1, 64, false, false, 1)));
      }
    }
    double mean = single.stream().mapToDouble(r -> r.loss() * r.tokens()).sum() / together.tokens();
    assertThat(together.loss()).isCloseTo(mean, within(1e-5 * mean));
    assertThat(evaluate(model, new Batches(Dataset.of(rows), 3, 64, false, false, 1)).loss()).isCloseTo(mean, within(1e-5 * mean));
    assertThat(evaluate(model, new Batches(Dataset.of(rows), 2, 64, true, false, 1)).loss()).isCloseTo(mean, within(1e-5 * mean));
    double meanOfMeans = single.stream().mapToDouble(Evaluator.Result::loss).average().orElseThrow();
    assertThat(Math.abs(meanOfMeans - mean)).as("what the mistake would give").isGreaterThan(1e-2 * mean);
  }

  private static Evaluator.Result evaluate(Path folder, Batches batches) {
    try (Machine machine = TestMachine.open();
        Evaluator evaluator = new Evaluator(
            ModelConfig.read(folder), DType.F32, Training.NONE, new FrozenStorage(null, false), machine, batches)) {
      evaluator.take().load(folder, null);
      return evaluator.run();
    }
  }
}
