package dev.oribi.io;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.OribiException;
import java.io.File;
import java.io.IOException;
import java.net.URISyntaxException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class AtomicFilesTest {
  @TempDir Path folder;

  private List<String> names() throws IOException {
    try (Stream<Path> files = Files.list(folder)) {
      return files.map(p -> p.getFileName().toString()).sorted().toList();
    }
  }

  @Test
  void writesAndReplacesFilesAndMakesTheirFolder() throws IOException {
    Path target = folder.resolve("new/sub/a.txt");
    AtomicFiles.text(target, "one");
    AtomicFiles.text(target, "tw\u00f6");
    assertThat(target).hasContent("tw\u00f6");
    assertThat(names()).containsExactly("new");
  }

  @Test
  void anExceptionLeavesTheOldFileAndNoTemporaryOne() throws IOException {
    Path target = folder.resolve("a.txt");
    AtomicFiles.text(target, "old");
    assertThatThrownBy(() -> AtomicFiles.file(target, out -> {
      AtomicFiles.writeFully(out, ByteBuffer.wrap(new byte[100]));
      assertThat(names()).hasSize(2);
      throw new IOException("cable pulled");
    })).isInstanceOf(OribiException.class).hasMessageContaining(target.toString()).hasMessageContaining("cable pulled");
    assertThatThrownBy(() -> AtomicFiles.file(target, out -> {
      throw new IllegalStateException("bug");
    })).isInstanceOf(IllegalStateException.class);
    assertThatThrownBy(() -> AtomicFiles.file(target, out -> {
      throw new StackOverflowError();
    })).isInstanceOf(StackOverflowError.class);
    assertThat(target).hasContent("old");
    assertThat(names()).containsExactly("a.txt");
  }

  @Test
  void anInterruptLeavesTheOldFileAndNoTemporaryOne() throws IOException {
    Path target = folder.resolve("a.txt");
    AtomicFiles.text(target, "old");
    try {
      assertThatThrownBy(() -> AtomicFiles.file(target, out -> {
        Thread.currentThread().interrupt();
        AtomicFiles.writeFully(out, ByteBuffer.wrap(new byte[100]));
      })).isInstanceOf(OribiException.class).hasMessageContaining("ClosedByInterrupt");
    } finally {
      assertThat(Thread.interrupted()).isTrue();
    }
    assertThat(target).hasContent("old");
    assertThat(names()).containsExactly("a.txt");
  }

  @Test
  void aFullDiskIsSaidInOneLine() throws IOException {
    Path target = folder.resolve("a.txt");
    assertThatThrownBy(() -> AtomicFiles.file(target, out -> {
      throw new IOException("No space left on device");
    })).isInstanceOf(OribiException.class).hasMessageContaining("the disk is full").hasMessageContaining("bytes free")
        .satisfies(e -> assertThat(e.getMessage().lines()).hasSize(1));
    assertThat(names()).isEmpty();
  }

  @Test
  void theSystemsOwnFullDeviceIsRecognized() throws IOException {
    Path full = Path.of("/dev/full");
    Assumptions.assumeTrue(Files.isWritable(full), "/dev/full is not there");
    Path target = folder.resolve("a.txt");
    assertThatThrownBy(() -> AtomicFiles.file(target, out -> {
      try (FileChannel device = FileChannel.open(full, StandardOpenOption.WRITE)) {
        AtomicFiles.writeFully(device, ByteBuffer.wrap(new byte[100]));
      }
    })).isInstanceOf(OribiException.class).hasMessageContaining("the disk is full");
    assertThat(names()).isEmpty();
  }

  @Test
  void foldersAppearWholeAndReplaceTheOldOne() throws IOException {
    Path target = folder.resolve("checkpoint-1");
    AtomicFiles.directory(target, dir -> {
      assertThat(target).doesNotExist();
      Files.writeString(Files.createDirectories(dir.resolve("sub")).resolve("x"), "1");
    });
    assertThat(target.resolve("sub/x")).hasContent("1");
    AtomicFiles.directory(target, dir -> Files.writeString(dir.resolve("y"), "2"));
    assertThat(target.resolve("sub")).doesNotExist();
    assertThat(target.resolve("y")).hasContent("2");
    assertThatThrownBy(() -> AtomicFiles.directory(target, dir -> {
      Files.writeString(dir.resolve("z"), "3");
      throw new IOException("No space left on device");
    })).isInstanceOf(OribiException.class).hasMessageContaining("the disk is full");
    assertThat(target.resolve("y")).hasContent("2");
    assertThat(names()).containsExactly("checkpoint-1");
  }

  /** The name that a process of this machine with a number that no process has would give its files. */
  private static String dead(String random) {
    String[] self = FileOwner.SELF.split("-");
    return self[0] + "-" + 999_999_999 + "-" + self[2] + "-" + random;
  }

  /** The two moments at which a process can die while it replaces a folder. */
  @Test
  void recoveryPutsTheOldFolderBackUnlessTheNewOneIsThere() throws IOException {
    Path target = folder.resolve("out");
    Files.writeString(Files.createDirectories(folder.resolve(".out.old-" + dead("01"))).resolve("x"), "old");
    Files.createDirectories(folder.resolve(".out.tmp-" + dead("01") + "/sub"));
    Path other = Files.createFile(folder.resolve(".outer.tmp-" + dead("01")));
    AtomicFiles.recover(target);
    assertThat(target.resolve("x")).hasContent("old");
    assertThat(names()).containsExactly(other.getFileName().toString(), "out");

    Files.writeString(Files.createDirectories(folder.resolve(".out.old-" + dead("02"))).resolve("x"), "older");
    AtomicFiles.recover(target);
    assertThat(target.resolve("x")).hasContent("old");
    assertThat(names()).containsExactly(other.getFileName().toString(), "out");
    AtomicFiles.recover(folder.resolve("none/out"));
  }

  /** Whoever may still be writing, and what is nobody's, stays: this process, another machine's, a later process of the same number. */
  @Test
  void recoveryLeavesWhatIsNotADeadProcesss() throws IOException {
    String[] self = FileOwner.SELF.split("-");
    Path target = folder.resolve("out");
    List<String> living = List.of(".out.tmp-" + FileOwner.SELF + "-01", ".out.tmp-00000000-999999999-" + self[2] + "-01", ".out.tmp-mine",
        ".out.tmp-0123456789ab", ".out.old-" + FileOwner.SELF + "-01", ".out.tmp-" + dead("01") + "/x");
    for (String name : living.subList(0, 5)) {
      Files.createFile(folder.resolve(name));
    }
    Files.createFile(folder.resolve(".out.tmp-" + self[0] + "-" + self[1] + "-" + (Long.parseLong(self[2]) - 1000) + "-02"));
    AtomicFiles.recover(target);
    assertThat(names()).containsExactlyInAnyOrderElementsOf(living.subList(0, 5));
  }

  /** What is made inside a folder that gets its name later has no second copy; so a kill leaves one name to look for. */
  @Test
  void aFileInsideAFolderThatIsBeingMadeHasNoCopyOfItsOwn() {
    AtomicFiles.directory(folder.resolve("out"), temp -> AtomicFiles.file(temp.resolve("x"), out -> {
      AtomicFiles.writeFully(out, ByteBuffer.wrap(new byte[3]));
      try (Stream<Path> files = Files.list(temp)) {
        assertThat(files).containsExactly(temp.resolve("x"));
      }
    }));
    AtomicFiles.staged(folder.resolve("y"), temp -> AtomicFiles.file(temp, out -> {
      AtomicFiles.writeFully(out, ByteBuffer.wrap(new byte[3]));
      assertThat(names()).hasSize(2);
    }));
    assertThat(folder.resolve("out/x")).hasSize(3);
    assertThat(folder.resolve("y")).hasSize(3);
  }

  @Test
  void aFolderThatCannotBeMadeIsOneLine() throws IOException {
    Path file = Files.createFile(folder.resolve("file"));
    assertThatThrownBy(() -> AtomicFiles.text(file.resolve("a.txt"), "x")).isInstanceOf(OribiException.class)
        .hasMessageContaining("Cannot write " + file.resolve("a.txt"));
  }

  @Test
  void deletingDoesNotFollowLinks() throws IOException {
    Path outside = Files.createDirectory(folder.resolve("outside"));
    Files.createFile(outside.resolve("precious"));
    Path doomed = Files.createDirectory(folder.resolve("doomed"));
    Files.createSymbolicLink(doomed.resolve("link"), outside);
    AtomicFiles.deleteTree(doomed);
    assertThat(doomed).doesNotExist();
    assertThat(outside.resolve("precious")).exists();
  }

  /** Starts another JVM that writes without end, waits until it does, and sends it a signal; returns its exit code. */
  private int end(Path target, String what, boolean kill) throws Exception {
    Process process = new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-Xshare:auto",
        "-cp", classes(EndlessWriter.class) + File.pathSeparator + classes(AtomicFiles.class), EndlessWriter.class.getName(), target.toString(), what)
        .redirectErrorStream(true).start();
    try {
      assertThat(process.getInputStream().read()).isEqualTo('!');
    } finally {
      assertThat(kill ? process.toHandle().destroyForcibly() : process.toHandle().destroy()).isTrue();
    }
    assertThat(new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8)).as("said after the signal").isEmpty();
    assertThat(process.waitFor(30, TimeUnit.SECONDS)).isTrue();
    return process.exitValue();
  }

  /** The old content must be there, and the next one who writes there finds and deletes what was left. */
  @ParameterizedTest
  @ValueSource(strings = {"file", "folder"})
  void aKilledProcessLeavesTheOldFileAndWhatTheNextOneDeletes(String what) throws Exception {
    Path target = folder.resolve("a");
    AtomicFiles.text(target, "old");
    assertThat(end(target, what, true)).isEqualTo(128 + 9);
    assertThat(target).hasContent("old");
    assertThat(names()).hasSize(2).anyMatch(name -> name.startsWith(".a.tmp-" + FileOwner.SELF.substring(0, 9)));
    AtomicFiles.recover(target);
    assertThat(names()).containsExactly("a");
  }

  @ParameterizedTest
  @ValueSource(strings = {"file", "folder"})
  void aProcessThatIsToldToEndLeavesNothingAtAll(String what) throws Exception {
    Path target = folder.resolve("a");
    AtomicFiles.text(target, "old");
    assertThat(end(target, what, false)).isEqualTo(128 + 15);
    assertThat(target).hasContent("old");
    assertThat(names()).containsExactly("a");
  }

  /** The folder or jar of a class; the runner's own class path need not name it. */
  private static Path classes(Class<?> type) throws URISyntaxException {
    return Path.of(type.getProtectionDomain().getCodeSource().getLocation().toURI());
  }

  static final class EndlessWriter {
    public static void main(String[] args) {
      Path target = Path.of(args[0]);
      if (args[1].equals("file")) {
        AtomicFiles.file(target, EndlessWriter::write);
      } else {
        AtomicFiles.directory(target, temp -> {
          for (int i = 0; ; i++) {
            Path sub = Files.createDirectories(temp.resolve("sub" + i % 100));
            AtomicFiles.file(sub.resolve("file" + i), out -> AtomicFiles.writeFully(out, ByteBuffer.wrap(new byte[1000])));
            said(i == 0);
          }
        });
      }
    }

    private static void write(FileChannel out) throws IOException {
      for (int i = 0; ; i++) {
        AtomicFiles.writeFully(out, ByteBuffer.wrap(new byte[1000]));
        out.position(0);
        said(i == 0);
      }
    }

    private static void said(boolean first) {
      if (first) {
        System.out.print('!');
        System.out.flush();
      }
    }
  }
}
