package dev.oribi.train;

import java.util.Locale;

/**
 * Where a run stands, in the words that people read.
 *
 * @param step optimizer steps made
 * @param totalSteps steps of the whole run
 * @param epoch passes over the data, with a fraction
 * @param loss mean loss of a target token, in nats
 * @param gradNorm norm of the gradients before clipping
 * @param learningRate of the last step
 * @param tokensPerSecond tokens trained on, by the clock
 * @param memoryBytes what the plan took
 * @param secondsLeft at this speed
 */
record Progress(int step, int totalSteps, double epoch, double loss, double gradNorm, double learningRate,
    double tokensPerSecond, long memoryBytes, double secondsLeft) {
  /** The line of the log. */
  String line() {
    return String.format(Locale.ROOT, "step %d/%d  epoch %.2f  %s", step, totalSteps, epoch, numbers());
  }

  /** A bar that is redrawn in place, at most {@code width} characters wide. */
  String bar(int width) {
    int cells = 20;
    int full = (int) ((long) cells * step / Math.max(1, totalSteps));
    String text = String.format(Locale.ROOT, "%3d%% %s%s %d/%d  %s", 100L * step / Math.max(1, totalSteps),
        "█".repeat(full), "░".repeat(cells - full), step, totalSteps, numbers());
    return text.length() <= width ? text : text.substring(0, Math.max(0, width));
  }

  private String numbers() {
    return String.format(Locale.ROOT, "loss %.6f  grad_norm %.3f  lr %.2e  %,.0f tok/s  %s  %s left", loss, gradNorm,
        learningRate, tokensPerSecond, bytes(memoryBytes), duration(secondsLeft));
  }

  static String bytes(long bytes) {
    double mib = bytes / 1048576.0;
    return mib < 1024 ? String.format(Locale.ROOT, "%.0f MiB", mib) : String.format(Locale.ROOT, "%.1f GiB", mib / 1024);
  }

  static String duration(double seconds) {
    long s = Math.round(seconds);
    return s < 60 ? s + "s" : s < 3600 ? String.format("%dm%02ds", s / 60, s % 60)
        : String.format("%dh%02dm", s / 3600, s / 60 % 60);
  }
}
