package dev.oribi.data;

import java.nio.file.Path;
import java.util.Map;
import java.util.TreeMap;

/**
 * How a dataset is read.
 *
 * @param maxSeqLength tokens a row may have; longer ones are cut and counted
 * @param vocabSize ids in the rows must be below it; 0 takes the tokenizer's own size (or, without a tokenizer, no bound)
 * @param threads threads that tokenize, at least 1
 * @param cacheDirectory where tokenized datasets are kept for the next run; null keeps none
 * @param columns Oribi's name of a key to the name it has in the data; if there are any, a row's other keys are not read
 * @param trainOn which turns of the assistant are learned
 * @param maskBy how they are found
 * @param skipBadRows whether rows that cannot be read are dropped and counted, in place of ending the run
 * @param memoryBytes rows that take more than this are kept in a file; 0 takes a quarter of Java's memory
 */
public record DataOptions(int maxSeqLength, int vocabSize, int threads, Path cacheDirectory, Map<String, String> columns,
    TrainOn trainOn, MaskBy maskBy, boolean skipBadRows, long memoryBytes) {

  public DataOptions {
    if (maxSeqLength < 2 || vocabSize < 0 || threads < 1 || memoryBytes < 0) {
      throw new IllegalArgumentException("maxSeqLength >= 2, vocabSize >= 0, threads >= 1 and memoryBytes >= 0 are needed, not "
          + maxSeqLength + ", " + vocabSize + ", " + threads + " and " + memoryBytes);
    }
    columns = Map.copyOf(columns);
  }

  /** Everything else as it is without being said. */
  public DataOptions(int maxSeqLength, int vocabSize, int threads, Path cacheDirectory) {
    this(maxSeqLength, vocabSize, threads, cacheDirectory, Map.of(), TrainOn.ALL, MaskBy.AUTO, false, 0);
  }

  /** One thread for each core, no cache, ids bounded by the tokenizer. */
  public static DataOptions of(int maxSeqLength) {
    return new DataOptions(maxSeqLength, 0, Runtime.getRuntime().availableProcessors(), null);
  }

  public DataOptions withColumns(Map<String, String> named) {
    return new DataOptions(maxSeqLength, vocabSize, threads, cacheDirectory, named, trainOn, maskBy, skipBadRows, memoryBytes);
  }

  public DataOptions withMask(TrainOn turns, MaskBy by) {
    return new DataOptions(maxSeqLength, vocabSize, threads, cacheDirectory, columns, turns, by, skipBadRows, memoryBytes);
  }

  public DataOptions skippingBadRows(boolean skip) {
    return new DataOptions(maxSeqLength, vocabSize, threads, cacheDirectory, columns, trainOn, maskBy, skip, memoryBytes);
  }

  public DataOptions withMemoryBytes(long bytes) {
    return new DataOptions(maxSeqLength, vocabSize, threads, cacheDirectory, columns, trainOn, maskBy, skipBadRows, bytes);
  }

  long rowBudget() {
    return memoryBytes > 0 ? memoryBytes : Runtime.getRuntime().maxMemory() / 4;
  }

  /** What of it changes rows, for the name of a cache. */
  String rowSettings() {
    return maxSeqLength + " " + vocabSize + " " + new TreeMap<>(columns) + " " + trainOn + " " + maskBy + " " + skipBadRows;
  }
}
