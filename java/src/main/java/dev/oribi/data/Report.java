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
    String kept = String.format(Locale.ROOT, "%,d rows from %d file%s: %,d tokens, %,d of them targets",
        rowsKept(), files, files == 1 ? "" : "s", tokens, targetTokens);
    String cut = rowsTruncated == 0 ? "" : String.format(Locale.ROOT, "; %,d rows were cut at the maximum length", rowsTruncated);
    String dropped = rowsDropped == 0 ? "" : String.format(Locale.ROOT, "; %,d rows without a target token were dropped", rowsDropped);
    return kept + cut + dropped + ".";
  }
}
