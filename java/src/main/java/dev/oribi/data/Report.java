package dev.oribi.data;

import java.util.Locale;

/**
 * What came of reading a dataset.
 *
 * @param files files read
 * @param rowsRead rows found in them (windows, for plain text)
 * @param rowsDropped rows left out because no token of theirs is a target
 * @param rowsTruncated rows cut at the maximum length, among those kept
 * @param tokens tokens of the rows kept
 * @param targetTokens those of them that the model is trained to produce
 */
public record Report(int files, int rowsRead, int rowsDropped, int rowsTruncated, long tokens, long targetTokens) {

  public int rowsKept() {
    return rowsRead - rowsDropped;
  }

  /** The numbers as one sentence for people. */
  public String sentence() {
    String kept = count(rowsKept(), "row") + " from " + count(files, "file") + String.format(Locale.ROOT,
        ": %,d tokens, %,d of them targets", tokens, targetTokens);
    String cut = rowsTruncated == 0 ? "" : "; " + count(rowsTruncated, "row")
        + (rowsTruncated == 1 ? " was" : " were") + " cut at the maximum length";
    String dropped = rowsDropped == 0 ? "" : "; " + count(rowsDropped, "row") + " without a target token "
        + (rowsDropped == 1 ? "was" : "were") + " dropped";
    return kept + cut + dropped + ".";
  }

  private static String count(int n, String what) {
    return String.format(Locale.ROOT, "%,d %s%s", n, what, n == 1 ? "" : "s");
  }
}
