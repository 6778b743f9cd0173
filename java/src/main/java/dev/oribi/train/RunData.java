package dev.oribi.train;

import dev.oribi.data.Batches;
import dev.oribi.data.DataFiles;
import dev.oribi.data.DataOptions;
import dev.oribi.data.Dataset;
import dev.oribi.data.Row;
import dev.oribi.text.ChatTemplate;
import dev.oribi.text.Tokenizer;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.List;

/**
 * The rows of a run and their order.
 *
 * @param train rows to train on
 * @param eval held-out rows, null if there are none
 * @param batches micro-batches of the training rows, in the order of each epoch
 * @param evalBatches micro-batches of the held-out rows, null if there are none; epoch 0 has the dataset's order
 */
public record RunData(Dataset train, Dataset eval, Batches batches, Batches evalBatches) {
  /** Splits off the held-out rows if the configuration says so, and orders the rest. {@code eval} may be null. */
  public static RunData of(TrainConfig config, Dataset data, Dataset eval) {
    Dataset train = data;
    Dataset heldOut = eval;
    if (config.evalFraction > 0) {
      Dataset[] parts = data.split(config.evalFraction, config.seed);
      train = parts[0];
      heldOut = parts[1];
    }
    Batches batches = new Batches(train, config.perDeviceTrainBatchSize, config.maxSeqLength, config.packing,
        config.groupByLength, config.shuffle, config.seed);
    Batches evalBatches = heldOut == null ? null : new Batches(heldOut, config.perDeviceEvalBatchSize,
        config.maxSeqLength, config.packing, false, config.seed);
    return new RunData(train, heldOut, batches, evalBatches);
  }

  /** Reads files with the tokenizer and the chat template of a model folder, as far as it has them. */
  public static Dataset read(Path modelFolder, List<Path> files, DataOptions options) {
    return read(modelFolder, files, DataFiles.Part.TRAIN, options, new RowSettings());
  }

  /** The same with what the options say in place of it. */
  public static Dataset read(Path modelFolder, List<Path> files, DataFiles.Part part, DataOptions options, RowSettings rows) {
    DataOptions all = rows.apply(options);
    if (!Tokenizer.exists(modelFolder)) {
      return Dataset.load(files, part, all, null, null);
    }
    try (Tokenizer tokenizer = Tokenizer.load(modelFolder)) {
      return Dataset.load(files, part, all, tokenizer, rows.template(modelFolder).orElse(null));
    }
  }

  /** Tokens that no micro-batch of the run exceeds: what memory is planned for. */
  public int maxTokens() {
    return Math.max(batches.maxTokens(), evalBatches == null ? 0 : evalBatches.maxTokens());
  }

  /** Sequences that no micro-batch of the run exceeds. */
  public int maxSequences() {
    return Math.max(batches.maxSequences(), evalBatches == null ? 0 : evalBatches.maxSequences());
  }

  /** SHA-256 of the tokens and labels of the training rows, in order. */
  String fingerprint() {
    MessageDigest digest;
    try {
      digest = MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException("every Java platform has SHA-256", e);
    }
    for (int i = 0; i < train.size(); i++) {
      Row row = train.row(i);
      ByteBuffer bytes = ByteBuffer.allocate(4 + 8 * row.inputIds().length).putInt(row.inputIds().length);
      bytes.asIntBuffer().put(row.inputIds()).put(row.labels());
      digest.update(bytes.array());
    }
    return HexFormat.of().formatHex(digest.digest());
  }
}
