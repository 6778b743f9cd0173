package dev.oribi.gguf.family;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.gguf.GgufKeys;

/** Qwen 2 and 2.5: no keys of their own. */
final class Qwen2Gguf extends GgufFamily {
  Qwen2Gguf() {
    super("qwen2", "qwen2");
  }

  @Override
  protected void read(GgufKeys keys, ObjectNode config) {
    requireWholeHeads(keys, config);
  }
}
