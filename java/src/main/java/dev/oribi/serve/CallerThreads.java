package dev.oribi.serve;

import java.io.IOException;
import java.io.InterruptedIOException;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;

/**
 * The threads that read from callers and write to them, each with a moment by which the caller must have moved.
 *
 * <p>The JDK's server has no time limits of its own that one server of a process could choose. Its sockets are channels though, and
 * interrupting a thread that waits at a channel closes it: so whoever is late is interrupted, which ends its connection and frees
 * the thread.
 */
final class CallerThreads extends ThreadPoolExecutor {
  private static final long TICK_MILLIS = 100;
  private static final long IDLE_SECONDS = 10;

  /** The moment by which a thread's caller must have moved, in the time of {@link System#nanoTime}. */
  private static final class Deadline {
    private boolean set;
    private long at;

    synchronized void in(Duration time) {
      at = System.nanoTime() + time.toNanos();
      set = true;
    }

    synchronized void off() {
      set = false;
    }

    /** Under the same lock as {@link #off}, so that nobody is interrupted for what is over. */
    synchronized void interruptIfLate(Thread thread) {
      if (set && System.nanoTime() - at > 0) {
        set = false;
        thread.interrupt();
      }
    }
  }

  private final Map<Thread, Deadline> deadlines = new ConcurrentHashMap<>();
  private final Duration request;
  private final Thread watch = new Thread(this::watch, "oribi-serve-watch");

  /** @param request most time for the reading of a request, which begins when a thread takes it up */
  CallerThreads(int most, Duration request) {
    super(most, most, IDLE_SECONDS, TimeUnit.SECONDS, new LinkedBlockingQueue<>(), task -> {
      Thread thread = new Thread(task, "oribi-serve-caller");
      thread.setDaemon(true);
      return thread;
    });
    allowCoreThreadTimeOut(true);
    this.request = request;
    watch.setDaemon(true);
    watch.start();
  }

  @Override
  protected void beforeExecute(Thread thread, Runnable task) {
    super.beforeExecute(thread, task);
    within(request);
  }

  @Override
  protected void afterExecute(Runnable task, Throwable thrown) {
    super.afterExecute(task, thrown);
    deadlines.remove(Thread.currentThread());
  }

  /** Gives this thread's caller so much time, from now on, until {@link #arrived}. */
  void within(Duration time) {
    deadlines.computeIfAbsent(Thread.currentThread(), t -> new Deadline()).in(time);
  }

  /** The caller has moved; nothing is expected of it now. */
  void arrived() throws IOException {
    Deadline deadline = deadlines.get(Thread.currentThread());
    if (deadline != null) {
      deadline.off();
    }
    if (Thread.interrupted()) {
      throw new InterruptedIOException("the caller took too long");
    }
  }

  private void watch() {
    try {
      while (!isTerminated()) {
        Thread.sleep(TICK_MILLIS);
        deadlines.forEach((thread, deadline) -> deadline.interruptIfLate(thread));
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }
}
