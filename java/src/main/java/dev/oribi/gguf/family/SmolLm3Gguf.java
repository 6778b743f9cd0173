package dev.oribi.gguf.family;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.gguf.GgufKeys;

/** SmolLM3, in which llama.cpp leaves every fourth layer unturned without a key that says so. */
final class SmolLm3Gguf extends GgufFamily {
  private static final int UNTURNED = 4;

  SmolLm3Gguf() {
    super("smollm3", "smollm3");
  }

  @Override
  protected boolean interleaved() {
    return true;
  }

  @Override
  protected void read(GgufKeys keys, ObjectNode config) {
    requireWholeHeads(keys, config);
    ArrayNode turns = config.putArray("no_rope_layers"); // 1 where a layer turns
    for (int i = 0; i < config.get("num_hidden_layers").asInt(); i++) {
      turns.add((i + 1) % UNTURNED == 0 ? 0 : 1);
    }
  }
}
