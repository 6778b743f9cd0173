package dev.oribi.cli;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Real processes, real signals: a run that is ended from outside and goes on must give the same adapter to the byte. */
class KillTest {
  private static final int KILLS = 20;
  private static final int KILLED = 128 + 9;
  private static final int TERMINATED = 128 + 15;
  /** Long enough for some lives to save a checkpoint or more, and short enough for some to be killed in the middle. */
  private static final int MOST_MILLIS = 700;
  /** More than twenty short lives get through. */
  private static final String STEPS = "--max-steps=600";

  @TempDir Path folder;
  private TinyRun tiny;

  @BeforeEach
  void makeModel() throws IOException {
    tiny = new TinyRun(folder);
  }

  @Test
  void goesOnAfterTwentyKills() throws Exception {
    long seed = System.nanoTime();
    Random random = new Random(seed);
    Path out = folder.resolve("killed");
    int killed = 0;
    for (int i = 0; i < KILLS; i++) {
      List<String> arguments = tiny.train(out, STEPS, "--save-steps=2", "--save-total-limit=3", "--resume");
      killed += end(TinyRun.start(arguments), random.nextInt(MOST_MILLIS), true) == KILLED ? 1 : 0;
    }
    assertThat(killed).as("kills that came before the end, seed %d", seed).isEqualTo(KILLS);
    finish(out);
    assertSameAsWhole(out, "seed " + seed);
  }

  @Test
  void savesOnTermination() throws Exception {
    Path out = folder.resolve("terminated");
    Process process = TinyRun.start(tiny.train(out, STEPS, "--save-strategy=no"));
    assertThat(end(process, 20, false)).isEqualTo(TERMINATED);
    assertThat(out.toFile().list((dir, name) -> name.matches("checkpoint-\\d+"))).hasSize(1);
    finish(out);
    assertSameAsWhole(out, "terminated");
  }

  /** Waits for the first line of a step and for some more milliseconds, sends the signal and returns the exit code. */
  private static int end(Process process, int millis, boolean kill) throws IOException, InterruptedException {
    try (BufferedReader lines = new BufferedReader(
        new InputStreamReader(process.getInputStream(), StandardCharsets.UTF_8))) {
      StringBuilder seen = new StringBuilder();
      String line = lines.readLine();
      while (line != null && !line.startsWith("step ")) {
        seen.append(line).append('\n');
        line = lines.readLine();
      }
      assertThat(line).as("a step, after%n%s", seen).isNotNull();
      Thread.sleep(millis);
      // Through the handle: Process.destroy would close the pipe that is read here.
      boolean sent = kill ? process.toHandle().destroyForcibly() : process.toHandle().destroy();
      assertThat(sent).isTrue();
      while (lines.readLine() != null) {
        // A full pipe would hold the process up.
        continue;
      }
    }
    return process.waitFor();
  }

  private void finish(Path out) {
    TinyRun.Outcome outcome = TinyRun.run(tiny.train(out, STEPS, "--save-strategy=no", "--resume"));
    assertThat(outcome.code()).as(outcome.err()).isZero();
    assertThat(outcome.out()).contains("Going on from");
  }

  private void assertSameAsWhole(Path out, String how) {
    Path whole = folder.resolve("whole");
    assertThat(TinyRun.run(tiny.train(whole, STEPS, "--save-strategy=no")).code()).isZero();
    assertThat(out.resolve("adapter_model.safetensors")).as(how)
        .hasSameBinaryContentAs(whole.resolve("adapter_model.safetensors"));
  }
}
