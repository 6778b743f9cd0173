package dev.oribi.train;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import dev.oribi.io.Json;
import dev.oribi.testing.TestMachine;
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What passes before the end of the first step: told once, whole, and beside the log of the training. */
class StartClockTest {
  private static final Path TINY = Path.of("..", "models", "tiny");

  @TempDir Path folder;

  @Test
  void theLineNamesEveryPartAndTheirSum() throws Exception {
    StartClock clock = new StartClock();
    Thread.sleep(20);
    clock.end("data");
    clock.end("plan");
    clock.end("data");
    Thread.sleep(20);
    clock.endReading("weights", 3L << 30);
    assertThat(clock.parts()).containsOnlyKeys("java", "data", "plan", "weights");
    assertThat(clock.parts().get("data")).isGreaterThanOrEqualTo(0.02);
    double sum = clock.parts().values().stream().mapToDouble(Double::doubleValue).sum();
    assertThat(sum).as("never more than has passed").isLessThanOrEqualTo(ManagementFactory.getRuntimeMXBean().getUptime() / 1e3 + 0.01);
    assertThat(clock.line())
        .matches("Start: java \\d+\\.\\d\\d s, data \\d\\.\\d\\d, plan \\d\\.\\d\\d, weights \\d\\.\\d\\d \\(3\\.00 GiB, \\d+\\.\\d GB/s\\); \\d+\\.\\d\\d s in all");
  }

  @Test
  void aRunTellsItOnce() throws Exception {
    TestMachine.commandRuns();
    ByteArrayOutputStream shown = new ByteArrayOutputStream();
    TrainConfig config = new TrainConfig();
    config.machine.device = TestMachine.name();
    config.model = TINY.resolve("model");
    config.data = List.of(TINY.resolve("instruct").resolve("train.jsonl"));
    config.outputDir = folder.resolve("out");
    config.maxSteps = 3;
    config.loggingSteps = 1;
    try (FineTuning run = FineTuning.open(config, new PrintStream(shown, true, StandardCharsets.UTF_8))) {
      run.train();
    }
    assertThat(shown.toString(StandardCharsets.UTF_8).lines().filter(l -> l.startsWith("Start: "))).hasSize(1);
    List<JsonNode> starts = new ArrayList<>();
    List<JsonNode> losses = new ArrayList<>();
    for (String line : Files.readAllLines(config.outputDir.resolve("train.jsonl"))) {
      JsonNode entry = Json.parse(line, "line");
      (entry.has("loss") ? losses : starts).add(entry);
    }
    assertThat(losses).extracting(e -> e.get("step").asInt()).containsExactly(1, 2, 3);
    assertThat(starts).hasSize(1);
    for (String part : List.of("java", "configuration", "data", "device", "plan", "memory", "weights", "first_step")) {
      assertThat(starts.get(0).path("start_" + part).asDouble(-1)).as(part).isGreaterThanOrEqualTo(0);
    }
    assertThat(starts.get(0).size()).as("step, epoch and the parts").isEqualTo(10);
  }
}
