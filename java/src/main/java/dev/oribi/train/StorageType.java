package dev.oribi.train;

import java.util.Locale;

/** How activations and frozen weights are stored. What is trained is always fp32. */
public enum StorageType {
  /** Chosen by the device: float32 on a CPU. */
  AUTO,
  FLOAT32,
  BFLOAT16;

  @Override
  public String toString() {
    return name().toLowerCase(Locale.ROOT);
  }
}
