package dev.oribi.gguf.family;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.gguf.GgufKeys;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.family.Architecture;
import dev.oribi.model.family.Architecture.ExpertsSpec;
import dev.oribi.model.family.Architecture.MlpSpec;

/** Qwen 3 with experts in every layer; the weights of those chosen add up to one. */
final class Qwen3MoeGguf extends GgufFamily {
  Qwen3MoeGguf() {
    super("qwen3_moe", "qwen3moe");
  }

  @Override
  protected void put(ModelConfig config, Architecture a, GgufKeys keys) {
    MlpSpec first = a.layers().get(0).mlp();
    if (first instanceof ExpertsSpec x) {
      keys.put("expert_count", x.shape().experts()).put("expert_used_count", x.shape().chosen())
          .put("expert_feed_forward_length", x.size());
    }
  }

  @Override
  protected void read(GgufKeys keys, ObjectNode config) {
    requireWholeHeads(keys, config);
    config.put("num_experts", keys.integer("expert_count", 1)).put("num_experts_per_tok", keys.integer("expert_used_count", 1))
        .put("moe_intermediate_size", keys.integer("expert_feed_forward_length", 1)).put("norm_topk_prob", true);
  }
}
