package dev.oribi.gguf.family;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.gguf.GgufKeys;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.family.Architecture;
import dev.oribi.model.family.Architecture.ExpertsSpec;

/** Mixtral: architecture llama with experts. */
final class MixtralGguf extends LlamaGguf {
  MixtralGguf() {
    super("mixtral");
  }

  @Override
  protected boolean holds(GgufKeys keys) {
    return keys.integer("expert_count", 0, 0) > 0;
  }

  @Override
  protected void put(ModelConfig config, Architecture a, GgufKeys keys) {
    ExpertsSpec x = (ExpertsSpec) a.layers().get(0).mlp();
    keys.put("expert_count", x.shape().experts()).put("expert_used_count", x.shape().chosen());
  }

  @Override
  protected void read(GgufKeys keys, ObjectNode config) {
    requireWholeHeads(keys, config);
    config.put("num_local_experts", keys.integer("expert_count", 1)).put("num_experts_per_tok", keys.integer("expert_used_count", 1));
  }
}
