package dev.oribi.gguf.family;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.gguf.GgufKeys;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.family.Architecture;
import dev.oribi.model.family.Architecture.SelfAttentionSpec;

/** Gemma 2: windows in every other layer, and two caps, which llama.cpp applies whether or not the file names them. */
final class Gemma2Gguf extends GemmaGguf {
  private static final int PERIOD = 2;
  private static final int WINDOW = 4096;
  private static final int LAYERS_OF_27B = 46;
  private static final double SCORE_CAP = 50;
  private static final double LOGIT_CAP = 30;

  Gemma2Gguf() {
    super("gemma2", "gemma2");
  }

  @Override
  protected boolean hasWindows() {
    return true;
  }

  @Override
  protected void put(ModelConfig config, Architecture a, GgufKeys keys) {
    GgufWindows.put(a, PERIOD, keys);
    double scoreCap = ((SelfAttentionSpec) a.layers().get(0).attention()).softcap();
    if (scoreCap > 0) {
      keys.putNumber("attn_logit_softcapping", scoreCap);
    }
    if (a.logitSoftcap() > 0) {
      keys.putNumber("final_logit_softcapping", a.logitSoftcap());
    }
  }

  @Override
  protected void read(GgufKeys keys, ObjectNode config) {
    super.read(keys, config);
    GgufWindows.read(keys, PERIOD, WINDOW, config);
    readScale(LAYERS_OF_27B, config);
    readCap(keys, "attn_logit_softcapping", SCORE_CAP, "attn_logit_softcapping", config);
    readCap(keys, "final_logit_softcapping", LOGIT_CAP, "final_logit_softcapping", config);
  }
}
