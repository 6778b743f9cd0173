package dev.oribi.train;

import dev.oribi.io.Temporaries;
import java.time.Duration;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/**
 * Lets a run end well on Ctrl-C and SIGTERM.
 *
 * <p>Java answers both signals by running its shutdown hooks and then leaving with 130 or 143. The hook here asks the run
 * to stop and holds the exit up until the run has saved its checkpoint and closed this.
 */
public final class StopSignal implements AutoCloseable {
  private static final Duration WITHOUT_END = Duration.ofDays(365);

  private final CountDownLatch runEnded = new CountDownLatch(1);
  private final Thread hook;
  private final Temporaries.Hold files;

  /** Waits for the end of the run however long it takes, and for the files that it writes. */
  public StopSignal(Runnable stop) {
    this(stop, WITHOUT_END, Temporaries.hold());
  }

  /** @param patience longest that the exit is held up */
  public StopSignal(Runnable stop, Duration patience) {
    this(stop, patience, () -> {});
  }

  private StopSignal(Runnable stop, Duration patience, Temporaries.Hold files) {
    this.files = files;
    hook = new Thread(() -> {
      stop.run();
      awaitEnd(patience);
    }, "oribi-stop");
    Runtime.getRuntime().addShutdownHook(hook);
  }

  private void awaitEnd(Duration patience) {
    try {
      runEnded.await(patience.toMillis(), TimeUnit.MILLISECONDS);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  @Override
  public void close() {
    files.close();
    runEnded.countDown();
    try {
      Runtime.getRuntime().removeShutdownHook(hook);
    } catch (IllegalStateException e) {
      // The exit is under way, and the hook with it.
      return;
    }
  }
}
