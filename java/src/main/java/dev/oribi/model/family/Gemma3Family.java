package dev.oribi.model.family;

import dev.oribi.kernel.Kernels.NormWeight;
import dev.oribi.model.config.Fields;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.config.RopeConfig;
import dev.oribi.model.family.Architecture.Layer;
import dev.oribi.model.family.Architecture.SelfAttentionSpec;
import java.util.List;

/**
 * The text models of Gemma 3: as Gemma 2 without caps, a norm of each head of q and k, windows in five layers of six, and two
 * kinds of rotary positions: those of layers with a window have a base of their own and are never scaled.
 */
final class Gemma3Family extends Family {
  private static final int PATTERN = 6;
  private static final double MAX_BASE = 1e15;
  private static final String GLOBAL = "full_attention";
  private static final String LOCAL = "sliding_attention";

  Gemma3Family() {
    super("gemma3_text", "Gemma3ForCausalLM");
  }

  @Override
  public boolean tied() {
    return true;
  }

  @Override
  public boolean fitsFloat16() {
    return false;
  }

  @Override
  public String activation(Fields config) {
    config.text("hidden_act", null);
    return config.text("hidden_activation", "gelu_pytorch_tanh");
  }

  /** Newer files have one setting for each kind of layer. */
  @Override
  public RopeConfig rope(Fields config) {
    return RopeConfig.perKindOfLayer(config)
        ? RopeConfig.read(config, GLOBAL, 1_000_000)
        : RopeConfig.read(config, 1_000_000);
  }

  private static RopeConfig localRope(Fields config) {
    return RopeConfig.perKindOfLayer(config)
        ? RopeConfig.read(config, LOCAL, 10_000)
        : RopeConfig.plain(config.number("rope_local_base_freq", 1, MAX_BASE, 10_000));
  }

  @Override
  public Architecture describe(Fields config, ModelConfig n) {
    int window = config.integer("sliding_window", 1, Integer.MAX_VALUE, 4096);
    int pattern = config.integer("sliding_window_pattern", 1, Integer.MAX_VALUE, PATTERN);
    Windows windows = windows(config, n, i -> (i + 1) % pattern != 0);
    SelfAttentionSpec attention =
        Gemma2Family.attention(config, n, 0).withHeadNorms("self_attn.q_norm", "self_attn.k_norm");
    List<Layer> layers = layers(n, i -> {
      boolean local = windows.of(i);
      return Gemma2Family.layer(attention.withWindow(local ? window : 0).withRope(local ? 1 : 0), n);
    });
    double softcap = Gemma2Family.cap(config, "final_logit_softcapping", 0);
    return new Architecture(
        NormWeight.ONE_PLUS, GemmaFamily.embeddingScale(n), 1, softcap, List.of(n.rope(), localRope(config)), layers);
  }
}
