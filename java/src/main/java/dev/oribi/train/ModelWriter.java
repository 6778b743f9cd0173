package dev.oribi.train;

import java.io.IOException;
import java.nio.file.Path;

/** Writes what a user takes away from a run: the adapter, or the whole model, with all that is needed to load it. */
@FunctionalInterface
public interface ModelWriter {
  /**
   * Writes the present values into a folder that is new and empty.
   *
   * @throws IOException if the disk is full or refuses
   */
  void write(Path folder) throws IOException;
}
