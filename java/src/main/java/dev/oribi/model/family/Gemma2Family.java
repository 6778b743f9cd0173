package dev.oribi.model.family;

import dev.oribi.kernel.Kernels.NormWeight;
import dev.oribi.model.config.Fields;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.family.Architecture.GatedMlpSpec;
import dev.oribi.model.family.Architecture.Layer;
import dev.oribi.model.family.Architecture.SelfAttentionSpec;
import java.util.List;

/**
 * Gemma 2: as Gemma 1, and norms after attention and MLP too, windows in every other layer, scores and logits capped, scores
 * scaled by a number of their own.
 */
final class Gemma2Family extends Family {
  private static final double MAX = 1e6;

  Gemma2Family() {
    super("gemma2", "Gemma2ForCausalLM");
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

  @Override
  public Architecture describe(Fields config, ModelConfig n) {
    int window = config.integer("sliding_window", 1, Integer.MAX_VALUE, 4096);
    Windows windows = windows(config, n, i -> i % 2 == 0);
    SelfAttentionSpec attention = attention(config, n, 50);
    List<Layer> layers = layers(n, i -> layer(attention.withWindow(windows.of(i) ? window : 0), n));
    double softcap = cap(config, "final_logit_softcapping", 30);
    return new Architecture(
        NormWeight.ONE_PLUS, GemmaFamily.embeddingScale(n), 1, softcap, List.of(n.rope()), layers);
  }

  /** What the layers of Gemma 2 and 3 have in common. */
  static SelfAttentionSpec attention(Fields config, ModelConfig n, double usualCap) {
    boolean bias = config.flag("attention_bias", false);
    double scale = Math.pow(config.number("query_pre_attn_scalar", 1e-3, MAX, 256), -0.5);
    return SelfAttentionSpec.plain(n.headDim()).withBiases(bias, bias).withOutputNorm("post_attention_layernorm")
        .withScores(scale, cap(config, "attn_logit_softcapping", usualCap));
  }

  static Layer layer(SelfAttentionSpec attention, ModelConfig n) {
    GatedMlpSpec mlp = GatedMlpSpec.plain(act(n)).withOutputNorm("post_feedforward_layernorm");
    return new Layer("input_layernorm", attention, "pre_feedforward_layernorm", mlp);
  }

  /** 0 where the file says null: transformers then caps nothing. */
  static double cap(Fields config, String key, double otherwise) {
    boolean off = config.node().has(key) && !config.has(key);
    return off ? 0 : config.number(key, 1e-3, MAX, otherwise);
  }
}
