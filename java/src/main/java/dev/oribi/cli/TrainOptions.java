package dev.oribi.cli;

import dev.oribi.train.TrainConfig;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Spec;

/** The options of the commands that set up a training run. */
abstract class TrainOptions {
  /** A model of 2 million parameters learns its 638 rows in some seconds, at ten times the rate that large ones bear. */
  private static final double TINY_LEARNING_RATE = 2e-3;

  private static final double TINY_EPOCHS = 8;

  @Spec private CommandSpec spec;

  @Mixin private final TrainConfig config = new TrainConfig();

  /** The options given; where neither model nor data is named, Oribi's own. */
  final TrainConfig resolve() {
    if (config.model == null && config.data.isEmpty()) {
      config.data = Embedded.data();
      if (!spec.commandLine().getParseResult().hasMatchedOption("--num-train-epochs")) {
        config.numTrainEpochs = TINY_EPOCHS;
      }
      if (config.learningRate == null) {
        config.learningRate = TINY_LEARNING_RATE;
      }
      config.prompts = config.prompts == null ? Embedded.prompts() : config.prompts;
      if (config.evalData.isEmpty() && config.evalFraction == 0) {
        config.evalData = Embedded.evalData();
        config.evalOnStart = true;
      }
    }
    if (config.model == null) {
      config.model = Embedded.model();
    }
    return config;
  }
}
