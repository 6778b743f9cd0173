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

  private final RowMaker maker;
  private final int maxPending;
  private final ExecutorService executor;
  private final Deque<Future<List<Row>>> pending = new ArrayDeque<>();
  private final List<Row> rows = new ArrayList<>();
  private List<RecordReader.Record> chunk = new ArrayList<>();
  private int rowsRead;
  private boolean rowFailed;

  private DatasetLoader(RowMaker maker, int threads) {
    this.maker = maker;
    this.maxPending = 4 * threads;
    this.executor = Executors.newFixedThreadPool(threads, task -> {
      Thread thread = new Thread(task, "oribi-tokenize");
      thread.setDaemon(true);
      return thread;
    });
  }

  static DatasetCache.Entry load(List<Path> files, DataOptions options, Tokenizer tokenizer, ChatTemplate template) {
    Path cache = options.cacheDirectory() == null ? null : DatasetCache.file(files, options, tokenizer, template);
    Optional<DatasetCache.Entry> cached = cache == null ? Optional.empty() : DatasetCache.read(cache);
    if (cached.isPresent()) {
      return cached.get();
    }
    DatasetLoader loader = new DatasetLoader(new RowMaker(options, tokenizer, template), options.threads());
    DatasetCache.Entry entry;
    try {
      entry = loader.run(files);
    } finally {
      loader.stop();
    }
    if (cache != null) {
      DatasetCache.write(cache, entry);
    }
    return entry;
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

  private DatasetCache.Entry run(List<Path> files) {
    try {
      for (Path file : files) {
        RecordReader.read(file, this::add);
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
    return new DatasetCache.Entry(rowsRead, rows);
  }

  private void add(RecordReader.Record record) {
    chunk.add(record);
    if (chunk.size() == CHUNK) {
      submit();
      drain(maxPending);
    }
  }

  private void submit() {
    List<RecordReader.Record> records = chunk;
    chunk = new ArrayList<>();
    pending.add(executor.submit(() -> {
      List<Row> made = new ArrayList<>();
      for (RecordReader.Record record : records) {
        made.addAll(maker.rows(record));
      }
      return made;
    }));
  }

  private void drain(int leave) {
    while (pending.size() > leave) {
      try {
        for (Row row : pending.remove().get()) {
          rowsRead++;
          if (row.targetTokens() > 0) {
            rows.add(row);
          }
        }
      } catch (ExecutionException e) {
        rowFailed = true;
        throw e.getCause() instanceof RuntimeException known ? known : new IllegalStateException(e.getCause());
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
        throw new OribiException("Reading the data was interrupted.", e);
      }
    }
  }
}
