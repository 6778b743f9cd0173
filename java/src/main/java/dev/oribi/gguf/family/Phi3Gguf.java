package dev.oribi.gguf.family;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.gguf.GgufKeys;
import java.util.Set;

/**
 * Phi-3 and 4: q, k and v are one tensor, and so are gate and up; long contexts by longrope. Windows have a key that llama.cpp
 * reads and leaves unused, so there is none here and the context ends with the window.
 */
final class Phi3Gguf extends GgufFamily {
  Phi3Gguf() {
    super("phi3", "phi3");
  }

  @Override
  protected Set<String> ropeTypes() {
    return Set.of("default", "linear", "yarn", "longrope");
  }

  @Override
  protected void read(GgufKeys keys, ObjectNode config) {
    int headDim = config.get("head_dim").asInt();
    if (keys.integer("attention.value_length", 1, headDim) != headDim) {
      throw keys.refuse("attention.value_length", "differs from the size of a head, " + headDim + ", which is not supported.");
    }
    int channels = headDim * config.get("num_attention_heads").asInt();
    if (channels != config.get("hidden_size").asInt()) {
      throw keys.refuse("attention.key_length", "times the number of heads must be the embedding_length in architecture phi3, and is "
          + channels + ".");
    }
    config.put("original_max_position_embeddings", config.get("max_position_embeddings").asInt());
  }
}
