package dev.oribi.model.family;

import dev.oribi.kernel.RouterShape;
import dev.oribi.model.config.Fields;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.family.Architecture.ExpertsSpec;
import dev.oribi.model.family.Architecture.SelfAttentionSpec;
import java.util.List;

/** Mixtral: Mistral with experts in every layer, two of eight a token, whose weights add up to one. */
final class MixtralFamily extends Family {
  /** gate, up and down. */
  private static final List<String> MODULES = List.of("w1", "w3", "w2");

  private static final String MLP = "block_sparse_moe.";

  MixtralFamily() {
    super("mixtral", "MixtralForCausalLM");
  }

  @Override
  public Architecture describe(Fields config, ModelConfig n) {
    int experts = expertCount(config, "num_local_experts", 8);
    RouterShape router = RouterShape.softmax(experts, chosenCount(config, experts, 2), true);
    ExpertsSpec mlp =
        new ExpertsSpec(MLP + "gate", null, MLP + "experts", MODULES, n.intermediateSize(), null, 0, router, act(n));
    SelfAttentionSpec attention = SelfAttentionSpec.plain(n.headDim()).withWindow(window(config));
    return Architecture.plain(n.rope(), layers(n, i -> Architecture.layer(attention, mlp)));
  }
}
