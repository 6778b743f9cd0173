package dev.oribi.model.config;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import dev.oribi.io.Json;

/**
 * Rotary position embedding: base and scaling of the rotation frequencies.
 *
 * @param type {@code default} (no scaling), {@code linear} (all frequencies divided by {@code factor}) or {@code llama3}
 *     (long waves divided by {@code factor}, short ones kept, those between blended)
 * @param theta base of the geometric series of frequencies
 * @param factor how much longer the context became; 1 without scaling
 * @param lowFreqFactor llama3: waves longer than the original context over this are scaled in full
 * @param highFreqFactor llama3: waves shorter than the original context over this are kept
 * @param originalMaxPositionEmbeddings llama3: context length before scaling; 0 for the other types
 */
public record RopeConfig(String type, double theta, double factor, double lowFreqFactor, double highFreqFactor,
    int originalMaxPositionEmbeddings) {
  private static final double MAX_THETA = 1e15;
  private static final double MAX_FACTOR = 1e6;

  public RopeConfig {
    switch (type) {
      case "default", "linear", "llama3" -> { }
      default -> throw new OribiException("RoPE type " + type + " is not supported; default, linear and llama3 are.");
    }
    if (type.equals("llama3") && !(highFreqFactor > lowFreqFactor)) {
      throw new OribiException("RoPE type llama3 needs high_freq_factor above low_freq_factor, found " + highFreqFactor + " and " + lowFreqFactor + ".");
    }
  }

  /** No scaling. */
  public static RopeConfig plain(double theta) {
    return new RopeConfig("default", theta, 1, 1, 1, 0);
  }

  /** From {@code rope_parameters}, or the older {@code rope_theta} and {@code rope_scaling}, of a config.json. */
  static RopeConfig read(Fields config) {
    double theta = config.number("rope_theta", 1, MAX_THETA, 10_000);
    RopeConfig older = config.has("rope_scaling") ? read(config, "rope_scaling", theta) : plain(theta);
    if (!config.has("rope_parameters")) {
      return older;
    }
    RopeConfig newer = read(config, "rope_parameters", theta);
    boolean bothGiven = config.has("rope_scaling") || config.has("rope_theta");
    if (bothGiven && !newer.equals(older) && !(older.type.equals("default") && newer.theta == older.theta)) {
      throw new OribiException(config.where() + ": rope_parameters and rope_theta/rope_scaling disagree; remove one of them.");
    }
    return newer;
  }

  private static RopeConfig read(Fields config, String key, double theta) {
    Fields rope = Fields.of(config.node().get(key), config.where() + ": " + key);
    if (rope.node().elements().hasNext() && rope.node().properties().stream().allMatch(e -> e.getValue().isObject())) {
      throw new OribiException(rope.where() + ": one setting for each kind of layer is not supported.");
    }
    String type = rope.text("rope_type", rope.text("type", "default"));
    double base = rope.number("rope_theta", 1, MAX_THETA, theta);
    if (rope.number("partial_rotary_factor", 0, 1, 1) != 1) {
      throw rope.refuse("partial_rotary_factor", "is not supported, only 1 is");
    }
    return switch (type) {
      case "default" -> plain(base);
      case "linear" -> new RopeConfig(type, base, rope.number("factor", 1, MAX_FACTOR), 1, 1, 0);
      case "llama3" -> new RopeConfig(type, base, rope.number("factor", 1, MAX_FACTOR),
          rope.number("low_freq_factor", 1e-6, MAX_FACTOR), rope.number("high_freq_factor", 1e-6, MAX_FACTOR),
          rope.integer("original_max_position_embeddings", 1, Integer.MAX_VALUE));
      default -> throw new OribiException(rope.where() + ": rope_type \"" + type + "\" is not supported; default, linear and llama3 are.");
    };
  }

  /** Sets {@code rope_theta} and {@code rope_scaling}, or {@code rope_parameters} if the file used that. */
  void writeTo(ObjectNode config) {
    ObjectNode scaling = Json.object().put("rope_type", type);
    if (!type.equals("default")) {
      scaling.put("factor", factor);
    }
    if (type.equals("llama3")) {
      scaling.put("low_freq_factor", lowFreqFactor).put("high_freq_factor", highFreqFactor)
          .put("original_max_position_embeddings", originalMaxPositionEmbeddings);
    }
    if (config.hasNonNull("rope_parameters")) {
      config.remove("rope_theta");
      config.remove("rope_scaling");
      config.set("rope_parameters", scaling.put("rope_theta", theta));
    } else {
      config.put("rope_theta", theta);
      config.set("rope_scaling", type.equals("default") ? null : scaling);
    }
  }

  /**
   * Angle by which a position advances, for each pair of a head's channels: {@code headDim / 2} values.
   *
   * <p>Computed in fp32, step by step as transformers does, so that the angles agree to the bit or nearly so.
   */
  public float[] invFreq(int headDim) {
    float[] inv = new float[headDim / 2];
    for (int i = 0; i < inv.length; i++) {
      float exponent = 2f * i / headDim;
      float frequency = 1f / (float) Math.pow(theta, exponent);
      inv[i] = switch (type) {
        case "linear" -> frequency / (float) factor;
        case "llama3" -> llama3(frequency);
        default -> frequency;
      };
    }
    return inv;
  }

  private float llama3(float frequency) {
    float wavelength = (float) (2 * Math.PI) / frequency;
    if (wavelength < (float) (originalMaxPositionEmbeddings / highFreqFactor)) {
      return frequency;
    }
    if (wavelength > (float) (originalMaxPositionEmbeddings / lowFreqFactor)) {
      return frequency / (float) factor;
    }
    float turns = originalMaxPositionEmbeddings / wavelength;
    float smooth = (turns - (float) lowFreqFactor) / (float) (highFreqFactor - lowFreqFactor);
    return (1 - smooth) * frequency / (float) factor + smooth * frequency;
  }
}
