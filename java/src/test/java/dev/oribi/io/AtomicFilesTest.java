package dev.oribi.io;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.OribiException;
import java.io.File;
import java.io.IOException;
import java.net.URISyntaxException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

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

  /** The two moments at which a process can die while it replaces a folder. */
  @Test
  void recoveryPutsTheOldFolderBackUnlessTheNewOneIsThere() throws IOException {
    Path target = folder.resolve("out");
    Files.writeString(Files.createDirectories(folder.resolve(".out.old-01")).resolve("x"), "old");
    Files.createDirectories(folder.resolve(".out.tmp-01/sub"));
    Files.createFile(folder.resolve(".outer.tmp-01"));
    AtomicFiles.recover(target);
    assertThat(target.resolve("x")).hasContent("old");
    assertThat(names()).containsExactly(".outer.tmp-01", "out");

    Files.writeString(Files.createDirectories(folder.resolve(".out.old-02")).resolve("x"), "older");
    AtomicFiles.recover(target);
    assertThat(target.resolve("x")).hasContent("old");
    assertThat(names()).containsExactly(".outer.tmp-01", "out");
    AtomicFiles.recover(folder.resolve("none/out"));
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

  /** Kills another JVM while it writes; the old content must be there and the leftover must be removable. */
  @Test
  void aKilledProcessLeavesTheOldFile() throws Exception {
    Path target = folder.resolve("a.txt");
    AtomicFiles.text(target, "old");
    Process process = new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-Xshare:auto",
        "-cp", classes(EndlessWriter.class) + File.pathSeparator + classes(AtomicFiles.class), EndlessWriter.class.getName(), target.toString())
        .redirectErrorStream(true).start();
    try {
      assertThat(process.getInputStream().read()).isEqualTo('!');
    } finally {
      process.destroyForcibly();
    }
    assertThat(process.waitFor(30, TimeUnit.SECONDS)).isTrue();
    assertThat(target).hasContent("old");
    assertThat(names()).hasSize(2).anyMatch(name -> name.startsWith(".a.txt.tmp-"));
    AtomicFiles.recover(target);
    assertThat(names()).containsExactly("a.txt");
  }

  /** The folder or jar of a class; the runner's own class path need not name it. */
  private static Path classes(Class<?> type) throws URISyntaxException {
    return Path.of(type.getProtectionDomain().getCodeSource().getLocation().toURI());
  }

  static final class EndlessWriter {
    public static void main(String[] args) {
      AtomicFiles.file(Path.of(args[0]), out -> {
        AtomicFiles.writeFully(out, ByteBuffer.wrap(new byte[1000]));
        System.out.print('!');
        System.out.flush();
        while (true) {
          AtomicFiles.writeFully(out, ByteBuffer.wrap(new byte[1000]));
          out.position(0);
        }
      });
    }
  }
}
