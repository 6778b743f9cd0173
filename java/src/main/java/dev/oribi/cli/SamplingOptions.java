package dev.oribi.cli;

import dev.oribi.OribiException;
import dev.oribi.generate.Generator;
import dev.oribi.generate.TextModel;
import dev.oribi.model.config.GenerationConfig;
import java.util.ArrayList;
import java.util.List;
import picocli.CommandLine.Option;

/** How the next token is drawn, by Hugging Face's names; what is not given comes from the model's generation_config.json. */
final class SamplingOptions {
  private static final int DEFAULT_TOKENS = 128;

  @Option(names = "--max-new-tokens", paramLabel = "N", description = "Most tokens to add; " + DEFAULT_TOKENS + " if the model does not say either.")
  Integer maxNewTokens;

  @Option(names = "--do-sample", arity = "0..1", fallbackValue = "true", paramLabel = "true|false",
      description = "Draw at random; otherwise always the likeliest token. Given by itself if --temperature is.")
  Boolean doSample;

  @Option(names = "--temperature", paramLabel = "X", description = "Below 1 sharpens, above 1 flattens; 0: the likeliest token.")
  Double temperature;

  @Option(names = "--top-k", paramLabel = "N", description = "Draw among the N likeliest; 0: off.")
  Integer topK;

  @Option(names = "--top-p", paramLabel = "X", description = "Draw among the likeliest that together reach this probability; 1: off.")
  Double topP;

  @Option(names = "--min-p", paramLabel = "X", description = "Drop what is less than X times as likely as the likeliest; 0: off.")
  Double minP;

  @Option(names = "--repetition-penalty", paramLabel = "X", description = "Above 1 makes tokens that occurred less likely; 1: off.")
  Double repetitionPenalty;

  @Option(names = "--stop", paramLabel = "TEXT", description = "A text that ends the answer; may be given several times.")
  List<String> stops = new ArrayList<>();

  @Option(names = "--seed", paramLabel = "N", description = "Same seed, same text.")
  long seed = 42;

  Generator.Options options(TextModel text) {
    if (temperature != null && !(temperature >= 0)) {
      throw new OribiException("--temperature must not be negative, and is " + temperature);
    }
    GenerationConfig d = text.defaults();
    boolean draw = doSample != null ? doSample : temperature != null ? temperature > 0 : d.doSample();
    double t = temperature != null ? temperature : d.temperature();
    return new Generator.Options(
        maxNewTokens != null ? maxNewTokens : d.maxNewTokens().orElse(DEFAULT_TOKENS),
        draw ? (float) t : 0,
        topK != null ? topK : d.topK(),
        (float) (topP != null ? topP : d.topP()),
        (float) (minP != null ? minP : d.minP()),
        (float) (repetitionPenalty != null ? repetitionPenalty : d.repetitionPenalty()),
        seed,
        text.stopIds());
  }
}
