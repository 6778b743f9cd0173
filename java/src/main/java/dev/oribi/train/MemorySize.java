package dev.oribi.train;

import dev.oribi.OribiException;
import java.util.Locale;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Amounts of memory as users write them: {@code 8GiB}, {@code 7.5GB}, {@code 900MiB}. */
public final class MemorySize {
  private static final Pattern FORM = Pattern.compile("(\\d{1,9}(?:\\.\\d{1,9})?)\\s*([kmgt]i?b?)", Pattern.CASE_INSENSITIVE);
  private static final String LETTERS = "kmgt";

  private MemorySize() {}

  /** Such as "7.84 GiB", or "24.5 MiB" below one. */
  public static String format(long bytes) {
    double mib = bytes / (double) (1L << 20);
    return mib < 1024 ? String.format(Locale.ROOT, "%.1f MiB", mib) : String.format(Locale.ROOT, "%.2f GiB", mib / 1024);
  }

  /**
   * Bytes; 0 for null or nothing.
   *
   * @param option that gave the text, for the message
   */
  public static long parse(String option, String text) {
    if (text == null || text.isBlank()) {
      return 0;
    }
    Matcher m = FORM.matcher(text.strip());
    if (m.matches()) {
      String unit = m.group(2).toLowerCase(Locale.ROOT);
      // "8G" means what nvidia-smi and Java mean by it.
      long base = unit.length() == 2 ? 1000 : 1024;
      double bytes = Double.parseDouble(m.group(1)) * Math.pow(base, LETTERS.indexOf(unit.charAt(0)) + 1);
      if (bytes >= 1 && bytes < Long.MAX_VALUE / 2) {
        return (long) bytes;
      }
    }
    throw new OribiException(option + " is " + text + ": write an amount with its unit, such as 8GiB.");
  }
}
