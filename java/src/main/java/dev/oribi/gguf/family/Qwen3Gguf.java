package dev.oribi.gguf.family;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.gguf.GgufKeys;

/** Qwen 3: no keys of their own, and no biases. */
final class Qwen3Gguf extends GgufFamily {
  Qwen3Gguf() {
    super("qwen3", "qwen3");
  }

  @Override
  protected void read(GgufKeys keys, ObjectNode config) {
    requireWholeHeads(keys, config);
  }
}
