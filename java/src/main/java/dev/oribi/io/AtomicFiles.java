package dev.oribi.io;

import dev.oribi.OribiException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryStream;
import java.nio.file.FileVisitResult;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.SimpleFileVisitor;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.security.SecureRandom;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;
import java.util.stream.Stream;

/**
 * Writes files and folders beside their target and renames them when they are whole.
 *
 * <p>Whatever happens in between (an exception, an interrupt, a full disk, SIGTERM) the target is what it was before and the
 * temporary copy is removed. Only a process that is killed outright leaves its temporary copy behind; its name begins with a dot,
 * nobody mistakes it for the target, and {@link #recover} clears it. Data and folder entries are flushed to the disk
 * before and after the rename, so a target that exists after a power cut is whole. What is written inside a folder or a
 * file that is being made this way has no copy of its own.
 */
public final class AtomicFiles {
  private static final String TEMPORARY = ".tmp-";
  private static final String OLD = ".old-";
  private static final SecureRandom RANDOM = new SecureRandom();
  private static final boolean WINDOWS = System.getProperty("os.name").toLowerCase(Locale.ROOT).startsWith("windows");

  /** Writes the content of a file into a channel that is open at position 0. */
  @FunctionalInterface
  public interface Content {
    void writeTo(FileChannel out) throws IOException;
  }

  /** Fills a new, empty folder. */
  @FunctionalInterface
  public interface Filler {
    void fill(Path folder) throws IOException;
  }

  private AtomicFiles() {}

  /** Writes or replaces one file. */
  public static void file(Path target, Content content) {
    if (Temporaries.contains(target.toAbsolutePath())) {
      Temporaries.waitIfEnding();
      try {
        write(target, content, StandardOpenOption.CREATE, StandardOpenOption.TRUNCATE_EXISTING, StandardOpenOption.WRITE);
      } catch (IOException e) {
        throw failure(target, e);
      }
      return;
    }
    staged(target, temp -> write(temp, content, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE));
  }

  private static void write(Path file, Content content, StandardOpenOption... how) throws IOException {
    try (FileChannel out = FileChannel.open(file, how)) {
      content.writeTo(out);
      out.force(true);
    }
  }

  /** Writes or replaces one UTF-8 text file. */
  public static void text(Path target, String text) {
    file(target, out -> writeFully(out, ByteBuffer.wrap(text.getBytes(StandardCharsets.UTF_8))));
  }

  /**
   * Writes or replaces one file that is made, and perhaps looked at, under another name first: {@code filler} gets a path beside
   * the target at which it makes a file.
   */
  public static void staged(Path target, Filler filler) {
    Path file = target.toAbsolutePath();
    make(file, temporary(file), temp -> {
      filler.fill(temp);
      Temporaries.waitIfEnding();
      Files.move(temp, file, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
    });
  }

  /** Runs {@code filler} and flushes the folder; whatever is left at {@code temp} is deleted. */
  private static void make(Path target, Path temp, Filler filler) {
    Temporaries.add(temp, target);
    try {
      Files.createDirectories(target.getParent());
      filler.fill(temp);
      syncFolder(target.getParent());
    } catch (IOException e) {
      discard(temp, e);
      throw failure(target, e);
    } catch (RuntimeException | Error e) {
      discard(temp, e);
      throw e;
    } finally {
      Temporaries.remove(temp);
    }
  }

  /**
   * Writes a folder, or replaces one with all it holds.
   *
   * <p>A new folder appears at once. A folder that exists cannot be swapped in one step: it is first renamed to {@code
   * .NAME.old-RANDOM}, then the new one takes its name, then the old one is deleted; a process killed exactly between the
   * two renames leaves the old content under that name, and {@link #recover} puts it back.
   */
  public static void directory(Path target, Filler filler) {
    Path folder = target.toAbsolutePath();
    make(folder, temporary(folder), temp -> {
      Files.createDirectory(temp);
      filler.fill(temp);
      syncTree(temp);
      Temporaries.waitIfEnding();
      swapIn(temp, folder);
    });
  }

  /** A folder beside {@code target} that is deleted when {@code filler} has done with it. */
  public static void scratch(Path target, Filler filler) {
    Path file = target.toAbsolutePath();
    make(file, temporary(file), temp -> {
      Files.createDirectory(temp);
      filler.fill(temp);
      deleteTree(temp);
    });
  }

  /**
   * Clears what killed processes left beside {@code target}: temporary copies are deleted, and a folder that was moved aside to
   * be replaced is put back if nothing took its place. What belongs to a process that runs, to another machine or to nobody known
   * stays.
   */
  public static void recover(Path target) {
    Path file = target.toAbsolutePath();
    if (!Files.isDirectory(file.getParent())) {
      return;
    }
    try {
      for (Path old : leftovers(file, OLD)) {
        if (Files.exists(file, LinkOption.NOFOLLOW_LINKS)) {
          deleteTree(old);
        } else {
          Files.move(old, file, StandardCopyOption.ATOMIC_MOVE);
        }
      }
      leftovers(file, TEMPORARY).forEach(AtomicFiles::deleteTree);
    } catch (IOException e) {
      throw failure(target, e);
    }
  }

  /** Deletes what killed processes left in a folder that others write to: names of {@code prefix} and a {@link FileOwner}. */
  public static void deleteLeftovers(Path folder, String prefix) {
    try (DirectoryStream<Path> all = Files.newDirectoryStream(folder, prefix + "*")) {
      for (Path path : all) {
        if (FileOwner.isDead(path.getFileName().toString().substring(prefix.length()))) {
          deleteTree(path);
        }
      }
    } catch (IOException | OribiException e) {
      // It is another user's, or somebody else deletes it: it is in nobody's way.
    }
  }

  /** Files beside {@code target} whose names dead processes made from its own and {@code mark}. */
  private static List<Path> leftovers(Path target, String mark) throws IOException {
    String prefix = "." + target.getFileName() + mark;
    try (Stream<Path> all = Files.list(target.getParent())) {
      return all.filter(path -> path.getFileName().toString().startsWith(prefix))
          .filter(path -> FileOwner.isDead(path.getFileName().toString().substring(prefix.length()))).sorted().toList();
    }
  }

  /** Deletes a file, or a folder with all it holds; links are deleted, never followed. What is missing is no error. */
  public static void deleteTree(Path path) {
    if (!Files.exists(path, LinkOption.NOFOLLOW_LINKS)) {
      return;
    }
    try {
      Files.walkFileTree(path, new SimpleFileVisitor<>() {
        @Override
        public FileVisitResult visitFile(Path file, BasicFileAttributes attributes) throws IOException {
          Files.delete(file);
          return FileVisitResult.CONTINUE;
        }

        @Override
        public FileVisitResult postVisitDirectory(Path folder, IOException e) throws IOException {
          if (e != null) {
            throw e;
          }
          Files.delete(folder);
          return FileVisitResult.CONTINUE;
        }
      });
    } catch (IOException e) {
      throw new OribiException(path + ": cannot be deleted: " + e.getMessage() + "; delete it by hand.", e);
    }
  }

  static void writeFully(FileChannel out, ByteBuffer data) throws IOException {
    while (data.hasRemaining()) {
      out.write(data);
    }
  }

  /** One line for a failed write; a full disk is named as such, with what is left. */
  static OribiException failure(Path path, IOException e) {
    Path target = Temporaries.named(path);
    String reason = e.getMessage() == null ? e.getClass().getSimpleName() : e.getMessage();
    if (isDiskFull(reason)) {
      return new OribiException("Cannot write " + target + ": the disk is full (" + free(target)
          + "); free some space or write to another folder.", e);
    }
    if (reason.toLowerCase(Locale.ROOT).contains("file too large")) {
      return new OribiException("Cannot write " + target + ": a file there may not become so large; raise the limit (ulimit -f) or write"
          + " to another file system.", e);
    }
    return new OribiException("Cannot write " + target + ": " + reason + " (" + e.getClass().getSimpleName() + ").", e);
  }

  private static boolean isDiskFull(String reason) {
    String text = reason.toLowerCase(Locale.ROOT);
    return text.contains("no space left") || text.contains("quota exceeded") || text.contains("not enough space");
  }

  private static String free(Path target) {
    Path folder = target.toAbsolutePath().getParent();
    while (folder != null && !Files.exists(folder)) {
      folder = folder.getParent();
    }
    try {
      return Files.getFileStore(folder).getUsableSpace() + " bytes free";
    } catch (IOException | NullPointerException e) {
      return "free space unknown";
    }
  }

  /** Removes a temporary copy; if that fails too, what went wrong first stays the message. */
  private static void discard(Path temp, Throwable first) {
    Temporaries.waitIfEnding(); // an error of a file that was deleted under its writer is none to tell of
    try {
      deleteTree(temp);
    } catch (OribiException e) {
      first.addSuppressed(e);
    }
  }

  private static Path temporary(Path target) {
    byte[] random = new byte[4];
    RANDOM.nextBytes(random);
    return target.resolveSibling("." + target.getFileName() + TEMPORARY + FileOwner.SELF + "-" + HexFormat.of().formatHex(random));
  }

  private static void swapIn(Path temp, Path folder) throws IOException {
    if (!Files.exists(folder, LinkOption.NOFOLLOW_LINKS)) {
      Files.move(temp, folder, StandardCopyOption.ATOMIC_MOVE);
      return;
    }
    Path old = temp.resolveSibling(temp.getFileName().toString().replace(TEMPORARY, OLD));
    Files.move(folder, old, StandardCopyOption.ATOMIC_MOVE);
    try {
      Files.move(temp, folder, StandardCopyOption.ATOMIC_MOVE);
    } catch (IOException e) {
      Files.move(old, folder, StandardCopyOption.ATOMIC_MOVE);
      throw e;
    }
    deleteTree(old);
  }

  private static void syncTree(Path root) throws IOException {
    Files.walkFileTree(root, new SimpleFileVisitor<>() {
      @Override
      public FileVisitResult visitFile(Path file, BasicFileAttributes attributes) throws IOException {
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.WRITE)) {
          channel.force(true);
        }
        return FileVisitResult.CONTINUE;
      }

      @Override
      public FileVisitResult postVisitDirectory(Path folder, IOException e) throws IOException {
        syncFolder(folder);
        return FileVisitResult.CONTINUE;
      }
    });
  }

  private static void syncFolder(Path folder) throws IOException {
    if (WINDOWS) {
      return; // there a folder cannot be opened, and NTFS journals its entries
    }
    try (FileChannel channel = FileChannel.open(folder, StandardOpenOption.READ)) {
      channel.force(true);
    }
  }
}
