package dev.oribi.fuzz;

import java.io.IOException;

/** What Jazzer calls: the target that the property {@code oribi.fuzz} names. */
public final class Fuzz {
  private static final Targets.Target TARGET = Targets.all().get(System.getProperty("oribi.fuzz"));

  private Fuzz() {}

  /** Loads the classes that inputs need: on a slow machine the first one would else be taken for one that never ends. */
  public static void fuzzerInitialize() throws IOException {
    for (byte[] seed : Seeds.of(System.getProperty("oribi.fuzz"))) {
      Targets.run(TARGET, seed);
    }
  }

  /** One input. */
  public static void fuzzerTestOneInput(byte[] input) {
    Targets.run(TARGET, input);
  }
}
