package dev.oribi.train;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import dev.oribi.io.FileOwner;
import dev.oribi.io.Json;
import dev.oribi.optim.SchedulerType;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** A run that stops and goes on must leave the same bits as one that never stopped. */
class ResumeTest {
  private static final int STEPS = 9;
  private static final int KILLS = 20;

  @TempDir Path folder;
  private TestRun whole;

  @BeforeEach
  void runToTheEnd() {
    whole = run("whole");
    whole.run();
  }

  private TestRun run(String name) {
    TestRun run = new TestRun(folder.resolve(name));
    run.eval = TestRun.rows(4, 9);
    run.config.saveSteps = 1;
    run.config.loggingSteps = 2;
    run.config.packing = true;
    run.config.weightDecay = 0.01;
    run.config.warmupSteps = 2;
    run.config.lrSchedulerType = SchedulerType.COSINE;
    run.config.maxSteps = STEPS;
    run.config.gradientAccumulationSteps = 2;
    return run;
  }

  /** A process that is killed: nothing runs after it, nothing is written. */
  private static final class Killed extends RuntimeException {
    private static final long serialVersionUID = 1L;
  }

  @Test
  void goesOnFromEveryStep() {
    for (int step = 1; step < STEPS; step++) {
      TestRun again = run("from-" + step);
      again.config.resumeFromCheckpoint = folder.resolve("whole/checkpoint-" + step);
      again.run();
      assertSameAsWhole(again, "resumed from step " + step);
    }
  }

  @Test
  void goesOnAfterBeingKilledAtAnyPass() {
    SplittableRandom random = new SplittableRandom(4);
    for (int kill = 0; kill < KILLS; kill++) {
      TestRun killed = run("killed-" + kill);
      killed.config.saveSteps = 1 + random.nextInt(3);
      int pass = random.nextInt(1, whole.step.microSteps);
      killed.open().step.beforeMicroStep = () -> {
        if (killed.step.microSteps == pass) {
          throw new Killed();
        }
      };
      assertThatThrownBy(killed.trainer::run).isInstanceOf(Killed.class);
      killed.config.resume = true;
      killed.run();
      assertSameAsWhole(killed, "killed before pass " + pass);
    }
  }

  @Test
  void goesOnAfterBeingKilledWhileItSaves() throws IOException {
    for (int save = 1; save < STEPS; save++) {
      TestRun killed = run("saving-" + save);
      int at = save;
      int[] saves = {0};
      killed.writer = target -> {
        Files.writeString(target.resolve("adapter.txt"), "half");
        if (++saves[0] == at) {
          throw new Killed();
        }
        Files.writeString(target.resolve("adapter.txt"), java.util.Arrays.toString(killed.step.values()));
      };
      assertThatThrownBy(() -> killed.run()).isInstanceOf(Killed.class);
      assertThat(killed.config.outputDir.resolve("checkpoint-" + save)).doesNotExist();
      killed.config.resume = true;
      killed.run();
      assertSameAsWhole(killed, "killed in save " + save);
      assertNoLeftovers(killed);
    }
  }

  /** What kill -9 leaves: a folder half-written under its other name, one without a marker, a log cut in a line. */
  @Test
  void goesOnPastWhatAKilledProcessLeaves() throws IOException {
    TestRun killed = run("killed");
    killed.config.maxSteps = 4;
    killed.config.lrSchedulerType = SchedulerType.CONSTANT;
    killed.config.warmupSteps = 0;
    killed.run();
    Path out = killed.config.outputDir;
    String[] self = FileOwner.SELF.split("-");
    Files.createDirectories(out.resolve(".checkpoint-5.tmp-" + self[0] + "-999999999-" + self[2] + "-01/deeper"));
    Files.createDirectories(out.resolve(".checkpoint-1.deleted"));
    Files.createDirectories(out.resolve("checkpoint-6"));
    Files.writeString(out.resolve("checkpoint-4/optimizer.safetensors"), "cut");
    Files.writeString(out.resolve("train.jsonl"), "{\"step\": 2, \"lo");
    killed.config.resume = true;
    killed.run();
    assertThat(killed.shown()).contains("Going on from " + out.resolve("checkpoint-3"));
    assertNoLeftovers(killed);
    assertThat(TrainerTest.log(killed).stream().filter(line -> line.has("loss")))
        .extracting(line -> line.get("step").asInt()).containsExactly(2, 4);
  }

  @Test
  void stopsWhenAskedAndGoesOn() {
    TestRun stopped = run("stopped");
    stopped.config.saveStrategy = IntervalStrategy.NO;
    stopped.open().step.beforeMicroStep = () -> {
      if (stopped.step.microSteps == 7) {
        stopped.trainer.stop();
      }
    };
    Trainer.Result result = stopped.trainer.run();
    assertThat(result.finished()).isFalse();
    assertThat(stopped.step.microSteps).as("finishes the pass under way, begins no other").isEqualTo(8);
    assertThat(result.checkpoint()).contains(stopped.config.outputDir.resolve("checkpoint-" + result.step()));
    assertThat(stopped.config.outputDir.resolve("adapter.txt")).doesNotExist();
    stopped.config.resume = true;
    stopped.run();
    assertSameAsWhole(stopped, "stopped in pass 8");
  }

  @Test
  void keepsAsManyCheckpointsAsAllowed() throws IOException {
    TestRun run = run("limited");
    run.config.saveTotalLimit = 2;
    run.run();
    try (Stream<Path> paths = Files.list(run.config.outputDir)) {
      assertThat(paths.map(path -> path.getFileName().toString()).filter(name -> name.contains("checkpoint")))
          .containsExactlyInAnyOrder("checkpoint-8", "checkpoint-9");
    }
  }

  @Test
  void refusesOtherSettingsAndNamesThem() {
    refuses(run -> run.config.learningRate = 0.07, "learning_rate = 0.05, but now it is 0.07");
    refuses(run -> run.config.seed = 1, "seed = 42");
    refuses(run -> run.config.gradientAccumulationSteps = 4, "gradient_accumulation_steps");
    refuses(run -> run.config.maxSteps = 20, "max_steps = 9");
    refuses(run -> run.data = TestRun.rows(TestRun.ROWS, 6), "other training data");
    TestRun free = run("free");
    free.config.resumeFromCheckpoint = folder.resolve("whole/checkpoint-3");
    free.config.machine.threads = 7;
    free.config.saveTotalLimit = 1;
    free.config.loggingSteps = 1;
    free.config.memory = "3GiB";
    free.config.machine.deterministic = true;
    free.run();
    assertThat(free.step.values()).isEqualTo(whole.step.values());
  }

  private void refuses(java.util.function.Consumer<TestRun> change, String message) {
    TestRun run = run("refused").with(change);
    run.config.resumeFromCheckpoint = folder.resolve("whole/checkpoint-3");
    assertThatThrownBy(run::run).isInstanceOf(OribiException.class).hasMessageContaining("checkpoint-3")
        .hasMessageContaining(message);
  }

  @Test
  void refusesAnOutputFolderThatHasARun() {
    assertThatThrownBy(() -> run("whole").run()).isInstanceOf(OribiException.class).hasMessageContaining("--resume")
        .hasMessageContaining("--overwrite-output-dir");
    TestRun fresh = run("whole");
    fresh.config.overwriteOutputDir = true;
    fresh.config.maxSteps = 2;
    fresh.run();
    assertThat(folder.resolve("whole/checkpoint-9")).doesNotExist();
    assertThat(folder.resolve("whole/checkpoint-2")).exists();
  }

  /** Another run's checkpoint is a beginning for a folder of its own: what is in the folder already is not mixed with it. */
  @Test
  void refusesAnothersCheckpointInAFolderThatHasARun() throws IOException {
    TestRun other = run("other");
    other.config.maxSteps = 4;
    other.run();
    String log = Files.readString(folder.resolve("other/train.jsonl"));
    TestRun mixed = run("other");
    mixed.config.resumeFromCheckpoint = folder.resolve("whole/checkpoint-3");
    assertThatThrownBy(mixed::run).isInstanceOf(OribiException.class).hasMessageContaining("has a run in it");
    assertThat(folder.resolve("other/train.jsonl")).hasContent(log);
    mixed.config.overwriteOutputDir = true;
    mixed.run();
    assertThat(folder.resolve("other/checkpoint-1")).doesNotExist();
    assertSameAsWhole(mixed, "in the place of another run");
  }

  /** From float32 to float16, as from a CPU to an older GPU, and back: only there the loss is scaled. */
  @Test
  void theLossIsScaledWhereTheStorageNeedsIt() {
    TestRun half = run("half");
    half.config.resumeFromCheckpoint = folder.resolve("whole/checkpoint-3");
    half.open().step.largest = 1e30;
    half.trainer.run();
    assertThat(lossScale("half/checkpoint-4")).isEqualTo(65536);
    TestRun single = run("single");
    single.config.resumeFromCheckpoint = folder.resolve("half/checkpoint-4");
    single.run();
    assertThat(lossScale("single/checkpoint-5")).isEqualTo(1);
    assertThat(single.step.values()).isEqualTo(whole.step.values());
  }

  private double lossScale(String checkpoint) {
    return Json.read(folder.resolve(checkpoint + "/oribi_state.json")).at("/state/lossScale/value").asDouble();
  }

  @Test
  void refusesWhatIsNoWholeCheckpoint() throws IOException {
    TestRun run = run("again");
    run.config.resumeFromCheckpoint = folder.resolve("whole/checkpoint-3");
    Files.delete(folder.resolve("whole/checkpoint-3/complete.json"));
    assertThatThrownBy(run::run).isInstanceOf(OribiException.class).hasMessageContaining("no whole checkpoint");
    run.config.resumeFromCheckpoint = folder.resolve("missing");
    assertThatThrownBy(run::run).isInstanceOf(OribiException.class).hasMessageContaining("no whole checkpoint");
  }

  @Test
  void resumingAFinishedRunChangesNothing() {
    float[] values = whole.step.values();
    TestRun again = run("whole");
    again.config.resume = true;
    Trainer.Result result = again.run();
    assertThat(result.step()).isEqualTo(STEPS);
    assertThat(again.step.microSteps).isZero();
    assertThat(again.step.values()).isEqualTo(values);
  }

  // ------------------------------------------------------------------------------------------------------------- checks

  private void assertSameAsWhole(TestRun run, String how) {
    assertThat(run.step.values()).as(how).isEqualTo(whole.step.values());
    for (String file : List.of("adapter.txt", "checkpoint-9/optimizer.safetensors", "checkpoint-9/adapter.txt")) {
      if (run.config.saveStrategy != IntervalStrategy.NO || file.equals("adapter.txt")) {
        assertThat(run.config.outputDir.resolve(file)).as(how).hasSameBinaryContentAs(folder.resolve("whole").resolve(file));
      }
    }
    assertThat(numbers(run)).as(how).isEqualTo(numbers(whole));
    assertThat(keys(run)).as(how).isEqualTo(keys(whole));
  }

  /** The names of each line of the log as they stand there, in their order. */
  private static List<List<String>> keys(TestRun run) {
    return TrainerTest.log(run).stream()
        .map(line -> line.properties().stream().map(java.util.Map.Entry::getKey).toList()).toList();
  }

  /** The log without what depends on the clock. */
  private static List<JsonNode> numbers(TestRun run) {
    List<JsonNode> lines = new ArrayList<>();
    for (JsonNode line : TrainerTest.log(run)) {
      lines.add(((ObjectNode) line).without(List.of("tokens_per_second", "eval_runtime", "eval_samples_per_second")));
    }
    return lines;
  }

  private static void assertNoLeftovers(TestRun run) throws IOException {
    try (Stream<Path> paths = Files.walk(run.config.outputDir)) {
      assertThat(paths.map(path -> path.getFileName().toString())).noneMatch(name -> name.startsWith("."));
    }
    assertThat(Json.read(run.config.outputDir.resolve("trainer_state.json")).isObject()).isTrue();
  }
}
