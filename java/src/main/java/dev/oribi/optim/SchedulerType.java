package dev.oribi.optim;

import java.util.Locale;

/** Shapes of the learning rate over a run, by Hugging Face's names. {@link Schedule} has the formulas. */
public enum SchedulerType {
  /** Straight down to 0 at the last step, after the warm-up. */
  LINEAR,
  /** Half a cosine wave down to {@code min_lr_rate} of the peak at the last step, after the warm-up. */
  COSINE,
  /** The same all along; no warm-up. */
  CONSTANT,
  /** The same all along, after the warm-up. */
  CONSTANT_WITH_WARMUP;

  @Override
  public String toString() {
    return name().toLowerCase(Locale.ROOT);
  }
}
