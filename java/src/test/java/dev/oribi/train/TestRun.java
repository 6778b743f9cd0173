package dev.oribi.train;

import dev.oribi.data.Dataset;
import dev.oribi.data.Row;
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import java.util.function.Consumer;

/** One run of the {@link BigramStep} on made-up rows, as the command line would start it. */
final class TestRun {
  static final int VOCABULARY = 7;
  static final int ROWS = 13;

  final TrainConfig config = new TrainConfig();
  final ByteArrayOutputStream shown = new ByteArrayOutputStream();
  BigramStep step;
  Trainer trainer;
  ModelWriter writer = folder -> Files.writeString(folder.resolve("adapter.txt"), java.util.Arrays.toString(step.values()));
  Dataset data = rows(ROWS, 5);
  Dataset eval;

  TestRun(Path outputDir) {
    config.outputDir = outputDir;
    config.perDeviceTrainBatchSize = 2;
    config.gradientAccumulationSteps = 3;
    config.learningRate = 0.05;
    config.loraDropout = 0.2;
    config.loggingSteps = 1;
    config.saveSteps = 2;
    config.numTrainEpochs = 3;
    config.maxSeqLength = 16;
  }

  TestRun with(Consumer<TestRun> change) {
    change.accept(this);
    return this;
  }

  /** Makes model and trainer; a second call makes both anew, as another process would. */
  TestRun open() {
    step = new BigramStep(config, VOCABULARY);
    trainer = new Trainer(config, step, folder -> writer.write(folder), RunData.of(config, data, eval),
        new PrintStream(shown, true, StandardCharsets.UTF_8));
    return this;
  }

  Trainer.Result run() {
    return open().trainer.run();
  }

  String shown() {
    return shown.toString(StandardCharsets.UTF_8);
  }

  /** Rows of different lengths, in which a token mostly follows from the one before it; the second is no target. */
  static Dataset rows(int count, long seed) {
    SplittableRandom random = new SplittableRandom(seed);
    List<Row> rows = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      int[] ids = random.ints(3 + i % 5, 0, VOCABULARY).toArray();
      for (int j = 1; j < ids.length; j++) {
        ids[j] = random.nextInt(5) == 0 ? ids[j] : (3 * ids[j - 1] + 1) % VOCABULARY;
      }
      int[] labels = ids.clone();
      labels[1] = -100;
      rows.add(new Row(ids, labels, "rows.jsonl:" + (i + 1), false));
    }
    return Dataset.of(rows);
  }
}
