package dev.oribi.fuzz;

/** What Jazzer calls: the target that the property {@code oribi.fuzz} names. */
public final class Fuzz {
  private static final Targets.Target TARGET = Targets.all().get(System.getProperty("oribi.fuzz"));

  private Fuzz() {}

  /** One input. */
  public static void fuzzerTestOneInput(byte[] input) {
    Targets.run(TARGET, input);
  }
}
