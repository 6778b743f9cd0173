package dev.oribi.model.family;

import dev.oribi.kernel.Kernels.NormWeight;
import dev.oribi.model.config.Fields;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.family.Architecture.GatedMlpSpec;
import dev.oribi.model.family.Architecture.Layer;
import dev.oribi.model.family.Architecture.SelfAttentionSpec;
import java.util.List;

/** Gemma 1: norms by 1 + w, an embedding scaled by the root of the hidden size, a tied head, GeGLU. */
final class GemmaFamily extends Family {
  GemmaFamily() {
    super("gemma", "GemmaForCausalLM");
  }

  @Override
  public boolean tied() {
    return true;
  }

  /** {@code hidden_act} of the first files says "gelu" and is wrong: the models were trained with the approximation by tanh. */
  @Override
  public String activation(Fields config) {
    String older = config.text("hidden_act", "gelu");
    return config.text("hidden_activation", older.equals("gelu") ? "gelu_pytorch_tanh" : older);
  }

  @Override
  public Architecture describe(Fields config, ModelConfig n) {
    boolean bias = config.flag("attention_bias", false);
    SelfAttentionSpec attention = SelfAttentionSpec.plain(n.headDim()).withBiases(bias, bias);
    List<Layer> layers = layers(n, i -> Architecture.layer(attention, GatedMlpSpec.plain(act(n))));
    return new Architecture(NormWeight.ONE_PLUS, embeddingScale(n), 1, 0, List.of(n.rope()), layers);
  }

  static double embeddingScale(ModelConfig n) {
    return Math.sqrt(n.hiddenSize());
  }
}
