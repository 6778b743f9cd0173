package dev.oribi.model.family;

import dev.oribi.model.config.Fields;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.config.RopeConfig;
import dev.oribi.model.family.Architecture.GatedMlpSpec;
import dev.oribi.model.family.Architecture.SelfAttentionSpec;

/**
 * Phi-3, 3.5, 4 and 4 mini: q, k and v are one module in the file, and so are gate and up, and an adapter has one A for all of
 * such a module; long contexts by longrope; in 4 mini a part of each head turns.
 */
final class Phi3Family extends Family {
  Phi3Family() {
    super("phi3", "Phi3ForCausalLM");
  }

  @Override
  public RopeConfig rope(Fields config) {
    return RopeConfig.readPartial(config);
  }

  @Override
  public Architecture describe(Fields config, ModelConfig n) {
    SelfAttentionSpec attention =
        SelfAttentionSpec.plain(n.headDim()).withFused("self_attn.qkv_proj").withWindow(window(config));
    GatedMlpSpec mlp = GatedMlpSpec.plain(act(n)).withFused("mlp.gate_up_proj");
    return Architecture.plain(n.rope(), layers(n, i -> Architecture.layer(attention, mlp)));
  }
}
