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
import java.util.stream.IntStream;

/**
 * Tokenized rows in the order of their files: in memory, or in a file if they are too many for that. Immutable; the arrays of its
 * rows must not be written.
 */
public final class Dataset {
  private final RowStore rows;
  private final Report report;

  private Dataset(RowStore rows, Report report) {
    this.rows = rows;
    this.report = report;
  }

  /**
   * Reads and tokenizes files; {@link dev.oribi.data} lists the formats.
   *
   * @param paths files, folders and patterns, as {@link DataFiles} resolves them for training
   * @param tokenizer may be null if every row has {@code input_ids}
   * @param template may be null if no row is a conversation
   * @throws OribiException for a file or row that cannot be used, naming its place, and if no row is left
   */
  public static Dataset load(List<Path> paths, DataOptions options, Tokenizer tokenizer, ChatTemplate template) {
    return load(paths, DataFiles.Part.TRAIN, options, tokenizer, template);
  }

  /** Like {@link #load(List, DataOptions, Tokenizer, ChatTemplate)}, of the part of a folder that is named so. */
  public static Dataset load(List<Path> paths, DataFiles.Part part, DataOptions options, Tokenizer tokenizer, ChatTemplate template) {
    if (paths.isEmpty()) {
      throw new OribiException("No data file is given: name one or more with --data.");
    }
    List<Path> files = DataFiles.resolve(paths, part);
    RowFile.Contents contents = DatasetLoader.load(files, options, tokenizer, template);
    Report report = contents.report();
    if (contents.rows().size() == 0) {
      throw new OribiException("The dataset is empty: " + paths.stream().map(Path::toString).collect(Collectors.joining(", "))
          + (report.rowsRead() == 0 ? " has no rows." : ": " + report.sentence()));
    }
    return new Dataset(contents.rows(), report);
  }

  /** What can be said of files whose rows need not be of any use. */
  public static Report scan(List<Path> paths, DataOptions options, Tokenizer tokenizer, ChatTemplate template) {
    return DatasetLoader.load(DataFiles.resolve(paths, DataFiles.Part.TRAIN), options, tokenizer, template).report();
  }

  /** A dataset of rows that were made elsewhere. */
  public static Dataset of(List<Row> rows) {
    return of(new RowStore.Memory(rows));
  }

  private static Dataset of(RowStore rows) {
    Report.Tally tally = new Report.Tally();
    for (int i = 0; i < rows.size(); i++) {
      tally.keep(rows.row(i), false, false);
    }
    return new Dataset(rows, tally.report(0, false));
  }

  public int size() {
    return rows.size();
  }

  /** A row; read from a file where the rows are in one. */
  public Row row(int i) {
    return rows.row(i);
  }

  /** Tokens of a row, which is not read for that. */
  public int length(int i) {
    return rows.length(i);
  }

  public Report report() {
    return report;
  }

  /** Whether the rows are read from a file when they are asked for, as they did not fit into memory. */
  public boolean inFile() {
    return rows instanceof RowFile || rows instanceof RowStore.Part part && part.all() instanceof RowFile;
  }

  /**
   * Refuses rows of which none trains a token at which the model stops: it would never learn to. Nothing is refused where it is not
   * known which tokens these are.
   */
  public void requireEnds() {
    if (report.rowsEnding() == 0) {
      throw new OribiException("No row trains the model to stop: of " + report.rowsKept() + " rows none has a token among its targets"
          + " that ends an answer. " + (report.rowsTruncated() > 0 ? "Rows are cut: raise --max-seq-length. " : "")
          + "See the rows with `oribi inspect --data`; --require-end=false trains all the same.");
    }
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
    return new Dataset[] {of(part(eval, false)), of(part(eval, true))};
  }

  private RowStore part(boolean[] eval, boolean which) {
    return new RowStore.Part(rows, IntStream.range(0, eval.length).filter(i -> eval[i] == which).toArray());
  }
}
