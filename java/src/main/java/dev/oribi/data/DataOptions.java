package dev.oribi.data;

import java.nio.file.Path;

/**
 * How a dataset is read.
 *
 * @param maxSeqLength tokens a row may have; longer ones are cut and counted
 * @param vocabSize ids in the rows must be below it; 0 takes the tokenizer's own size (or, without a tokenizer, no bound)
 * @param threads threads that tokenize, at least 1
 * @param cacheDirectory where tokenized datasets are kept for the next run; null keeps none
 */
public record DataOptions(int maxSeqLength, int vocabSize, int threads, Path cacheDirectory) {

  public DataOptions {
    if (maxSeqLength < 2 || vocabSize < 0 || threads < 1) {
      throw new IllegalArgumentException("maxSeqLength >= 2, vocabSize >= 0 and threads >= 1 are needed, not "
          + maxSeqLength + ", " + vocabSize + " and " + threads);
    }
  }

  /** One thread for each core, no cache, ids bounded by the tokenizer. */
  public static DataOptions of(int maxSeqLength) {
    return new DataOptions(maxSeqLength, 0, Runtime.getRuntime().availableProcessors(), null);
  }
}
