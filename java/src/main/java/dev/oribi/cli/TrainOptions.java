package dev.oribi.cli;

import dev.oribi.train.TrainConfig;
import picocli.CommandLine.Mixin;

/** The options of the commands that set up a training run. */
abstract class TrainOptions {
  @Mixin private final TrainConfig config = new TrainConfig();

  /** The options given; where neither model nor data is named, Oribi's own. */
  final TrainConfig resolve() {
    if (config.model == null && config.data.isEmpty()) {
      config.data = Embedded.data();
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
