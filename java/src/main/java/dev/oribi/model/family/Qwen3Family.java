package dev.oribi.model.family;

import dev.oribi.model.config.Fields;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.family.Architecture.SelfAttentionSpec;

/** Qwen 3: a norm of each head of q and k before they turn, and no biases unless the file asks for them. */
final class Qwen3Family extends Family {
  Qwen3Family() {
    super("qwen3", "Qwen3ForCausalLM");
  }

  @Override
  public Architecture describe(Fields config, ModelConfig n) {
    boolean bias = config.flag("attention_bias", false);
    return Qwen2Family.layered(
        config, n,
        SelfAttentionSpec.plain(n.headDim()).withBiases(bias, bias).withHeadNorms("self_attn.q_norm", "self_attn.k_norm"));
  }
}
