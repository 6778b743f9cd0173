package dev.oribi.testing;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;

/**
 * A line for each thing that a family of models was seen to do, in {@code target/families.csv}: model_type, test, what, how weights
 * are stored, device. {@code docs/results/families.csv} is this file from a CPU and from a GPU, and the README's table is made of it.
 */
public final class Passed {
  private static final Path FILE = Path.of("target", "families.csv");

  private Passed() {}

  /** To be called when all checks have passed. */
  public static synchronized void record(String modelType, String test, String what, String storage) {
    String device = TestMachine.isCuda() ? "gpu" : "cpu";
    try {
      Files.createDirectories(FILE.getParent());
      Files.writeString(FILE, String.join(",", modelType, test, what, storage, device) + "\n", StandardOpenOption.CREATE, StandardOpenOption.APPEND);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
