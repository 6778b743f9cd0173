package dev.oribi.train;

import java.lang.management.ManagementFactory;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;

/** What passes between the start of the process and the end of the first step, by part. */
public final class StartClock {
  private final Map<String, Double> parts = new LinkedHashMap<>();
  private long last = System.nanoTime();
  private String note = "";

  /** Begins with what has passed since Java started, which is some hundredths of a second after its process. */
  public StartClock() {
    parts.put("java", ManagementFactory.getRuntimeMXBean().getUptime() / 1e3);
  }

  /** Ends a part: the time since the last one. */
  public void end(String part) {
    long now = System.nanoTime();
    parts.merge(part, (now - last) / 1e9, Double::sum);
    last = now;
  }

  /** The same for reading, with its rate. */
  void endReading(String part, long bytes) {
    end(part);
    double seconds = parts.get(part);
    note = String.format(Locale.ROOT, " (%s, %.1f GB/s)", MemorySize.format(bytes), bytes / 1e9 / Math.max(1e-9, seconds));
  }

  /** Seconds of each part, in their order. */
  Map<String, Double> parts() {
    return parts;
  }

  /** Such as "Start: java 0.2 s, data 0.6, weights 3.1 (15.0 GiB, 5.2 GB/s), first step 1.9; 6.8 s in all". */
  public String line() {
    StringBuilder s = new StringBuilder("Start:");
    double sum = 0;
    for (Map.Entry<String, Double> e : parts.entrySet()) {
      sum += e.getValue();
      s.append(String.format(Locale.ROOT, "%s %s %.2f%s", s.length() > 6 ? "," : "", e.getKey(), e.getValue(), s.length() > 6 ? "" : " s"));
      if (e.getKey().equals("weights")) {
        s.append(note);
      }
    }
    return s.append(String.format(Locale.ROOT, "; %.2f s in all", sum)).toString();
  }
}
