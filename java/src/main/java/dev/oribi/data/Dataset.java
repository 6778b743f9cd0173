package dev.oribi.data;

import dev.oribi.OribiException;
import dev.oribi.text.ChatTemplate;
import dev.oribi.text.Tokenizer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.stream.Collectors;

/**
 * Tokenized rows, in memory, in the order of their files. Immutable; the arrays of its rows must not be written.
 */
public final class Dataset {
  private final List<Row> rows;
  private final Report report;

  private Dataset(List<Row> rows, Report report) {
    this.rows = List.copyOf(rows);
    this.report = report;
  }

  /**
   * Reads and tokenizes files; {@link dev.oribi.data} lists the formats.
   *
   * @param tokenizer may be null if every row has {@code input_ids}
   * @param template may be null if no row is a conversation
   * @throws OribiException for a file or row that cannot be used, naming its place, and if no row is left
   */
  public static Dataset load(List<Path> files, DataOptions options, Tokenizer tokenizer, ChatTemplate template) {
    if (files.isEmpty()) {
      throw new OribiException("No data file is given: name one or more with --data.");
    }
    DatasetCache.Entry entry = DatasetLoader.load(files, options, tokenizer, template);
    if (entry.rows().isEmpty()) {
      throw new OribiException("The dataset is empty: " + files.stream().map(Path::toString).collect(Collectors.joining(", "))
          + (entry.rowsRead() == 0 ? " has no rows." : " has " + entry.rowsRead() + " rows, but none with a token to learn"
          + " within the maximum length of " + options.maxSeqLength() + "."));
    }
    return new Dataset(entry.rows(), reportOf(files.size(), entry.rowsRead(), entry.rows()));
  }

  /** A dataset of rows that were made elsewhere. */
  public static Dataset of(List<Row> rows) {
    return new Dataset(rows, reportOf(0, rows.size(), rows));
  }

  static Report reportOf(int files, int rowsRead, List<Row> kept) {
    int truncated = 0;
    long tokens = 0;
    long targets = 0;
    for (Row row : kept) {
      truncated += row.truncated() ? 1 : 0;
      tokens += row.length();
      targets += row.targetTokens();
    }
    return new Report(files, rowsRead, rowsRead - kept.size(), truncated, tokens, targets);
  }

  public int size() {
    return rows.size();
  }

  public Row row(int i) {
    return rows.get(i);
  }

  public Report report() {
    return report;
  }

  /**
   * Splits into rows to train on and rows to evaluate with: {@code [train, eval]}. Which rows are taken depends on the
   * seed alone; both parts keep the dataset's order. A fraction above 0 takes at least one row and leaves at least one.
   */
  public Dataset[] split(double evalFraction, long seed) {
    if (!(evalFraction >= 0 && evalFraction < 1)) {
      throw new OribiException("The evaluation fraction is " + evalFraction + ": it must be at least 0 and below 1.");
    }
    int count = (int) Math.round(evalFraction * size());
    if (evalFraction > 0) {
      if (size() < 2) {
        throw new OribiException("A dataset of " + size() + " rows cannot be split: add rows, or set the evaluation fraction to 0.");
      }
      count = Math.max(1, Math.min(count, size() - 1));
    }
    List<Integer> order = new ArrayList<>();
    for (int i = 0; i < size(); i++) {
      order.add(i);
    }
    Collections.shuffle(order, new Random(seed));
    boolean[] eval = new boolean[size()];
    order.subList(0, count).forEach(i -> eval[i] = true);
    List<Row> train = new ArrayList<>();
    List<Row> held = new ArrayList<>();
    for (int i = 0; i < size(); i++) {
      (eval[i] ? held : train).add(row(i));
    }
    return new Dataset[] {of(train), of(held)};
  }
}
