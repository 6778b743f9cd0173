package dev.oribi.optim;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.fasterxml.jackson.databind.JsonNode;
import dev.oribi.io.Json;
import java.nio.file.Path;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class ScheduleTest {
  private static final double PEAK = 10;

  /** The values that transformers' own tests expect of its schedulers for ten steps, two of them warm-up, and rate 10. */
  @ParameterizedTest
  @CsvSource(delimiter = '|', value = {
      "CONSTANT             | 10 10 10 10 10 10 10 10 10 10",
      "CONSTANT_WITH_WARMUP | 0 5 10 10 10 10 10 10 10 10",
      "LINEAR               | 0 5 10 8.75 7.5 6.25 5 3.75 2.5 1.25",
      "COSINE               | 0 5 10 9.61 8.53 6.91 5 3.08 1.46 0.38"})
  void isHuggingFaces(SchedulerType type, String expected) {
    Schedule schedule = new Schedule(type, PEAK, 2, 10, 0);
    String[] rates = expected.trim().split(" ");
    for (int step = 0; step < rates.length; step++) {
      assertThat(schedule.rate(step)).as("step %d", step).isCloseTo(Double.parseDouble(rates[step]), within(0.01));
    }
  }

  @Test
  void endsAtZeroOrAtTheLeastRate() {
    assertThat(new Schedule(SchedulerType.LINEAR, PEAK, 0, 7, 0).rate(7)).isZero();
    assertThat(new Schedule(SchedulerType.LINEAR, PEAK, 0, 7, 0).rate(9)).isZero();
    assertThat(new Schedule(SchedulerType.COSINE, PEAK, 3, 7, 0).rate(7)).isCloseTo(0, within(1e-15));
    assertThat(new Schedule(SchedulerType.COSINE, PEAK, 3, 7, 0.25).rate(7)).isCloseTo(2.5, within(1e-15));
  }

  @Test
  void takesTheWarmupRatioOnlyWithoutWarmupSteps() {
    assertThat(Schedule.warmupSteps(0, 0.03, 101)).isEqualTo(4);
    assertThat(Schedule.warmupSteps(7, 0.5, 100)).isEqualTo(7);
    assertThat(Schedule.warmupSteps(0, 0, 100)).isZero();
  }

  @Test
  void agreesWithThePublishedCosineSchedule() {
    JsonNode published = published("lr_cosine_with_warmup");
    JsonNode params = published.get("params");
    int cycle = params.get("cosine_cycle_iters").asInt();
    double peak = params.get("max_lr").asDouble();
    Schedule schedule = new Schedule(SchedulerType.COSINE, peak, params.get("warmup_iters").asInt(), cycle,
        params.get("min_lr").asDouble() / peak);
    JsonNode rates = published.get("expected").get("array");
    // Beyond its cycle the published one stays at its least rate; a run has no such steps.
    for (int step = 0; step <= cycle; step++) {
      assertThat(schedule.rate(step)).as("step %d", step).isCloseTo(rates.get(step).asDouble(), within(1e-12));
    }
  }

  private static JsonNode published(String name) {
    String folder = System.getProperty("oribi.testData", "");
    assumeTrue(!folder.isEmpty(), "needs -Doribi.testData");
    JsonNode cases = Json.read(Path.of(folder, "numeric", "cs336-attention-rope-adamw-lr.json")).get("cases");
    return StreamSupport.stream(cases.spliterator(), false).filter(c -> c.get("name").asText().equals(name)).findFirst()
        .orElseThrow();
  }
}
