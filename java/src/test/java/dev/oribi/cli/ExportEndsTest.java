package dev.oribi.cli;

import static org.assertj.core.api.Assertions.assertThat;

import dev.oribi.io.FileOwner;
import dev.oribi.testing.RandomAdapter;
import dev.oribi.testing.TestMachine;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Exports and runs in processes of their own that come to a bad end: told to end, killed, without room. Nothing is half-written,
 * what was there stays, and one line says why.
 */
@Timeout(120)
class ExportEndsTest {
  private static final Path TINY = Path.of("../models/tiny/model").toAbsolutePath().normalize();
  private static final int KILLED = 128 + 9;
  private static final int TERMINATED = 128 + 15;

  /** In blocks of 512 bytes: less than the weights of the smallest export, more than what Java itself writes. */
  private static final String LIMIT = "ulimit -f 300; ";

  @TempDir private static Path adapter;
  @TempDir private Path folder;

  @BeforeAll
  static void makeAdapter() {
    RandomAdapter.write(adapter, TINY, 8, 16, true, 0.2);
    assertThat(TinyRun.run("version").code()).isZero(); // the native libraries lie where other processes find them
  }

  private static List<String> export(String format, Path output) {
    TestMachine.commandRuns();
    return List.of("export", "--model", TINY.toString(), "--adapter", adapter.toString(), "--format", format, "--overwrite", "--threads", "1",
        "--device", TestMachine.name(), "--output", output.toString());
  }

  /** A former export under the name of the new one. */
  private Path former(String format) throws IOException {
    Path target = folder.resolve("out");
    if (format.startsWith("gguf")) {
      return Files.writeString(target, "former");
    }
    Files.createDirectory(target);
    return Files.writeString(target.resolve(format.equals("ollama") ? "Modelfile" : format.equals("adapter") ? "adapter_config.json" : "config.json"), "former");
  }

  private List<String> names() throws IOException {
    try (Stream<Path> files = Files.list(folder)) {
      return files.map(f -> f.getFileName().toString()).sorted().toList();
    }
  }

  /** Waits until the process has begun to write, and signals it; it does not come to an end before, for it speaks before it is done. */
  private int end(Process process, boolean kill) throws Exception {
    while (process.isAlive() && names().stream().noneMatch(n -> n.startsWith(".out"))) {
      Thread.sleep(5);
    }
    assertThat(process.isAlive()).as("was there in time").isTrue();
    assertThat(kill ? process.toHandle().destroyForcibly() : process.toHandle().destroy()).isTrue();
    String said = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertThat(said).doesNotContain("Exception").doesNotContain("oribi: ");
    assertThat(process.waitFor(60, TimeUnit.SECONDS)).isTrue();
    return process.exitValue();
  }

  @ParameterizedTest
  @ValueSource(strings = {"adapter", "merged", "merged-nf4", "gguf", "gguf-adapter", "ollama"})
  void anExportThatIsToldToEndLeavesNothing(String format) throws Exception {
    Path former = former(format);
    assertThat(end(TinyRun.startHeld(export(format, folder.resolve("out"))), false)).isEqualTo(TERMINATED);
    assertThat(former).hasContent("former");
    assertThat(names()).containsExactly("out");
  }

  @ParameterizedTest
  @ValueSource(strings = {"merged-nf4", "gguf"})
  void anExportThatIsKilledIsClearedByTheNext(String format) throws Exception {
    Path former = former(format);
    assertThat(end(TinyRun.startHeld(export(format, folder.resolve("out"))), true)).isEqualTo(KILLED);
    assertThat(former).hasContent("former");
    assertThat(names()).hasSize(2).allMatch(n -> n.equals("out") || n.startsWith(".out.tmp-"));
    TinyRun.Outcome next = TinyRun.run(export(format, folder.resolve("out")));
    assertThat(next.code()).as(next.err()).isZero();
    assertThat(names()).containsExactly("out");
    assertThat(former).satisfiesAnyOf(f -> assertThat(f).doesNotExist(), f -> assertThat(Files.size(f)).isGreaterThan(6));
  }

  private static TinyRun.Outcome inShell(String before, List<String> arguments) throws Exception {
    List<String> command = new ArrayList<>(List.of("sh", "-c", before + "exec \"$@\"", "sh"));
    command.addAll(TinyRun.command(arguments));
    Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
    String said = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    return new TinyRun.Outcome(process.waitFor(), "", said);
  }

  private static String lastLine(String text) {
    return text.strip().substring(text.strip().lastIndexOf('\n') + 1);
  }

  @ParameterizedTest
  @ValueSource(strings = {"adapter", "merged", "merged-nf4", "gguf", "gguf-adapter", "ollama"})
  void anExportWithoutRoomSaysSo(String format) throws Exception {
    Path former = former(format);
    TinyRun.Outcome outcome = inShell(LIMIT, export(format, folder.resolve("out")));
    assertThat(outcome.code()).as(outcome.err()).isEqualTo(1);
    assertThat(lastLine(outcome.err())).startsWith("oribi: Cannot write " + folder.resolve("out")).contains("may not become so large");
    assertThat(outcome.err()).doesNotContain("\tat ").doesNotContain(".tmp-");
    assertThat(former).hasContent("former");
    assertThat(names()).containsExactly("out");
  }

  /** A disk of its own, which is as full as a disk can be. */
  @ParameterizedTest
  @ValueSource(strings = {"gguf", "adapter"})
  void aFullDiskIsSaidInOneLine(String format) throws Exception {
    Path disk = Files.createDirectory(folder.resolve("disk"));
    String mount = "mount -t tmpfs -o size=200k none '" + disk + "' && ";
    Process possible = new ProcessBuilder("unshare", "-rm", "sh", "-c", mount + "true").start();
    Assumptions.assumeTrue(possible.waitFor() == 0, "no file system can be mounted here");
    List<String> command = new ArrayList<>(List.of("unshare", "-rm", "sh", "-c", mount + "cd '" + disk + "' && \"$@\"; code=$?; ls -A; exit $code", "sh"));
    command.addAll(TinyRun.command(export(format, disk.resolve("out"))));
    Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
    String said = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertThat(process.waitFor()).as(said).isEqualTo(1);
    assertThat(lastLine(said)).as("the listing of the disk is empty, so that the error is the last line").startsWith("oribi: Cannot write ")
        .containsAnyOf("the disk is full", "are free on that disk");
  }

  /** The run ends with an error and leaves no half of a checkpoint; with room the same command makes it. */
  @Test
  void aRunWithoutRoomForACheckpointLeavesNoHalfOfIt() throws Exception {
    TinyRun tiny = new TinyRun(folder);
    Path out = folder.resolve("run");
    List<String> arguments = tiny.train(out, "--max-steps=4", "--save-steps=2", "--threads=1", "--resume");
    TinyRun.Outcome outcome = inShell("ulimit -f 80; ", arguments);
    assertThat(outcome.code()).as(outcome.err()).isEqualTo(1);
    assertThat(lastLine(outcome.err())).startsWith("oribi: Cannot write " + out).contains("may not become so large").doesNotContain(".tmp-");
    try (Stream<Path> files = Files.walk(out)) {
      assertThat(files).noneMatch(f -> f.getFileName().toString().matches("\\..*|checkpoint-.*|adapter_model.safetensors"));
    }
    assertThat(TinyRun.run(arguments).code()).isZero();
    assertThat(checkpoints(out)).containsExactly("checkpoint-2", "checkpoint-4");
  }

  /** Also a run that was killed while it wrote: what it left is gone after the next one, which goes on from the checkpoint before. */
  @Test
  void aFileOfARunThatStillWritesIsLeftAlone() throws Exception {
    TinyRun tiny = new TinyRun(folder);
    Path out = Files.createDirectory(folder.resolve("run"));
    String[] self = FileOwner.SELF.split("-");
    Path dead = Files.createDirectory(out.resolve(".checkpoint-2.tmp-" + self[0] + "-999999999-" + self[2] + "-01"));
    Path result = Files.createDirectory(out.resolve(".result.tmp-" + self[0] + "-999999999-" + self[2] + "-01"));
    Path living = Files.createDirectory(out.resolve(".checkpoint-2.tmp-" + FileOwner.SELF + "-01"));
    assertThat(TinyRun.run(tiny.train(out, "--max-steps=2", "--save-steps=2")).code()).isZero();
    assertThat(dead).doesNotExist();
    assertThat(result).doesNotExist();
    assertThat(living).exists();
  }

  private static List<String> checkpoints(Path out) throws IOException {
    try (Stream<Path> files = Files.list(out)) {
      return files.map(f -> f.getFileName().toString()).filter(n -> n.startsWith("checkpoint-")).sorted().toList();
    }
  }
}
