package dev.oribi.train;

import java.util.concurrent.CountDownLatch;

/**
 * Lets a run end well on Ctrl-C and SIGTERM.
 *
 * <p>Java answers both signals by running its shutdown hooks and then leaving with 130 or 143. The hook here asks the run
 * to stop and holds the exit up until the run has saved its checkpoint and closed this.
 */
final class StopSignal implements AutoCloseable {
  private final CountDownLatch runEnded = new CountDownLatch(1);
  private final Thread hook;

  StopSignal(Runnable stop) {
    hook = new Thread(() -> {
      stop.run();
      awaitEnd();
    }, "oribi-stop");
    Runtime.getRuntime().addShutdownHook(hook);
  }

  private void awaitEnd() {
    try {
      runEnded.await();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  @Override
  public void close() {
    runEnded.countDown();
    try {
      Runtime.getRuntime().removeShutdownHook(hook);
    } catch (IllegalStateException e) {
      // The exit is under way, and the hook with it.
      return;
    }
  }
}
