package dev.oribi.serve;

import java.time.Duration;

/**
 * How much of the server one caller may take, so that none can hold it up for the others.
 *
 * @param bodyBytes most bytes of a request's body
 * @param request most time from the first byte of a request to its last
 * @param waiting most requests that wait for the model beside the one that is answered; the next is told to come again
 * @param buffered characters of an answer that its caller has not read yet and that are kept for it
 * @param full how long an answer waits for a caller whose buffer is full; then it ends
 * @param stalled most time without any byte taken by a caller; then the connection ends
 * @param heartbeat time without news after which a caller gets a sign of life, by which one that has gone away is noticed
 */
public record ServeLimits(
    int bodyBytes, Duration request, int waiting, int buffered, Duration full, Duration stalled, Duration heartbeat) {
  /** A conversation of 128 thousand tokens has about half a megabyte; an answer that fills the buffer has as many tokens. */
  public static final ServeLimits DEFAULT = new ServeLimits(
      4 << 20, Duration.ofSeconds(30), 32, 1 << 20, Duration.ofSeconds(2), Duration.ofSeconds(20), Duration.ofSeconds(2));

  /** Threads for callers: those that are answered or wait, and as many again that are still read from or written to. */
  int threads() {
    return 2 * (waiting + 1);
  }
}
