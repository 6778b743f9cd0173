package dev.oribi.data;

import dev.oribi.text.StreamDecoder;
import dev.oribi.text.Tokenizer;
import java.util.Locale;

/**
 * A row as text for people, with the tokens that are not learned shown apart: dim where the terminal knows colours, else
 * between ‹ and ›. Control characters of the data are written as escapes, as a terminal would obey them.
 */
public final class RowPrinter {
  private static final String DIM = "\u001B[2m";
  private static final String PLAIN = "\u001B[0m";

  private RowPrinter() {}

  /**
   * Prints a row: one line about it, then its text, or its ids if there is no tokenizer.
   *
   * @param tokenizer may be null
   * @param ansi whether to use ANSI colour codes
   */
  public static String print(Row row, Tokenizer tokenizer, boolean ansi) {
    StringBuilder out = new StringBuilder(String.format(Locale.ROOT, "%s: %,d tokens, %,d of them targets%s%n",
        row.source(), row.length(), row.targetTokens(), row.truncated() ? ", cut at the maximum length" : ""));
    String begin = ansi ? DIM : "‹";
    String end = ansi ? PLAIN : "›";
    StreamDecoder decoder = tokenizer == null ? null : tokenizer.streamDecoder(false);
    boolean masked = false;
    for (int i = 0; i < row.length(); i++) {
      boolean next = row.labels()[i] == MicroBatch.IGNORE;
      out.append(masked == next ? "" : next ? begin : end);
      masked = next;
      int id = row.inputIds()[i];
      out.append(visible(decoder != null ? decoder.push(id) : (i == 0 ? "" : " ") + id));
    }
    out.append(visible(decoder == null ? "" : decoder.flush()));
    return out.append(masked ? end : "").toString();
  }

  private static String visible(String text) {
    StringBuilder out = new StringBuilder();
    text.codePoints().forEach(c -> {
      if (Character.getType(c) == Character.CONTROL && c != '\n' && c != '\t') {
        out.append(String.format("\\x%02x", c));
      } else {
        out.appendCodePoint(c);
      }
    });
    return out.toString();
  }
}
