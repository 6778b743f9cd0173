package dev.oribi.cli;

import dev.oribi.data.Batches;
import dev.oribi.data.DataFiles;
import dev.oribi.data.DataOptions;
import dev.oribi.data.Dataset;
import dev.oribi.generate.TextModel;
import dev.oribi.model.FrozenStorage;
import dev.oribi.model.Machine;
import dev.oribi.model.Weights;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.train.Evaluator;
import dev.oribi.train.RowSettings;
import dev.oribi.train.RunData;
import dev.oribi.train.StorageType;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** {@code oribi eval}: mean loss and perplexity on a text or a dataset. */
@Command(
    name = "eval",
    description = "Prints the mean negative log-likelihood per target token, the perplexity and the number of target tokens.",
    sortOptions = false)
final class EvalCommand implements Callable<Integer> {
  @Mixin private ModelOptions model;

  @Option(names = "--data", paramLabel = "FILE", split = ",", required = true,
      description = "Text or dataset, in any form that train reads; of instructions only the answers count.")
  private List<Path> data;

  @Option(names = "--per-device-eval-batch-size", paramLabel = "N", description = "Sequences in a pass.")
  private int batchSize = 8;

  @Option(names = "--dtype", paramLabel = "TYPE", description = "Storage of weights and activations: ${COMPLETION-CANDIDATES}.")
  private StorageType dtype = StorageType.AUTO;

  @Mixin private RowSettings settings = new RowSettings();

  @Override
  public Integer call() {
    Path folder = model.folder();
    ModelConfig config = ModelConfig.read(folder);
    int length = Math.min(model.maxSeqLength, config.contextLength());
    Dataset rows = read(folder, config, length);
    System.out.println(rows.report().sentence());
    Batches batches = new Batches(rows, batchSize, length, false, false, 0);
    try (Machine machine = model.machine.open();
        Evaluator evaluator =
            new Evaluator(
                config, dtype.on(machine, config), TextModel.training(model.adapter),
                FrozenStorage.of(config, model.loadIn4bit, model.headIn8bit), machine, batches)) {
      Weights weights = evaluator.take();
      weights.load(folder, model.adapter);
      weights.headReport().ifPresent(System.out::println);
      Evaluator.Result r = evaluator.run();
      System.out.printf(Locale.ROOT, "loss %.6f  perplexity %.6f  tokens %d%n", r.loss(), r.perplexity(), r.tokens());
    }
    return 0;
  }

  private Dataset read(Path folder, ModelConfig config, int length) {
    DataOptions options =
        new DataOptions(length, config.vocabSize(), Math.max(1, Runtime.getRuntime().availableProcessors()), null);
    settings.adapter(model.adapter);
    return RunData.read(folder, data, DataFiles.Part.VALIDATION, options, settings);
  }
}
