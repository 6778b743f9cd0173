package dev.oribi.gguf.family;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.gguf.GgufKeys;

/** Gemma: no keys of its own. The scale of the embedding, the kind of GELU and the shared head follow from the architecture. */
class GemmaGguf extends GgufFamily {
  GemmaGguf() {
    this("gemma", "gemma");
  }

  GemmaGguf(String modelType, String architecture) {
    super(modelType, architecture);
  }

  /** Whether a head of its own is read. */
  protected boolean headOfItsOwn() {
    return false;
  }

  @Override
  protected void read(GgufKeys keys, ObjectNode config) {
    requireWholeHeads(keys, config);
    if (!headOfItsOwn() && !config.get("tie_word_embeddings").asBoolean()) {
      throw keys.refuse("architecture " + architecture() + " has no place for a head of its own, output.weight");
    }
    config.remove("hidden_act");
    config.put("hidden_activation", "gelu_pytorch_tanh");
  }

  /**
   * The number whose root q.k is divided by has no key: it is the size of a head, and in the largest model what the stream has
   * for each head.
   *
   * @param layersOfLargest by which llama.cpp knows that model
   */
  static void readScale(int layersOfLargest, ObjectNode config) {
    boolean largest = config.get("num_hidden_layers").asInt() == layersOfLargest;
    int perHead = config.get("hidden_size").asInt() / config.get("num_attention_heads").asInt();
    config.put("query_pre_attn_scalar", largest ? perHead : config.get("head_dim").asInt());
  }

  /** A cap, or null for none. */
  static void readCap(GgufKeys keys, String key, double ifMissing, String name, ObjectNode config) {
    double cap = keys.number(key, ifMissing);
    config.put(name, cap == 0 ? null : (Double) cap);
  }
}
