package dev.oribi.data;

import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/**
 * What came of reading a dataset.
 *
 * @param files files read
 * @param rowsRead rows found in them (windows, for plain text)
 * @param rowsTruncated rows cut at the maximum length, among those kept
 * @param tokens tokens of the rows kept
 * @param targetTokens those of them that the model is trained to produce
 * @param rowsEnding rows kept that train a token at which the model stops; -1 where it is not known which tokens these are
 * @param pairs preference pairs among the rows kept, of which the chosen answer is learned
 * @param dropped rows left out, by the reason
 */
public record Report(int files, int rowsRead, int rowsTruncated, long tokens, long targetTokens, int rowsEnding, int pairs,
    List<Dropped> dropped) {

  /** Why a row is left out. */
  enum Why {
    UNREADABLE("that cannot be read"),
    NO_TARGET("with nothing to learn"),
    CUT_AWAY("whose answer lies beyond the maximum length"),
    TOO_SHORT("of fewer than two tokens");

    private final String words;

    Why(String words) {
      this.words = words;
    }
  }

  /**
   * Rows that were left out for one reason.
   *
   * @param why in words that follow a number of rows
   * @param first the place of the first one, and what is wrong with it if that differs from row to row
   */
  public record Dropped(String why, int rows, String first) {}

  public int rowsDropped() {
    return dropped.stream().mapToInt(Dropped::rows).sum();
  }

  public int rowsKept() {
    return rowsRead - rowsDropped();
  }

  /** The numbers as one sentence for people. */
  public String sentence() {
    StringBuilder text = new StringBuilder(count(rowsKept(), "row") + " from " + count(files, "file")
        + String.format(Locale.ROOT, ": %,d tokens, %,d of them targets", tokens, targetTokens));
    if (pairs > 0) {
      text.append("; ").append(count(pairs, "preference pair")).append(pairs == 1 ? ", its" : ", their")
          .append(" chosen answer is learned");
    }
    if (rowsTruncated > 0) {
      text.append("; ").append(count(rowsTruncated, "row")).append(rowsTruncated == 1 ? " was" : " were")
          .append(" cut at the maximum length");
    }
    String between = "; dropped: ";
    for (Dropped d : dropped) {
      text.append(between).append(count(d.rows, "row")).append(' ').append(d.why).append(d.rows == 1 ? " (" : " (first: ")
          .append(d.first).append(')');
      between = ", ";
    }
    return text.append('.').toString();
  }

  private static String count(int n, String what) {
    return String.format(Locale.ROOT, "%,d %s%s", n, what, n == 1 ? "" : "s");
  }

  /** Counts rows as they come. Not safe for use by several threads. */
  static final class Tally {
    private int read;
    private int truncated;
    private long tokens;
    private long targets;
    private int ending;
    private int pairs;
    private final Map<Why, Integer> counts = new EnumMap<>(Why.class);
    private final Map<Why, String> firsts = new EnumMap<>(Why.class);

    void keep(Row row, boolean ends, boolean pair) {
      read++;
      truncated += row.truncated() ? 1 : 0;
      tokens += row.length();
      targets += row.targetTokens();
      ending += ends ? 1 : 0;
      pairs += pair ? 1 : 0;
    }

    void drop(Why why, String first) {
      read++;
      counts.merge(why, 1, Integer::sum);
      firsts.putIfAbsent(why, first);
    }

    Report report(int files, boolean endsKnown) {
      List<Dropped> dropped = new ArrayList<>();
      counts.forEach((why, n) -> dropped.add(new Dropped(why.words, n, firsts.get(why))));
      return new Report(files, read, truncated, tokens, targets, endsKnown ? ending : -1, pairs, List.copyOf(dropped));
    }
  }
}
