package dev.oribi.data;

import java.util.Locale;

/** Which of the assistant's turns of a conversation are learned. */
public enum TrainOn {
  /** Every one. */
  ALL,
  /** The last one; those before are only read. */
  LAST;

  @Override
  public String toString() {
    return name().toLowerCase(Locale.ROOT);
  }
}
