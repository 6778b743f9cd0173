package dev.oribi.io;

import dev.oribi.OribiException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CountDownLatch;

/**
 * The temporary files and folders of this process. When it is told to end (Ctrl-C, SIGTERM, {@link System#exit}) those that are
 * left are deleted; after {@code kill -9} {@link AtomicFiles#recover} finds them by the {@link FileOwner} in their names.
 *
 * <p>Once the deletion has begun no thread comes back from here: whoever begins a file, or wants to give one its name, waits for
 * the end of the process, so that nothing appears behind the back of what deletes.
 */
public final class Temporaries {
  /** Looks at a file that is not there any more before it is believed. */
  private static final int CLEAN = 2;
  private static final int ATTEMPTS = 100;
  private static final long PAUSE_MILLIS = 10;

  /** Each with what it will be. */
  private static final Map<Path, Path> LIVE = new HashMap<>();
  private static int held;
  private static boolean ending;
  private static boolean hooked;

  private Temporaries() {}

  /** Until it is closed the end of the process waits with the deletion: a run saves its state on being told to end. */
  public interface Hold extends AutoCloseable {
    @Override
    void close();
  }

  /** Lets what this process writes be finished even when it is told to end. */
  public static Hold hold() {
    synchronized (LIVE) {
      held++;
    }
    return () -> {
      synchronized (LIVE) {
        held--;
        LIVE.notifyAll();
      }
    };
  }

  static void add(Path path, Path target) {
    boolean late;
    synchronized (LIVE) {
      late = ending;
      if (!late) {
        LIVE.put(path, target);
        hook();
      }
    }
    if (late) {
      waitIfEnding();
    }
  }

  private static void hook() {
    if (hooked) {
      return;
    }
    hooked = true;
    try {
      Runtime.getRuntime().addShutdownHook(new Thread(Temporaries::deleteAll, "oribi-temporaries"));
    } catch (IllegalStateException e) {
      // The process is ending and waits for this file: it will be whole.
    }
  }

  static void remove(Path path) {
    synchronized (LIVE) {
      LIVE.remove(path);
    }
  }

  /** Whether a path is a temporary file or in a temporary folder: what is there needs no other name until it is whole. */
  static boolean contains(Path path) {
    synchronized (LIVE) {
      return LIVE.keySet().stream().anyMatch(path::startsWith);
    }
  }

  /** A path as it will be called, for messages. */
  static Path named(Path path) {
    Path at = path.toAbsolutePath();
    synchronized (LIVE) {
      return LIVE.entrySet().stream().filter(e -> at.startsWith(e.getKey())).findFirst()
          .map(e -> e.getValue().resolve(e.getKey().relativize(at))).orElse(path);
    }
  }

  /** Does not return if the process is ending. */
  static void waitIfEnding() {
    boolean wait;
    synchronized (LIVE) {
      wait = ending;
    }
    while (wait) {
      try {
        new CountDownLatch(1).await();
      } catch (InterruptedException e) {
        // The process ends whatever this thread is told.
      }
    }
  }

  private static void deleteAll() {
    Set<Path> all;
    synchronized (LIVE) {
      while (held > 0) {
        try {
          LIVE.wait();
        } catch (InterruptedException e) {
          break;
        }
      }
      ending = true;
      all = Set.copyOf(LIVE.keySet());
    }
    // A thread that still writes may make a file anew before it comes to a point where it waits.
    int clean = 0;
    for (int i = 0; i < ATTEMPTS && clean < CLEAN; i++) {
      clean = all.stream().map(Temporaries::delete).reduce(true, Boolean::logicalAnd) ? clean + 1 : 0;
      pause();
    }
  }

  /** Whether it was gone already. */
  private static boolean delete(Path path) {
    if (!Files.exists(path, LinkOption.NOFOLLOW_LINKS)) {
      return true;
    }
    try {
      AtomicFiles.deleteTree(path);
    } catch (OribiException e) {
      // Somebody has put a file into a folder that was being emptied: once more.
    }
    return false;
  }

  private static void pause() {
    try {
      Thread.sleep(PAUSE_MILLIS);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }
}
