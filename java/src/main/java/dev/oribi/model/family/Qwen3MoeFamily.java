package dev.oribi.model.family;

import dev.oribi.kernel.RouterShape;
import dev.oribi.model.config.Fields;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.family.Architecture.ExpertsSpec;
import dev.oribi.model.family.Architecture.GatedMlpSpec;
import dev.oribi.model.family.Architecture.Layer;
import dev.oribi.model.family.Architecture.SelfAttentionSpec;
import java.util.Set;
import java.util.stream.Collectors;

/** Qwen 3 with experts in every {@code decoder_sparse_step}-th layer that is not named in {@code mlp_only_layers}. */
final class Qwen3MoeFamily extends Family {
  Qwen3MoeFamily() {
    super("qwen3_moe", "Qwen3MoeForCausalLM");
  }

  @Override
  public Architecture describe(Fields config, ModelConfig n) {
    boolean bias = config.flag("attention_bias", false);
    int window = config.flag("use_sliding_window", false) ? window(config) : 0;
    SelfAttentionSpec attention =
        SelfAttentionSpec.plain(n.headDim()).withBiases(bias, bias).withHeadNorms("self_attn.q_norm", "self_attn.k_norm")
            .withWindow(window);
    int experts = expertCount(config, "num_experts", expertCount(config, "num_local_experts", 128));
    if (config.has("num_local_experts") && expertCount(config, "num_local_experts", experts) != experts) {
      throw config.refuse("num_local_experts", "and num_experts (" + experts + ") disagree; remove one of them");
    }
    RouterShape router =
        RouterShape.softmax(experts, chosenCount(config, experts, 8), config.flag("norm_topk_prob", false));
    int size = config.integer("moe_intermediate_size", 1, MOST_CHANNELS, 768);
    ExpertsSpec sparse =
        new ExpertsSpec("mlp.gate", null, "mlp.experts", EXPERT_MODULES, size, null, 0, router, act(n));
    int step = config.integer("decoder_sparse_step", 1, Integer.MAX_VALUE, 1);
    Set<Integer> dense = config.integers("mlp_only_layers").stream().collect(Collectors.toSet());
    return Architecture.plain(n.rope(), layers(n, i -> {
      boolean routed = !dense.contains(i) && (i + 1) % step == 0;
      return routed ? Architecture.layer(attention, sparse) : dense(attention, n);
    }));
  }

  private static Layer dense(SelfAttentionSpec attention, ModelConfig n) {
    return Architecture.layer(attention, GatedMlpSpec.plain(act(n)));
  }
}
