package dev.oribi.testing;

import java.util.Map;

/** Distances between tensors. Comparisons are written {@code !(distance <= tolerance)}, which NaN fails. */
public final class Compare {
  private Compare() {}

  /** Norm of the difference over the norm of {@code expected}; the plain norm of the difference where that is zero. */
  public static double relative(float[] actual, double[] expected) {
    requireSameLength(actual.length, expected.length);
    double difference = 0;
    double norm = 0;
    for (int i = 0; i < expected.length; i++) {
      difference += (actual[i] - expected[i]) * (actual[i] - expected[i]);
      norm += expected[i] * expected[i];
    }
    return norm == 0 ? Math.sqrt(difference) : Math.sqrt(difference / norm);
  }

  public static double relative(float[] actual, float[] expected) {
    return relative(actual, widen(expected));
  }

  public static double[] widen(float[] x) {
    double[] y = new double[x.length];
    for (int i = 0; i < x.length; i++) {
      y[i] = x[i];
    }
    return y;
  }

  /** Largest {@link #relative} of all tensors; fails if one is above {@code tolerance} or the names differ. */
  public static double all(Map<String, float[]> actual, Map<String, double[]> expected, double tolerance) {
    if (!actual.keySet().equals(expected.keySet())) {
      throw new AssertionError("tensors " + actual.keySet() + ", expected " + expected.keySet());
    }
    double worst = 0;
    for (Map.Entry<String, double[]> e : expected.entrySet()) {
      double distance = relative(actual.get(e.getKey()), e.getValue());
      if (!(distance <= tolerance)) {
        throw new AssertionError(e.getKey() + " is off by " + distance + " relative, allowed " + tolerance);
      }
      worst = Math.max(worst, distance);
    }
    return worst;
  }

  private static void requireSameLength(int actual, int expected) {
    if (actual != expected) {
      throw new AssertionError("length " + actual + ", expected " + expected);
    }
  }
}
