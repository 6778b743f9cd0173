package dev.oribi.model.family;

import dev.oribi.model.config.Fields;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.family.Architecture.GatedMlpSpec;
import dev.oribi.model.family.Architecture.SelfAttentionSpec;

/** Llama 1 to 3.3, and what has their shape: SmolLM2, TinyLlama, the Llama distillations of DeepSeek R1. */
final class LlamaFamily extends Family {
  LlamaFamily() {
    super("llama", "LlamaForCausalLM");
  }

  @Override
  public Architecture describe(Fields config, ModelConfig n) {
    boolean bias = config.flag("attention_bias", false);
    SelfAttentionSpec attention = SelfAttentionSpec.plain(n.headDim()).withBiases(bias, bias);
    GatedMlpSpec mlp = GatedMlpSpec.plain(act(n)).withBiases(config.flag("mlp_bias", false));
    Windows none = windows(config, n, i -> false);
    return Architecture.plain(n.rope(), layers(n, i -> {
      if (none.of(i)) {
        throw config.refuse("layer_types", "names \"sliding_attention\", which this family does not have");
      }
      return Architecture.layer(attention, mlp);
    }));
  }
}
