package dev.oribi.model.family;

import dev.oribi.model.config.Fields;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.family.Architecture.GatedMlpSpec;
import dev.oribi.model.family.Architecture.SelfAttentionSpec;

/** Qwen 2 and 2.5, and the Qwen distillations of DeepSeek R1: biases on q, k and v, always. */
final class Qwen2Family extends Family {
  Qwen2Family() {
    super("qwen2", "Qwen2ForCausalLM");
  }

  @Override
  public Architecture describe(Fields config, ModelConfig n) {
    return layered(config, n, SelfAttentionSpec.plain(n.headDim()).withBiases(true, false));
  }

  /** A window, where one is switched on, from layer {@code max_window_layers} on. */
  static Architecture layered(Fields config, ModelConfig n, SelfAttentionSpec attention) {
    int window = window(config);
    int first = config.integer("max_window_layers", 0, Integer.MAX_VALUE, 28);
    boolean on = config.flag("use_sliding_window", false) && window > 0;
    Windows windows = windows(config, n, i -> on && i >= first);
    return Architecture.plain(n.rope(), layers(n, i -> {
      if (windows.of(i) && !on) {
        throw config.refuse("layer_types", "has windows although use_sliding_window is off");
      }
      return Architecture.layer(attention.withWindow(windows.of(i) ? window : 0), GatedMlpSpec.plain(act(n)));
    }));
  }
}
