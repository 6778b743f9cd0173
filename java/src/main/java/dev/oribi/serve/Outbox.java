package dev.oribi.serve;

import dev.oribi.generate.TextModel.Answer;
import java.time.Duration;
import java.util.concurrent.TimeUnit;

/**
 * An answer on its way from the model's thread to its caller's, in a buffer with a bound.
 *
 * <p>The model does not wait for a caller who reads slowly: what is not read yet is kept, and taken as one piece later. Only
 * when the buffer is full does the model wait, a short time and once; then the answer ends. A caller who has gone away
 * ends it too.
 */
final class Outbox {
  /**
   * What came next: text, or the end, one of both.
   *
   * @param answer the whole of it, at its end
   * @param failure in place of an answer
   */
  record Taken(String text, Answer answer, RuntimeException failure) {}

  private final int capacity;
  private final Duration full;
  private final StringBuilder text = new StringBuilder();
  private Answer answer;
  private RuntimeException failure;
  private boolean gone;

  /**
   * @param capacity most characters that are kept; 0: pieces are not kept, as for a caller who wants the whole answer at once
   * @param full how long a full buffer may hold up the model
   */
  Outbox(int capacity, Duration full) {
    this.capacity = capacity;
    this.full = full;
  }

  /** Takes a piece from the model; false: nobody wants more. */
  synchronized boolean put(String piece) {
    if (capacity > 0) {
      awaitRoom(piece.length());
      text.append(piece);
      notifyAll();
    }
    return wanted();
  }

  private void awaitRoom(int length) {
    long until = System.nanoTime() + full.toNanos();
    try {
      while (wanted() && !text.isEmpty() && text.length() + length > capacity) {
        long left = until - System.nanoTime();
        if (left <= 0) {
          failure = new Refusal(500, "the answer was read too slowly; " + capacity + " characters of it wait");
        } else {
          TimeUnit.NANOSECONDS.timedWait(this, left);
        }
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      gone = true;
    }
  }

  synchronized void finish(Answer whole) {
    answer = whole;
    notifyAll();
  }

  /** Ends the answer, if it has not ended yet; the caller is told why. */
  synchronized void fail(RuntimeException e) {
    if (failure == null && answer == null) {
      failure = e;
    }
    notifyAll();
  }

  /** The caller takes no more. */
  synchronized void abandon() {
    gone = true;
    notifyAll();
  }

  synchronized boolean wanted() {
    return !gone && failure == null;
  }

  /** What has come since the last call, or null if nothing comes in this time. */
  synchronized Taken take(Duration patience) throws InterruptedException {
    long until = System.nanoTime() + patience.toNanos();
    while (text.isEmpty() && answer == null && failure == null) {
      long left = until - System.nanoTime();
      if (left <= 0) {
        return null;
      }
      TimeUnit.NANOSECONDS.timedWait(this, left);
    }
    if (text.isEmpty()) {
      return new Taken(null, failure == null ? answer : null, failure);
    }
    String piece = text.toString();
    text.setLength(0);
    notifyAll();
    return new Taken(piece, null, null);
  }
}
