package dev.oribi.gguf.family;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.gguf.GgufKeys;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.family.Architecture;
import java.util.Set;

/** The text models of Gemma 3: windows in five layers of six, with a base of rotary positions of their own. */
final class Gemma3Gguf extends GemmaGguf {
  private static final int PERIOD = 6;
  private static final int LAYERS_OF_27B = 62;
  private static final double LOCAL_BASE = 10_000;
  private static final String LOCAL = "rope.freq_base_swa";

  Gemma3Gguf() {
    super("gemma3_text", "gemma3");
  }

  @Override
  protected boolean headOfItsOwn() {
    return true;
  }

  @Override
  protected boolean hasWindows() {
    return true;
  }

  /** YaRN would bend the layers with windows too. */
  @Override
  protected Set<String> ropeTypes() {
    return Set.of("default", "linear");
  }

  @Override
  protected void put(ModelConfig config, Architecture a, GgufKeys keys) {
    GgufWindows.put(a, PERIOD, keys);
    keys.putNumber(LOCAL, a.ropes().get(1).theta());
    if (a.logitSoftcap() > 0) {
      keys.putNumber("final_logit_softcapping", a.logitSoftcap());
    }
  }

  @Override
  protected void read(GgufKeys keys, ObjectNode config) {
    super.read(keys, config);
    GgufWindows.read(keys, PERIOD, 0, config);
    readScale(LAYERS_OF_27B, config);
    readCap(keys, "final_logit_softcapping", 0, "final_logit_softcapping", config);
    config.put("rope_local_base_freq", keys.number(LOCAL, LOCAL_BASE));
  }
}
