package dev.oribi.kernel;

import dev.oribi.OribiException;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/**
 * Which way a product with an adapted weight goes on a GPU: one kernel that takes the adapter in ({@link Path#FUSED}), or the
 * library's product and thin products after it ({@link Path#LIBRARY}). The faster one depends on the card and the sizes, so
 * it is looked up in a table of measurements, {@code lora-paths.txt} beside this class.
 *
 * <p>The system property {@code oribi.lora} overrides the table: {@code separate} uses no kernel for adapters at all, as on
 * a CPU; {@code fused} uses them wherever the device has them, on the CPU too; {@code library} does the same for h, g, dA and
 * dB, but gives every large product to the library. The default is {@code auto}.
 */
public final class LoraPaths {
  /** The two ways. */
  public enum Path {
    FUSED,
    LIBRARY
  }

  /**
   * Without a measurement. A 16-bit weight: the fused kernel saves a pass over y and, on an H100 at the sizes of Llama 3.1 8B
   * with 2048 rows, multiplied at 0.91 to 1.07 of the library's rate for the plain product.
   */
  private static final Path UNMEASURED = Path.FUSED;

  /**
   * A weight in 4 bits: the kernel that reads the codes multiplied at 0.45 to 0.60 of the library's rate there, and decoding
   * at 2.1 TB/s before one of the other two ways costs less than that loses.
   */
  private static final Path UNMEASURED_NF4 = Path.LIBRARY;

  private static final String RESOURCE = "lora-paths.txt";

  /** One line of the table. */
  record Entry(int architecture, long n, long in, long out, boolean dx, boolean nf4, Path path) {
    boolean fits(int card, long width, long height, boolean backward, boolean fourBit) {
      return architecture == card && in == width && out == height && dx == backward && nf4 == fourBit;
    }

    /** How many times more or fewer rows than {@code rows}. */
    double distance(long rows) {
      return Math.abs(Math.log((double) n / Math.max(1, rows)));
    }
  }

  private static final List<Entry> TABLE = read();

  private LoraPaths() {}

  /**
   * Whether adapters go through kernels of their own.
   *
   * @param architecture of the device; 0 is the CPU, where the library's products are used
   */
  public static boolean wanted(int architecture) {
    return switch (setting()) {
      case "separate" -> false;
      case "auto" -> architecture != 0;
      default -> true;
    };
  }

  /**
   * The way for a product of this size: of the measurements with this weight, the one with the nearest number of rows.
   *
   * @param n rows that are planned
   * @param dx the backward product, dx = dy·W + g·A, and not y = x·Wᵀ + h·Bᵀ
   * @param nf4 whether the fused kernel would read the weight in 4 bits; {@link Path#LIBRARY} then means that it is
   *     dequantized first, and that the way is looked up again for a 16-bit weight
   */
  public static Path of(int architecture, long n, long in, long out, boolean dx, boolean nf4) {
    return switch (setting()) {
      case "fused" -> Path.FUSED;
      case "library" -> Path.LIBRARY;
      default -> of(TABLE, architecture, n, in, out, dx, nf4);
    };
  }

  static Path of(List<Entry> table, int architecture, long n, long in, long out, boolean dx, boolean nf4) {
    Entry best = null;
    for (Entry e : table) {
      if (e.fits(architecture, in, out, dx, nf4) && (best == null || e.distance(n) < best.distance(n))) {
        best = e;
      }
    }
    if (best != null) {
      return best.path;
    }
    return nf4 ? UNMEASURED_NF4 : UNMEASURED;
  }

  private static String setting() {
    String setting = System.getProperty("oribi.lora", "auto");
    if (!List.of("auto", "separate", "fused", "library").contains(setting)) {
      throw new OribiException("the system property oribi.lora is '" + setting + "': it may be auto, separate, fused or library");
    }
    return setting;
  }

  private static List<Entry> read() {
    try (InputStream in = LoraPaths.class.getResourceAsStream(RESOURCE);
        BufferedReader lines = new BufferedReader(new InputStreamReader(in, StandardCharsets.UTF_8))) {
      return parse(lines.lines().toList());
    } catch (IOException e) {
      throw new OribiException("cannot read " + RESOURCE + " from Oribi's jar: " + e.getMessage(), e);
    }
  }

  /** Lines of {@code architecture n in out y|dx 16|nf4 fused|library}, then anything; {@code #} begins a comment. */
  static List<Entry> parse(List<String> lines) {
    List<Entry> table = new ArrayList<>();
    for (String line : lines) {
      if (line.isBlank() || line.startsWith("#")) {
        continue;
      }
      String[] f = line.trim().split("\\s+");
      table.add(
          new Entry(
              Integer.parseInt(f[0]), Long.parseLong(f[1]), Long.parseLong(f[2]), Long.parseLong(f[3]),
              one(f[4], "dx", "y", line), one(f[5], "nf4", "16", line),
              one(f[6], "fused", "library", line) ? Path.FUSED : Path.LIBRARY));
    }
    return List.copyOf(table);
  }

  /** A line of the table; {@code rest} is not read back. */
  public static String line(int architecture, long n, long in, long out, boolean dx, boolean nf4, Path path, String rest) {
    return String.format(
        Locale.ROOT, "%d %d %d %d %s %s %s  %s", architecture, n, in, out, dx ? "dx" : "y", nf4 ? "nf4" : "16",
        path.name().toLowerCase(Locale.ROOT), rest);
  }

  private static boolean one(String found, String yes, String no, String line) {
    if (!found.equals(yes) && !found.equals(no)) {
      throw new IllegalStateException(RESOURCE + ": '" + found + "' is neither " + yes + " nor " + no + " in: " + line);
    }
    return found.equals(yes);
  }
}
