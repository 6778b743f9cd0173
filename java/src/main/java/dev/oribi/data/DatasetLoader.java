package dev.oribi.data;

import dev.oribi.OribiException;
import dev.oribi.text.ChatTemplate;
import dev.oribi.text.Tokenizer;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;

/**
 * Reads on the calling thread, tokenizes on others, and collects in the order of the files: the result, and the row that
 * an error names, do not depend on the threads.
 */
final class DatasetLoader {
  /** Records that one task tokenizes: enough to make a task worth its while. */
  private static final int CHUNK = 64;
  /** Bytes of lines that one task takes at most, beyond one line: what waits stays small. */
  private static final int CHUNK_BYTES = 1 << 20;
  /** What a row takes in memory beside its tokens, roughly: three objects and the text of its source. */
  private static final int ROW_BYTES = 160;

  private final RowMaker maker;
  private final DataOptions options;
  private final int maxPending;
  private final ExecutorService executor;
  private final Deque<Future<List<Made>>> pending = new ArrayDeque<>();
  private final Report.Tally tally = new Report.Tally();
  /** The rows until they are too many; then null, and all of them are in the file. */
  private List<Row> rows = new ArrayList<>();
  private long bytes;
  private RowFileWriter writer;
  private List<RecordReader.Record> chunk = new ArrayList<>();
  private int chunkBytes;
  private boolean rowFailed;

  private DatasetLoader(RowMaker maker, DataOptions options) {
    this.maker = maker;
    this.options = options;
    this.maxPending = 4 * options.threads();
    this.executor = Executors.newFixedThreadPool(options.threads(), task -> {
      Thread thread = new Thread(task, "oribi-tokenize");
      thread.setDaemon(true);
      return thread;
    });
  }

  static RowFile.Contents load(List<Path> files, DataOptions options, Tokenizer tokenizer, ChatTemplate template) {
    Path cache = options.cacheDirectory() == null ? null : DatasetCache.file(files, options, tokenizer, template);
    Optional<RowFile.Contents> cached = cache == null ? Optional.empty() : DatasetCache.read(cache, options.rowBudget());
    if (cached.isPresent()) {
      return cached.get();
    }
    DatasetLoader loader = new DatasetLoader(new RowMaker(options, tokenizer, template), options);
    try {
      if (cache != null) {
        loader.writer = RowFileWriter.in(options.cacheDirectory());
      }
      RowFile.Contents contents = loader.run(files, cache);
      loader.writer = null;
      return contents;
    } finally {
      loader.stop();
      if (loader.writer != null) {
        loader.writer.close();
      }
    }
  }

  /** Returns when no thread reads the tokenizer any more: the caller may close it. */
  private void stop() {
    pending.forEach(task -> task.cancel(false));
    executor.shutdown();
    boolean interrupted = false;
    while (!executor.isTerminated()) {
      try {
        executor.awaitTermination(1, TimeUnit.MINUTES);
      } catch (InterruptedException e) {
        interrupted = true;
      }
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  private RowFile.Contents run(List<Path> files, Path cache) {
    try {
      for (Path file : files) {
        RecordReader.read(file, options.columns(), this::add);
      }
    } catch (OribiException e) {
      if (!rowFailed) {
        // The reader failed; a record before that place may be wrong too, and then that one is the first.
        submit();
        drain(0);
      }
      throw e;
    }
    submit();
    drain(0);
    Report report = tally.report(files.size(), !maker.ends().ids().isEmpty());
    RowFile file = writer == null ? null : writer.finish(report, cache);
    return new RowFile.Contents(rows != null ? new RowStore.Memory(rows) : file, report);
  }

  private void add(RecordReader.Record record) {
    chunk.add(record);
    chunkBytes += record.line() != null ? record.line().length : CHUNK_BYTES / CHUNK;
    if (chunk.size() == CHUNK || chunkBytes >= CHUNK_BYTES) {
      submit();
      drain(maxPending);
    }
  }

  private void submit() {
    List<RecordReader.Record> records = chunk;
    chunk = new ArrayList<>();
    chunkBytes = 0;
    pending.add(executor.submit(() -> {
      List<Made> made = new ArrayList<>();
      for (RecordReader.Record record : records) {
        made.addAll(maker.rows(record));
      }
      return made;
    }));
  }

  private void drain(int leave) {
    while (pending.size() > leave) {
      try {
        pending.remove().get().forEach(this::keep);
      } catch (ExecutionException e) {
        rowFailed = true;
        throw e.getCause() instanceof RuntimeException known ? known : new IllegalStateException(e.getCause());
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
        throw new OribiException("Reading the data was interrupted.", e);
      }
    }
  }

  private void keep(Made made) {
    if (made.why() != null) {
      tally.drop(made.why(), made.first());
      return;
    }
    Row row = made.row();
    tally.keep(row, made.ends(), made.pair());
    if (writer != null) {
      writer.add(row);
    }
    if (rows != null) {
      rows.add(row);
      bytes += ROW_BYTES + (row.labels() == row.inputIds() ? 4L : 8L) * row.length();
      if (bytes > options.rowBudget()) {
        spill();
      }
    }
  }

  /** From here on the rows are in a file alone. */
  private void spill() {
    if (writer == null) {
      writer = RowFileWriter.in(Path.of(System.getProperty("java.io.tmpdir")));
      rows.forEach(writer::add);
    }
    rows = null;
  }
}
