package dev.oribi.data;

import dev.oribi.text.StreamDecoder;
import dev.oribi.text.Tokenizer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Locale;
import java.util.OptionalInt;

/**
 * A row as text for people. Where the terminal knows colours what is learned is green and the rest dim; else what is not learned
 * stands between ‹ and ›. Control characters of the data are written as escapes, as a terminal would obey them.
 */
public final class RowPrinter {
  private static final String DIM = "\u001B[2m";
  private static final String LEARNED = "\u001B[32m";
  private static final String PLAIN = "\u001B[0m";
  /** Characters shown of what is cut off, and of a row that cannot be read. */
  private static final int SOME = 400;

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
    StreamDecoder decoder = tokenizer == null ? null : tokenizer.streamDecoder(false);
    for (int i = 0; i < row.length(); ) {
      boolean masked = row.labels()[i] == MicroBatch.IGNORE;
      out.append(ansi ? masked ? DIM : LEARNED : masked ? "‹" : "");
      int begin = i;
      for (; i < row.length() && (row.labels()[i] == MicroBatch.IGNORE) == masked; i++) {
        int id = row.inputIds()[i];
        if (decoder == null && i == begin && i > 0 && !ansi) {
          // The sign stands behind the space: ‹4 5› 6
          out.insert(out.length() - (masked ? 1 : 0), ' ').append(id);
        } else {
          out.append(visible(decoder != null ? decoder.push(id) : (i == 0 ? "" : " ") + id));
        }
      }
      out.append(visible(decoder == null || i < row.length() ? "" : decoder.flush()));
      out.append(ansi ? PLAIN : masked ? "›" : "");
    }
    return out.toString();
  }

  /** What was cut off a row, or nothing. */
  static String tail(Row whole, OptionalInt cut, Tokenizer tokenizer, boolean ansi) {
    if (cut.isEmpty()) {
      return "";
    }
    int[] rest = Arrays.copyOfRange(whole.inputIds(), cut.getAsInt(), whole.length());
    String text = tokenizer == null ? Arrays.toString(rest) : tokenizer.decode(rest, false);
    String some = visible(text.length() > SOME ? text.substring(0, SOME) + "…" : text);
    return String.format("%n%s[cut off: %s]%s", ansi ? DIM : "", some, ansi ? PLAIN : "");
  }

  /** A row that cannot be read, as it stands in its file. */
  static String raw(RecordReader.Record record) {
    String text = record.line() != null ? new String(record.line(), StandardCharsets.UTF_8) : String.valueOf(record.node());
    return visible(text.length() > SOME ? text.substring(0, SOME) + "…" : text);
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
