package dev.oribi.bench;

import dev.oribi.data.Batches;
import dev.oribi.data.DataOptions;
import dev.oribi.data.Dataset;
import dev.oribi.data.MicroBatch;
import dev.oribi.data.Report;
import dev.oribi.text.ChatTemplate;
import dev.oribi.text.Tokenizer;
import dev.oribi.train.RowSettings;
import java.io.IOException;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;

/**
 * How fast data becomes rows, and rows become micro-batches: what a GPU may take, and no faster. Each pass reads the files, writes
 * conversations by the template, tokenizes and masks; the first is that of a fresh Java, the later ones are those of a long run.
 */
public final class DataBench {
  private static final double MEGA = 1e6;

  private DataBench() {}

  /** What to measure. */
  public record Options(Path model, List<Path> data, int maxSeqLength, int batchSize, int threads, int passes, RowSettings rows) {}

  /** Runs and prints. */
  public static void run(Options o, PrintStream out) {
    long bytes = o.data().stream().mapToLong(DataBench::size).sum();
    try (Tokenizer tokenizer = Tokenizer.load(o.model())) {
      ChatTemplate template = o.rows().template(o.model()).orElse(null);
      DataOptions options = o.rows().apply(new DataOptions(o.maxSeqLength(), 0, o.threads(), null));
      out.printf(Locale.ROOT, "%,d bytes, %d threads; encoded by %s%n", bytes, o.threads(), tokenizer.reader());
      Dataset data = null;
      for (int pass = 1; pass <= o.passes(); pass++) {
        long begin = System.nanoTime();
        long cpu = cpuTime();
        data = Dataset.load(o.data(), options, tokenizer, template);
        double seconds = (System.nanoTime() - begin) / 1e9;
        double used = (cpuTime() - cpu) / 1e9;
        Report r = data.report();
        out.printf(Locale.ROOT, "rows, pass %d: %.2f s  %.2f MB/s  %,.0f rows/s  %,.0f tokens/s;  %.2f s of the processor, %.2f MB for each%n",
            pass, seconds, bytes / MEGA / seconds, r.rowsRead() / seconds, r.tokens() / seconds, used, bytes / MEGA / used);
      }
      Dataset inFile = Dataset.load(o.data(), options.withMemoryBytes(1), tokenizer, template);
      for (boolean packing : new boolean[] {false, true}) {
        batches(o, data, packing, out);
        batches(o, inFile, packing, out);
      }
    }
  }

  /** Of all threads: on a machine that others use too it says more than the clock. */
  private static long cpuTime() {
    return ManagementFactory.getOperatingSystemMXBean() instanceof com.sun.management.OperatingSystemMXBean os ? os.getProcessCpuTime() : 0;
  }

  private static void batches(Options o, Dataset data, boolean packing, PrintStream out) {
    Batches batches = new Batches(data, o.batchSize(), o.maxSeqLength(), packing, true, 42);
    long begin = System.nanoTime();
    int count = batches.microBatches(0);
    double plan = (System.nanoTime() - begin) / 1e9;
    long tokens = 0;
    long rows = 0;
    long slowest = 0;
    begin = System.nanoTime();
    long last = begin;
    for (int i = 0; i < count; i++) {
      MicroBatch batch = batches.get(0, i);
      slowest = Math.max(slowest, System.nanoTime() - last);
      last = System.nanoTime();
      tokens += batch.tokens();
      rows += batch.sequences();
    }
    double seconds = (System.nanoTime() - begin) / 1e9;
    out.printf(Locale.ROOT, "batches%s%s: an epoch planned in %.3f s, %,d made: %,.0f rows/s  %,.0f tokens/s, the slowest in %.1f ms%s%n",
        packing ? ", packed" : "", data.inFile() ? ", from a file" : "", plan, count, rows / seconds, tokens / seconds, slowest / 1e6, packing ? String.format(Locale.ROOT, "  %.1f %% filled", 100 * batches.fillRate(0)) : "");
  }

  private static long size(Path file) {
    try {
      return Files.size(file);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
