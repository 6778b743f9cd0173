package dev.oribi.train;

import dev.oribi.OribiException;
import dev.oribi.train.MemoryPlan.Point;
import java.util.List;
import java.util.Locale;

/** What the planner decided, and what else it could have: for {@code oribi plan} and {@code oribi bench step}. */
public final class MemoryReport {
  private static final int POINTS = 12;

  private MemoryReport() {}

  /** The choice in one line. */
  public static String choice(ModelStep step) {
    String fp8 = step.fp8Report().map(s -> s + System.lineSeparator()).orElse("");
    return "plan: " + step.describe(step.point().choice()) + System.lineSeparator() + fp8;
  }

  /** Memory against predicted speed, from the fastest plan to the smallest. */
  public static String curve(ModelStep step) {
    StringBuilder s = new StringBuilder();
    List<Point> points;
    try {
      points = step.curve(POINTS);
    } catch (OribiException e) {
      return "no curve of speed against memory: " + e.getMessage() + System.lineSeparator();
    }
    s.append(String.format(Locale.ROOT, "%11s %11s %9s  %s%n", "device", "host", "tok/s", "plan; speed as predicted from the times of two layers' ops here"));
    Point taken = step.predicted();
    boolean shown = false;
    for (Point p : points) {
      if (!shown && p.bytes() <= taken.bytes()) {
        s.append(line(taken, step, "  <- taken"));
        shown = true;
        if (p.bytes() == taken.bytes()) {
          continue;
        }
      }
      s.append(line(p, step, ""));
    }
    return s.toString();
  }

  private static String line(Point p, ModelStep step, String end) {
    return String.format(
        Locale.ROOT, "%11s %11s %,9.0f  %s%s%n", MemorySize.format(p.bytes()), MemorySize.format(p.hostBytes()), step.plannedTokens() / p.seconds(),
        step.describe(p.choice()), end);
  }
}
