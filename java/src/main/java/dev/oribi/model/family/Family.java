package dev.oribi.model.family;

import dev.oribi.kernel.Kernels.Activation;
import dev.oribi.model.config.Fields;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.config.RopeConfig;
import dev.oribi.model.family.Architecture.Layer;
import java.util.ArrayList;
import java.util.List;
import java.util.function.IntFunction;

/**
 * A family of models: how its {@code config.json} is read. The numbers that all families share are read by {@link ModelConfig};
 * a descriptor says where its defaults differ and what its layers are.
 *
 * <p>A key that changes the arithmetic counts as implemented because it was read: {@link ModelConfig#parse} refuses by name every
 * such key that is on and that nobody asked for.
 */
public abstract class Family {
  private final String modelType;
  private final String architecture;

  /**
   * @param modelType {@code model_type} of the file
   * @param architecture what {@code architectures} must be
   */
  protected Family(String modelType, String architecture) {
    this.modelType = modelType;
    this.architecture = architecture;
  }

  public final String modelType() {
    return modelType;
  }

  public final String architecture() {
    return architecture;
  }

  /** What {@code tie_word_embeddings} is where the file does not say. */
  public boolean tied() {
    return false;
  }

  /** Channels of a head, or, of heads that are not of one kind, those that turn. */
  public int headDim(Fields config, int most, int usual) {
    return config.integer("head_dim", 1, most, usual);
  }

  /** Whether a checkpoint's tensor is of no use to the model as it is described here. */
  public boolean leavesOut(String tensor, ModelConfig numbers) {
    return false;
  }

  /** Whether activations of its published models stay within float16's 65,504. */
  public boolean fitsFloat16() {
    return true;
  }

  /** Name of the activation function; the keys differ. */
  public String activation(Fields config) {
    return config.text("hidden_act", "silu");
  }

  /** The rotary positions of most layers. */
  public RopeConfig rope(Fields config) {
    return RopeConfig.read(config);
  }

  /**
   * The layers.
   *
   * @param config the whole file; empty for a model made from numbers alone
   * @param numbers what was read of it already
   */
  public abstract Architecture describe(Fields config, ModelConfig numbers);

  // ------------------------------------------------------------------------------------- what several descriptors need

  static final int MOST_CHANNELS = 1 << 20;

  /** The names that most families give to the modules of an expert. */
  static final List<String> EXPERT_MODULES = List.of("gate_proj", "up_proj", "down_proj");

  /** As many as the router's kernel takes. */
  private static final int MOST_EXPERTS = 1024;
  private static final int MOST_CHOSEN = 32;

  static int expertCount(Fields config, String key, int usual) {
    return config.integer(key, 1, MOST_EXPERTS, usual);
  }

  static int chosenCount(Fields config, int experts, int usual) {
    return config.integer("num_experts_per_tok", 1, Math.min(experts, MOST_CHOSEN), Math.min(experts, usual));
  }

  static Activation act(ModelConfig numbers) {
    return switch (numbers.hiddenAct()) {
      case "silu" -> Activation.SILU;
      case "gelu_pytorch_tanh" -> Activation.GELU_TANH;
      case "gelu" -> Activation.GELU_ERF;
      default -> throw new IllegalArgumentException(numbers.hiddenAct());
    };
  }

  static List<Layer> layers(ModelConfig numbers, IntFunction<Layer> layer) {
    List<Layer> all = new ArrayList<>();
    for (int i = 0; i < numbers.numHiddenLayers(); i++) {
      all.add(layer.apply(i));
    }
    return all;
  }

  /** Which layers have a window, by their number. */
  interface Windows {
    boolean of(int layer);
  }

  /** {@code layer_types} where the file has it, else the rule of the older files. */
  static Windows windows(Fields config, ModelConfig numbers, Windows rule) {
    List<String> types = config.texts("layer_types");
    if (types.isEmpty()) {
      return rule;
    }
    if (types.size() < numbers.numHiddenLayers()) {
      throw config.refuse("layer_types", "has fewer entries than num_hidden_layers (" + numbers.numHiddenLayers() + ")");
    }
    for (String type : types) {
      if (!type.equals("sliding_attention") && !type.equals("full_attention")) {
        throw config.refuse("layer_types", "names \"" + type + "\", which is not supported; full_attention and sliding_attention are");
      }
    }
    return layer -> types.get(layer).equals("sliding_attention");
  }

  /** {@code sliding_window}, at least 1; 0 where there is none. */
  static int window(Fields config) {
    return config.integer("sliding_window", 1, Integer.MAX_VALUE, 0);
  }
}
