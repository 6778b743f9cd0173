package dev.oribi.data;

import dev.oribi.text.ChatTemplate;
import dev.oribi.text.Tokenizer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.OptionalInt;

/**
 * Rows as they stand in files, those that training leaves out or cannot read included, each with what is wrong with it. For people
 * who look at their data before they train on it.
 */
public final class RowInspector {
  /** Stops a reader, which has no other end than that of the file. */
  private static final class Enough extends RuntimeException {
    private static final long serialVersionUID = 1;

    Enough() {
      super(null, null, false, false);
    }
  }

  private final DataOptions options;
  private final Tokenizer tokenizer;
  private final RowMaker maker;

  /** Tokenizer and template may be null, as for {@link Dataset#load}. */
  public RowInspector(DataOptions options, Tokenizer tokenizer, ChatTemplate template) {
    this.options = options.skippingBadRows(true);
    this.tokenizer = tokenizer;
    this.maker = new RowMaker(this.options, tokenizer, template);
  }

  /**
   * Rows as text.
   *
   * @param first number of the first row, from 1, as they stand in the files one after the other
   * @param ansi whether to use ANSI colour codes
   * @return fewer than {@code count} texts if there are no more rows
   */
  public List<String> show(List<Path> paths, int first, int count, boolean ansi) {
    List<String> shown = new ArrayList<>();
    int[] seen = {0};
    try {
      for (Path file : DataFiles.resolve(paths, DataFiles.Part.TRAIN)) {
        RecordReader.read(file, options.columns(), record -> {
          // A record is one row but for a plain text, which is windows: only those need to be made to be counted.
          if (record.text() == null && ++seen[0] < first) {
            return;
          }
          for (Made made : maker.rows(record)) {
            seen[0] += record.text() != null ? 1 : 0;
            if (seen[0] >= first) {
              shown.add(text(made, record, ansi));
            }
            if (shown.size() == count) {
              throw new Enough();
            }
          }
        });
      }
    } catch (Enough e) {
      // As many as were asked for.
    }
    return shown;
  }

  private String text(Made made, RecordReader.Record record, boolean ansi) {
    StringBuilder out = new StringBuilder();
    for (String fault : RowCheck.faults(made, options.maxSeqLength(), tokenizer, maker.ends())) {
      out.append(ansi ? "\u001B[33m! " : "! ").append(fault).append(ansi ? "\u001B[0m" : "").append(System.lineSeparator());
    }
    if (made.row() == null) {
      return out + RowPrinter.raw(record);
    }
    OptionalInt cut = made.row().truncated() ? OptionalInt.of(made.row().length()) : OptionalInt.empty();
    return out + RowPrinter.print(made.row(), tokenizer, ansi) + RowPrinter.tail(made.whole(), cut, tokenizer, ansi);
  }
}
