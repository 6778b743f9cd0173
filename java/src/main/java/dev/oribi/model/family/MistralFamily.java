package dev.oribi.model.family;

import dev.oribi.model.config.Fields;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.family.Architecture.GatedMlpSpec;
import dev.oribi.model.family.Architecture.SelfAttentionSpec;

/** Mistral 7B, of whose versions the first has a window in every layer, Nemo and Small. */
final class MistralFamily extends Family {
  MistralFamily() {
    super("mistral", "MistralForCausalLM");
  }

  /** What transformers takes where the file does not name a window; where it says null there is none. */
  private static final int DEFAULT_WINDOW = 4096;

  @Override
  public Architecture describe(Fields config, ModelConfig n) {
    boolean given = config.node().has("sliding_window");
    SelfAttentionSpec attention = SelfAttentionSpec.plain(n.headDim()).withWindow(given ? window(config) : DEFAULT_WINDOW);
    return Architecture.plain(n.rope(), layers(n, i -> Architecture.layer(attention, GatedMlpSpec.plain(act(n)))));
  }
}
