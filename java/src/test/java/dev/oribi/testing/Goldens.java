package dev.oribi.testing;

import java.util.Map;
import java.util.TreeMap;

/**
 * Counts the published results that were reproduced, and prints one line for each kind of them when the tests end; {@code ci/test}
 * shows the lines together. Of a test that failed half-way the line says how many passed.
 */
public final class Goldens {
  private static final Map<String, Integer> PASSED = new TreeMap<>();

  private Goldens() {}

  /** One more result that was equal. */
  public static synchronized void passed(String what) {
    PASSED.merge(what, 1, Integer::sum);
  }

  /** One line for each kind. */
  static synchronized void print() {
    PASSED.forEach((what, n) -> System.out.println("golden: " + n + " " + what));
  }
}
