package dev.oribi.model.family;

import dev.oribi.model.config.Fields;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.config.RopeConfig;
import dev.oribi.model.family.Architecture.GatedMlpSpec;
import dev.oribi.model.family.Architecture.SelfAttentionSpec;
import java.util.List;

/** SmolLM3: Llama's layers, of which every fourth does not turn its queries and keys. */
final class SmolLm3Family extends Family {
  private static final double THETA = 2_000_000;

  SmolLm3Family() {
    super("smollm3", "SmolLM3ForCausalLM");
  }

  @Override
  public boolean tied() {
    return true;
  }

  @Override
  public RopeConfig rope(Fields config) {
    return RopeConfig.read(config, THETA);
  }

  @Override
  public Architecture describe(Fields config, ModelConfig n) {
    boolean bias = config.flag("attention_bias", false);
    SelfAttentionSpec attention = SelfAttentionSpec.plain(n.headDim()).withBiases(bias, bias);
    GatedMlpSpec mlp = GatedMlpSpec.plain(act(n)).withBiases(config.flag("mlp_bias", false));
    int interval = config.integer("no_rope_layer_interval", 1, Integer.MAX_VALUE, 4);
    List<Boolean> turns = config.switches("no_rope_layers"); // despite its name: 1 where a layer turns them
    config.integer("pretraining_tp", 0, Integer.MAX_VALUE, 1); // 2 in the published file, and nothing reads it
    int window = window(config);
    boolean on = config.flag("use_sliding_window", false) && window > 0;
    if (!turns.isEmpty() && turns.size() < n.numHiddenLayers()) {
      throw config.refuse("no_rope_layers", "has fewer entries than num_hidden_layers (" + n.numHiddenLayers() + ")");
    }
    Windows rope = i -> turns.isEmpty() ? (i + 1) % interval != 0 : turns.get(i);
    Windows windows = windows(config, n, i -> on && !rope.of(i));
    return Architecture.plain(n.rope(), layers(n, i -> {
      SelfAttentionSpec here = attention.withRope(rope.of(i) ? 0 : SelfAttentionSpec.NO_ROPE);
      return Architecture.layer(here.withWindow(on && windows.of(i) ? window : 0), mlp);
    }));
  }
}
