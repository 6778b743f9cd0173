package dev.oribi.cli;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import dev.oribi.cli.TinyRun.Outcome;
import dev.oribi.io.Json;
import dev.oribi.testing.TestMachine;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The commands with {@code --fp8}: where it cannot be, in one line; and training on a card that has it, next to 16 bits. */
class Fp8RunTest {
  private static final Path TINY = Path.of("..", "models", "tiny");
  private static final int STEPS = 120;

  /** Means of 20 steps: on an H100 they were up to 3.2 % apart, and 0.011 where the loss is large. */
  private static final double NEAR = 0.06;

  @TempDir Path folder;

  private static List<String> train(String command, Path output, String... options) {
    List<String> arguments = new ArrayList<>(List.of(command, "--model", TINY.resolve("model").toString(), "--data",
        TINY.resolve("instruct/train.jsonl").toString(), "--output-dir", output.toString(), "--max-steps=" + STEPS,
        "--learning-rate=2e-3", "--logging-steps=1", "--save-strategy=no"));
    arguments.addAll(List.of(options));
    return arguments;
  }

  @Test
  void aCpuRefusesIt() {
    String refusal = "oribi: --fp8: a CPU has no products in FP8, only GPUs of compute capability 9.0 (Hopper)";
    for (String command : List.of("train", "plan")) {
      Outcome outcome = TinyRun.run(train(command, folder.resolve("out"), "--fp8", "--device=cpu"));
      assertThat(outcome.code()).isNotZero();
      assertThat(outcome.err()).startsWith(refusal).hasLineCount(1);
    }
    Outcome bench = TinyRun.run("bench", "step", "--fp8", "--device=cpu", "--batch=1", "--seq=16");
    assertThat(bench.err()).startsWith(refusal).hasLineCount(1);
  }

  @Test
  void nothingInFp8Learns() {
    Outcome full = TinyRun.run(train("train", folder.resolve("out"), "--fp8", "--full", "--device=cpu"));
    assertThat(full.err()).startsWith("oribi: --fp8 and --full exclude each other: weights in FP8 cannot learn").hasLineCount(1);
  }

  @Test
  void itLearnsAsIn16Bits() throws IOException {
    TestMachine.needsCuda();
    TestMachine.commandRuns();
    List<Double> plain = losses("plain");
    List<Double> fp8 = losses("fp8", "--fp8");
    assertThat(fp8).as("it is in FP8").isNotEqualTo(plain);
    assertThat(mean(fp8, STEPS - 20)).as("it learns").isLessThan(0.7 * mean(fp8, 0));
    for (int from = 0; from < STEPS; from += 20) {
      System.out.printf("steps %d to %d: loss %.4f, in FP8 %.4f%n", from + 1, from + 20, mean(plain, from), mean(fp8, from));
      assertThat(Math.abs(mean(fp8, from) / mean(plain, from) - 1)).isLessThan(NEAR);
    }
    Outcome plan = TinyRun.run(train("plan", folder.resolve("plan"), "--fp8", "--device=cuda"));
    assertThat(plan.out()).contains("weights in FP8", "FP8: products with frozen weights in");
  }

  private List<Double> losses(String name, String... options) throws IOException {
    Path output = folder.resolve(name);
    List<String> arguments = train("train", output, options);
    arguments.add("--device=cuda");
    Outcome outcome = TinyRun.run(arguments);
    assertThat(outcome.code()).as(outcome.err()).isZero();
    List<Double> losses = new ArrayList<>();
    for (String line : Files.readAllLines(output.resolve("train.jsonl"))) {
      JsonNode step = Json.parse(line, "train.jsonl");
      if (step.has("loss")) {
        losses.add(step.get("loss").asDouble());
      }
    }
    assertThat(losses).hasSize(STEPS);
    return losses;
  }

  private static double mean(List<Double> losses, int from) {
    return losses.subList(from, from + 20).stream().mapToDouble(Double::doubleValue).average().orElseThrow();
  }
}
