package dev.oribi.cli;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.function.BooleanSupplier;
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
  /** Of so many lives one is killed only after it has saved, however slow the disk is. */
  private static final int SAVING = 4;
  /** No life gets there, however fast the machine; with a constant rate the whole run may be as long as the lives together. */
  private static final String NO_END = "--max-steps=1000000";
  private static final String CONSTANT = "--lr-scheduler-type=constant";
  private static final int LAST_STEPS = 20;

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
    for (int i = 0; i < KILLS; i++) {
      List<String> arguments = tiny.train(out, NO_END, CONSTANT, "--save-steps=2", "--save-total-limit=3", "--resume");
      int saved = i % SAVING == 0 ? newest(out) : -1;
      int code = end(TinyRun.start(arguments), () -> newest(out) > saved, random.nextInt(MOST_MILLIS), true);
      assertThat(code).as("life %d, seed %d", i, seed).isEqualTo(KILLED);
    }
    finish(out, "seed " + seed);
  }

  @Test
  void savesOnTermination() throws Exception {
    Path out = folder.resolve("terminated");
    Process process = TinyRun.start(tiny.train(out, NO_END, CONSTANT, "--save-strategy=no"));
    assertThat(end(process, () -> true, 20, false)).isEqualTo(TERMINATED);
    assertThat(out.toFile().list((dir, name) -> name.matches("checkpoint-\\d+"))).hasSize(1);
    finish(out, "terminated");
  }

  /** The last step that was saved; 0: none. */
  private static int newest(Path out) {
    String[] names = out.toFile().list((dir, name) -> name.matches("checkpoint-\\d+"));
    return names == null ? 0 : Arrays.stream(names).mapToInt(n -> Integer.parseInt(n.substring(n.indexOf('-') + 1))).max().orElse(0);
  }

  /** Reads lines up to one of a step after which {@code due} holds, waits some more milliseconds, sends the signal and returns the exit code. */
  private static int end(Process process, BooleanSupplier due, int millis, boolean kill) throws IOException, InterruptedException {
    try (BufferedReader lines = new BufferedReader(
        new InputStreamReader(process.getInputStream(), StandardCharsets.UTF_8))) {
      StringBuilder seen = new StringBuilder();
      String line = lines.readLine();
      while (line != null && !(line.startsWith("step ") && due.getAsBoolean())) {
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

  /** Goes on for some steps, to the same bytes as in one run. */
  private void finish(Path out, String how) {
    String steps = "--max-steps=" + (newest(out) + LAST_STEPS);
    TinyRun.Outcome outcome = TinyRun.run(tiny.train(out, steps, CONSTANT, "--save-strategy=no", "--resume"));
    assertThat(outcome.code()).as(outcome.err()).isZero();
    assertThat(outcome.out()).contains("Going on from");
    assertSameAsWhole(out, steps, how);
  }

  private void assertSameAsWhole(Path out, String steps, String how) {
    Path whole = folder.resolve("whole");
    assertThat(TinyRun.run(tiny.train(whole, steps, CONSTANT, "--save-strategy=no")).code()).isZero();
    assertThat(out.resolve("adapter_model.safetensors")).as(how)
        .hasSameBinaryContentAs(whole.resolve("adapter_model.safetensors"));
  }
}
