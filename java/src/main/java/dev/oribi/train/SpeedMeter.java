package dev.oribi.train;

/** Tokens a second of the training steps alone: evaluations and checkpoints stop the clock. */
final class SpeedMeter {
  private static final double NANOS = 1e9;

  private long begun;
  private long nanos;
  private long tokens;
  private long steps;
  private long nanosAtLog;
  private long tokensAtLog;

  void begin() {
    begun = System.nanoTime();
  }

  void end(long stepTokens) {
    nanos += System.nanoTime() - begun;
    tokens += stepTokens;
    steps++;
  }

  /** Since the last call of {@link #logged()}. */
  double tokensPerSecond() {
    return (tokens - tokensAtLog) / Math.max(1e-9, (nanos - nanosAtLog) / NANOS);
  }

  void logged() {
    nanosAtLog = nanos;
    tokensAtLog = tokens;
  }

  /** Seconds for so many steps at the mean speed of this process. */
  double secondsFor(long moreSteps) {
    return steps == 0 ? 0 : moreSteps * (nanos / NANOS) / steps;
  }

  double seconds() {
    return nanos / NANOS;
  }
}
