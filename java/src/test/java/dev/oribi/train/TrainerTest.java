package dev.oribi.train;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.within;

import com.fasterxml.jackson.databind.JsonNode;
import dev.oribi.OribiException;
import dev.oribi.data.Dataset;
import dev.oribi.data.Row;
import dev.oribi.io.Json;
import dev.oribi.optim.SchedulerType;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.LongStream;
import javax.imageio.ImageIO;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class TrainerTest {
  @TempDir Path folder;

  /** 13 rows by 2 are 7 micro-batches, by 3 are 3 steps of which the last has one micro-batch; three epochs. */
  @Test
  void takesWhatIsLeftOfAnEpochAsAStepOfItsOwn() {
    TestRun run = new TestRun(folder.resolve("out"));
    Trainer.Result result = run.run();
    assertThat(result.step()).isEqualTo(9);
    assertThat(result.finished()).isTrue();
    assertThat(run.step.microSteps).isEqualTo(21);
    List<JsonNode> log = log(run);
    assertThat(log).extracting(line -> line.get("epoch").asDouble()).startsWith(3 / 7.0, 6 / 7.0, 1.0).endsWith(3.0);
  }

  @Test
  void learns() {
    TestRun run = new TestRun(folder.resolve("out"));
    run.config.numTrainEpochs = 40;
    run.config.saveStrategy = IntervalStrategy.NO;
    run.run();
    List<JsonNode> log = log(run);
    double first = log.get(0).get("loss").asDouble();
    double last = log.get(log.size() - 1).get("loss").asDouble();
    assertThat(last).isLessThan(0.6 * first);
  }

  @ParameterizedTest
  @CsvSource({"4, 2", "2, 4", "1, 8"})
  void givesTheSameStepHoweverTheRowsAreSpread(int batch, int accumulation) {
    float[] together = oneStep(8, 1);
    float[] spread = oneStep(batch, accumulation);
    for (int i = 0; i < together.length; i++) {
      assertThat(spread[i]).as("element %d", i).isCloseTo(together[i], within(1e-6f));
    }
  }

  /** Values after one step of plain descent: AdamW's first step would hide the gradient's size behind its sign. */
  private float[] oneStep(int batch, int accumulation) {
    TestRun run = new TestRun(folder.resolve(batch + "-" + accumulation));
    run.config.perDeviceTrainBatchSize = batch;
    run.config.gradientAccumulationSteps = accumulation;
    run.config.shuffle = false;
    run.config.loraDropout = 0;
    run.config.maxSteps = 1;
    run.config.maxGradNorm = 0;
    run.config.adamEpsilon = 1e3;
    run.config.learningRate = 1e3;
    run.run();
    return run.step.values();
  }

  @Test
  void logsHuggingFacesFieldsToJsonl() throws IOException {
    TestRun run = new TestRun(folder.resolve("out")).with(r -> r.config.loggingSteps = 2);
    run.run();
    List<JsonNode> log = log(run);
    assertThat(log).extracting(line -> line.get("step").asInt()).containsExactly(2, 4, 6, 8);
    for (JsonNode line : log) {
      for (String key : List.of("loss", "grad_norm", "learning_rate", "tokens", "tokens_per_second", "memory", "epoch")) {
        assertThat(line.path(key).isNumber()).as(key).isTrue();
      }
    }
    for (String line : Files.readAllLines(run.config.outputDir.resolve("train.jsonl"))) {
      assertThat(line).containsPattern("\"loss\": \\d+\\.\\d{6}");
    }
    assertThat(log.get(0).get("learning_rate").asDouble()).isCloseTo(0.05 * 8 / 9, within(1e-12));
    assertThat(log.get(3).get("tokens").asLong()).isGreaterThan(log.get(2).get("tokens").asLong());
  }

  @Test
  void averagesTheLossSinceTheLastLine() {
    TestRun every = new TestRun(folder.resolve("every"));
    every.run();
    TestRun third = new TestRun(folder.resolve("third")).with(r -> r.config.loggingSteps = 3);
    third.run();
    List<JsonNode> single = log(every);
    double mean = (single.get(3).get("loss").asDouble() + single.get(4).get("loss").asDouble()
        + single.get(5).get("loss").asDouble()) / 3;
    assertThat(log(third).get(1).get("loss").asDouble()).isCloseTo(mean, within(1e-12));
  }

  @Test
  void leavesResultStatePlotAndConfiguration() throws IOException {
    TestRun run = new TestRun(folder.resolve("out")).with(r -> r.eval = TestRun.rows(4, 9));
    run.run();
    Path out = run.config.outputDir;
    assertThat(out.resolve("adapter.txt")).hasContent(java.util.Arrays.toString(run.step.values()));
    JsonNode state = Json.read(out.resolve("trainer_state.json"));
    assertThat(state.properties()).extracting(java.util.Map.Entry::getKey).containsExactly("best_global_step",
        "best_metric", "best_model_checkpoint", "epoch", "eval_steps", "global_step", "is_hyper_param_search",
        "is_local_process_zero", "is_world_process_zero", "log_history", "logging_steps", "max_steps",
        "num_input_tokens_seen", "num_train_epochs", "save_steps", "stateful_callbacks", "total_flos",
        "train_batch_size", "trial_name", "trial_params");
    assertThat(state.get("global_step").asInt()).isEqualTo(9);
    assertThat(state.get("epoch").asDouble()).isEqualTo(3);
    assertThat(state.get("log_history")).hasSize(9 + 3);
    if (!run.shown().contains("No loss.png: this Java cannot draw")) { // no fonts on this machine: said, and nothing else missing
      assertThat(ImageIO.read(out.resolve("loss.png").toFile()).getWidth()).isEqualTo(900);
    }
    assertThat(ConfigReader.read("--config", out.resolve("oribi-config.yaml").toString()).learningRate).isEqualTo(0.05);
    assertThat(run.shown()).startsWith("plain Java").contains("step 9/9").contains("the result is in");
  }

  @Test
  void evaluatesAtEpochsStepsAndTheStart() {
    TestRun epochs = new TestRun(folder.resolve("epochs")).with(r -> r.eval = TestRun.rows(4, 9));
    epochs.config.evalOnStart = true;
    epochs.run();
    List<JsonNode> log = log(epochs).stream().filter(line -> line.has("eval_loss")).toList();
    assertThat(log).extracting(line -> line.get("step").asInt()).containsExactly(0, 3, 6, 9);
    double loss = log.get(0).get("eval_loss").asDouble();
    assertThat(log.get(0).get("eval_perplexity").asDouble()).isCloseTo(Math.exp(loss), within(1e-12));

    TestRun steps = new TestRun(folder.resolve("steps")).with(r -> r.eval = TestRun.rows(4, 9));
    steps.config.evalStrategy = IntervalStrategy.STEPS;
    steps.config.evalSteps = 4;
    steps.run();
    assertThat(log(steps).stream().filter(line -> line.has("eval_loss")))
        .extracting(line -> line.get("step").asInt()).containsExactly(4, 8, 9);
  }

  @Test
  void stopsAtALossThatIsNoNumberAndNamesTheSample() {
    TestRun run = new TestRun(folder.resolve("out"));
    List<Row> rows = new ArrayList<>();
    for (int i = 0; i < TestRun.ROWS; i++) {
      rows.add(run.data.row(i));
    }
    rows.add(new Row(new int[] {1, 6, 1, 2}, new int[] {1, 6, 1, 2}, "bad.jsonl:42", false));
    run.data = Dataset.of(withoutToken(rows, 6, 13));
    run.config.shuffle = false;
    run.open().step.poisonToken = 6;
    assertThatThrownBy(run.trainer::run).isInstanceOf(OribiException.class)
        .hasMessageContaining("loss is NaN at step 3").hasMessageContaining("bad.jsonl:42")
        .hasMessageContaining("--learning-rate").hasMessageContaining("checkpoint-2");
    assertThat(run.config.outputDir.resolve("checkpoint-2/complete.json")).exists();
    assertThat(run.config.outputDir.resolve("checkpoint-3")).doesNotExist();
  }

  private static List<Row> withoutToken(List<Row> rows, int token, int exceptRow) {
    List<Row> result = new ArrayList<>();
    for (int i = 0; i < rows.size(); i++) {
      Row row = rows.get(i);
      int[] ids = row.inputIds().clone();
      for (int j = 0; j < ids.length; j++) {
        ids[j] = ids[j] == token && i != exceptRow ? 0 : ids[j];
      }
      int[] labels = ids.clone();
      result.add(new Row(ids, labels, row.source(), false));
    }
    return result;
  }

  @Test
  void stopsAtAnInfiniteGradient() {
    TestRun run = new TestRun(folder.resolve("out")).open();
    run.step.poisonStream = 4;
    float[] before = run.step.values();
    assertThatThrownBy(run.trainer::run).isInstanceOf(OribiException.class)
        .hasMessageContaining("gradient norm is Infinity at step 2").hasMessageContaining("rows.jsonl:");
    assertThat(run.step.values()).isNotEqualTo(before);
    assertThat(run.step.gradients()).containsOnly(0f);
  }

  /** Scales are powers of two, so that a scaled run in which nothing overflows is the plain run to the bit. */
  @Test
  void aLossScaleChangesNothingUntilSomethingOverflows() {
    TestRun plain = new TestRun(folder.resolve("plain"));
    plain.run();
    TestRun scaled = new TestRun(folder.resolve("scaled")).open();
    scaled.step.largest = 1e30;
    scaled.trainer.run();
    assertThat(scaled.step.values()).isEqualTo(plain.step.values());
  }

  @Test
  void anOverflowLeavesOneUpdateOutAndShrinksTheScale() {
    TestRun run = new TestRun(folder.resolve("out"));
    run.config.saveStrategy = IntervalStrategy.STEPS;
    run.config.saveSteps = 1;
    run.open();
    run.step.largest = 1000;
    float[] before = run.step.values();
    Trainer.Result result = run.trainer.run();
    assertThat(result.finished()).isTrue();
    assertThat(run.step.values()).isNotEqualTo(before).doesNotContain(Float.NaN, Float.POSITIVE_INFINITY);
    double previous = 65536;
    int fell = 0;
    for (int step = 1; step <= result.step(); step++) {
      double scale = Json.read(run.config.outputDir.resolve("checkpoint-" + step + "/oribi_state.json"))
          .at("/state/lossScale/value").asDouble();
      assertThat(scale).isIn(previous, previous / 2);
      fell += scale < previous ? 1 : 0;
      previous = scale;
    }
    assertThat(fell).isPositive().isLessThan(result.step());
    // AdamW's correction counts updates, as PyTorch's does, and not the steps that were left out.
    assertThat(run.step.updates).containsExactlyElementsOf(LongStream.rangeClosed(1, result.step() - fell).boxed().toList());
  }

  /** 2.1 - 2 is a little more than a tenth in binary. */
  @ParameterizedTest
  @CsvSource({"2.1, 21", "0.3, 3", "1, 10", "0.01, 1", "1.25, 13", "1.1, 11"})
  void aPartOfAnEpochIsThatOfTheDecimals(double epochs, int steps) {
    for (boolean packing : new boolean[] {false, true}) {
      TestRun run = new TestRun(folder.resolve("out"));
      run.config.numTrainEpochs = epochs;
      run.config.perDeviceTrainBatchSize = 1;
      run.config.gradientAccumulationSteps = 1;
      run.config.maxSeqLength = packing ? 7 : 16;
      run.config.packing = packing;
      List<Row> rows = new ArrayList<>();
      for (int i = 0; i < 10; i++) {
        rows.add(new Row(new int[] {1, 2, 3, 4}, new int[] {1, 2, 3, 4}, "rows.jsonl:" + i, false));
      }
      assertThat(StepPlan.totalSteps(run.config, RunData.of(run.config, Dataset.of(rows), null).batches())).isEqualTo(steps);
    }
  }

  @Test
  @Timeout(60)
  void moreStepsThanCanBeCountedAreRefused() {
    TestRun run = new TestRun(folder.resolve("out")).with(r -> r.config.numTrainEpochs = 1e18);
    assertThatThrownBy(run::run).isInstanceOf(OribiException.class).hasMessageContaining("--num-train-epochs").hasMessageContaining("--max-steps");
  }

  @Test
  void aHeldOutLossBeyondWhatHasAPerplexityIsLogged() {
    TestRun run = new TestRun(folder.resolve("out")).with(r -> r.eval = TestRun.rows(4, 9)).open();
    run.step.losses = sum -> () -> 1e4 * sum;
    assertThat(run.trainer.run().finished()).isTrue();
    assertThat(log(run).stream().filter(line -> line.has("eval_loss"))).hasSize(3).noneMatch(line -> line.has("eval_perplexity"));
  }

  @Test
  void overfitsOneBatch() {
    TestRun run = new TestRun(folder.resolve("out"));
    run.config.overfitOneBatch = true;
    run.config.perDeviceTrainBatchSize = 1;
    run.config.loraDropout = 0;
    run.config.maxSteps = 300;
    run.config.lrSchedulerType = SchedulerType.CONSTANT;
    run.config.saveStrategy = IntervalStrategy.NO;
    // Every token but the masked one is followed by one token only, so that the loss can go to 0.
    run.data = Dataset.of(List.of(new Row(new int[] {1, 2, 3, 4}, new int[] {1, 2, 3, 4}, "a", false),
        new Row(new int[] {1, 3, 2, 4}, new int[] {1, 3, 2, 4}, "b", false)));
    run.run();
    List<JsonNode> log = log(run);
    assertThat(log.get(299).get("loss").asDouble()).isLessThan(0.01);
    assertThat(run.config.outputDir.resolve("checkpoint-300")).doesNotExist();
  }

  @Test
  void drawsABarOnATerminalAndLinesElsewhere() {
    Progress progress = new Progress(50, 100, 1.5, 1.25, 0.5, 2e-4, 1234, 300L << 20, 75);
    assertThat(progress.line()).isEqualTo(
        "step 50/100  epoch 1.50  loss 1.250000  grad_norm 0.500  lr 2.00e-04  1,234 tok/s  300 MiB  1m15s left");
    assertThat(progress.bar(200)).startsWith(" 50% ██████████░░░░░░░░░░ 50/100  loss 1.250000");
    assertThat(progress.bar(40)).hasSize(40);
  }

  static List<JsonNode> log(TestRun run) {
    try {
      return Files.readAllLines(run.config.outputDir.resolve("train.jsonl")).stream().map(l -> Json.parse(l, "line")).toList();
    } catch (IOException e) {
      throw new java.io.UncheckedIOException(e);
    }
  }
}
