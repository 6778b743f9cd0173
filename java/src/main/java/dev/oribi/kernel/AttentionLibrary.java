package dev.oribi.kernel;

import dev.oribi.OribiException;
import java.util.Locale;

/** The user's choice of the library that computes attention on a GPU: {@code --attention}. */
public enum AttentionLibrary {
  /** cuDNN where it was measured to be faster and its tests have passed, Oribi's own kernels elsewhere. */
  AUTO,
  /** cuDNN; a shape that it does not cover ends the run. */
  CUDNN,
  /** Oribi's own kernels. */
  ORIBI;

  @Override
  public String toString() {
    return name().toLowerCase(Locale.ROOT);
  }

  /** By the name that users write: "auto", "cudnn", "oribi". */
  public static AttentionLibrary of(String name) {
    for (AttentionLibrary library : values()) {
      if (library.toString().equals(name)) {
        return library;
      }
    }
    throw new OribiException("--attention " + name + ": there is auto, cudnn or oribi");
  }
}
