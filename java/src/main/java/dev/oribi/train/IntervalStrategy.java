package dev.oribi.train;

import java.util.Locale;

/** When something is done that is not done at every step: an evaluation, a checkpoint. */
public enum IntervalStrategy {
  /** Never. */
  NO,
  /** Every so many optimizer steps. */
  STEPS,
  /** At the end of each epoch. */
  EPOCH;

  @Override
  public String toString() {
    return name().toLowerCase(Locale.ROOT);
  }
}
