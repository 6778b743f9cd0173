package dev.oribi.gguf.family;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.gguf.GgufKeys;
import java.util.Set;

/**
 * Llama, and Mistral, which llama.cpp calls by the same name and reads without its window. Biases have no key: they are there if
 * their tensors are.
 */
class LlamaGguf extends GgufFamily {
  LlamaGguf(String modelType) {
    super(modelType, "llama");
  }

  @Override
  protected boolean interleaved() {
    return true;
  }

  @Override
  protected boolean holds(GgufKeys keys) {
    return keys.integer("expert_count", 0, 0) == 0;
  }

  @Override
  protected Set<String> ropeTypes() {
    return Set.of("default", "linear", "yarn", "llama3", "longrope");
  }

  @Override
  protected void read(GgufKeys keys, ObjectNode config) {
    requireWholeHeads(keys, config);
    config.put("attention_bias", keys.hasTensor("blk.0.attn_q.bias")).put("mlp_bias", keys.hasTensor("blk.0.ffn_up.bias"));
  }
}
