package dev.oribi.model.config;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import dev.oribi.io.Json;
import java.util.ArrayList;
import java.util.List;

/**
 * Rotary position embedding: base and scaling of the rotation frequencies.
 *
 * @param type {@code default} (no scaling), {@code linear} (all frequencies divided by {@code factor}), {@code llama3} (long waves
 *     divided by {@code factor}, short ones kept, those between blended), {@code yarn} (the same with a ramp over the channels),
 *     {@code dynamic} (a larger base for sequences longer than the original context) or {@code longrope} (a divisor for every
 *     frequency, of which there are two sets: for sequences within the original context and for longer ones)
 * @param theta base of the geometric series of frequencies
 * @param factor how much longer the context became; 1 without scaling
 * @param lowFreqFactor llama3: waves longer than the original context over this are scaled in full
 * @param highFreqFactor llama3: waves shorter than the original context over this are kept
 * @param originalMaxPositionEmbeddings context length before scaling; 0 for default and linear
 * @param partial the part of a head's channels that turns, the first of them
 * @param attentionFactor cosines and sines are multiplied by it
 * @param yarn null for the other types
 * @param longRope null for the other types
 */
public record RopeConfig(String type, double theta, double factor, double lowFreqFactor, double highFreqFactor,
    int originalMaxPositionEmbeddings, double partial, double attentionFactor, Yarn yarn, LongRope longRope) {
  private static final double MAX_THETA = 1e15;
  private static final double MAX_FACTOR = 1e6;
  /** Of a family whose heads turn whole. */
  private static final double WHOLE = Double.NaN;

  private static final int MOST_PAIRS = 1 << 20;
  private static final String NEWER = "rope_parameters";
  private static final String OLDER = "rope_scaling";

  /**
   * Where YaRN's ramp begins and ends, in turns within the original context.
   *
   * @param truncate whether the ramp's ends are rounded to whole channels
   */
  public record Yarn(double betaFast, double betaSlow, boolean truncate) {}

  /** Divisors of the frequencies for sequences within the original context, and for longer ones. */
  public record LongRope(List<Float> shortFactor, List<Float> longFactor) {
    public LongRope {
      shortFactor = List.copyOf(shortFactor);
      longFactor = List.copyOf(longFactor);
    }
  }

  public RopeConfig {
    switch (type) {
      case "default", "linear", "llama3", "dynamic", "yarn", "longrope" -> { }
      default -> throw new OribiException("RoPE type " + type + " is not supported; default, linear, dynamic, llama3, yarn and longrope are.");
    }
    if (type.equals("yarn") != (yarn != null) || type.equals("longrope") != (longRope != null)) {
      throw new OribiException("RoPE type " + type + " needs its own numbers, which yarn and longrope alone have.");
    }
    if (type.equals("llama3") && !(highFreqFactor > lowFreqFactor)) {
      throw new OribiException("RoPE type llama3 needs high_freq_factor above low_freq_factor, found " + highFreqFactor + " and " + lowFreqFactor + ".");
    }
  }

  /** A type that has no numbers but these. */
  public RopeConfig(String type, double theta, double factor, double lowFreqFactor, double highFreqFactor,
      int originalMaxPositionEmbeddings) {
    this(type, theta, factor, lowFreqFactor, highFreqFactor, originalMaxPositionEmbeddings, 1, 1, null, null);
  }

  /** No scaling. */
  public static RopeConfig plain(double theta) {
    return new RopeConfig("default", theta, 1, 1, 1, 0);
  }

  // ----------------------------------------------------------------------------------------------------------- read

  /** From {@code rope_parameters}, or the older {@code rope_theta} and {@code rope_scaling}, of a config.json. */
  public static RopeConfig read(Fields config) {
    return read(config, 10_000);
  }

  /** The same with another base where the file names none. */
  public static RopeConfig read(Fields config, double usualTheta) {
    return read(config, usualTheta, WHOLE);
  }

  /** The same for a family in which a part of each head may turn. */
  public static RopeConfig readPartial(Fields config) {
    return read(config, 10_000, config.number("partial_rotary_factor", 1e-3, 1, 1));
  }

  /** Whether {@code rope_parameters} has one setting for each kind of layer. */
  public static boolean perKindOfLayer(Fields config) {
    JsonNode newer = config.node().get(NEWER);
    return newer != null && newer.isObject() && !newer.isEmpty() && newer.properties().stream().allMatch(e -> e.getValue().isObject());
  }

  /** The setting of one kind of layer. */
  public static RopeConfig read(Fields config, String kindOfLayer, double usualTheta) {
    Fields all = Fields.of(config.node().get(NEWER), config.where() + ": " + NEWER);
    return one(config, Fields.of(all.node().get(kindOfLayer), all.where() + ": " + kindOfLayer), usualTheta, WHOLE);
  }

  private static RopeConfig read(Fields config, double usualTheta, double partial) {
    double theta = config.number("rope_theta", 1, MAX_THETA, usualTheta);
    RopeConfig older = config.has(OLDER) ? read(config, OLDER, theta, partial) : plain(theta).turning(partial);
    if (!config.has(NEWER)) {
      return older;
    }
    RopeConfig newer = read(config, NEWER, theta, partial);
    boolean bothGiven = config.has(OLDER) || config.has("rope_theta");
    if (bothGiven && !newer.equals(older) && !(older.type.equals("default") && newer.theta == older.theta)) {
      throw new OribiException(config.where() + ": rope_parameters and rope_theta/rope_scaling disagree; remove one of them.");
    }
    return newer;
  }

  private static RopeConfig read(Fields config, String key, double theta, double partial) {
    if (key.equals(NEWER) && perKindOfLayer(config)) {
      throw new OribiException(config.where() + ": " + key + ": one setting for each kind of layer is not supported for this model_type.");
    }
    return one(config, Fields.of(config.node().get(key), config.where() + ": " + key), theta, partial);
  }

  /** Settings that some types have and ours would have to know; asked for by those that do. */
  private static final List<String> SWITCHES =
      List.of("partial_rotary_factor", "attention_factor", "mscale", "mscale_all_dim", "short_mscale", "long_mscale", "mrope_section", "alpha");

  private static RopeConfig one(Fields config, Fields rope, double theta, double partial) {
    double base = rope.number("rope_theta", 1, MAX_THETA, theta);
    double part = rope.number("partial_rotary_factor", 1e-3, 1, Double.isNaN(partial) ? 1 : partial);
    if (Double.isNaN(partial) && part != 1) {
      throw rope.refuse("partial_rotary_factor", "is not supported for this model_type, only 1 is");
    }
    RopeConfig read = ofType(config, rope, base).turning(part);
    for (String key : SWITCHES) {
      if (!rope.read().contains(key) && rope.truthy(key)) {
        throw rope.refuse(key, "is not supported for rope_type \"" + read.type + "\"");
      }
    }
    return read;
  }

  private static RopeConfig ofType(Fields config, Fields rope, double base) {
    String type = rope.text("rope_type", rope.text("type", "default"));
    int context = config.integer("max_position_embeddings", 1, Integer.MAX_VALUE, 2048);
    return switch (type) {
      case "default" -> plain(base);
      case "linear" -> new RopeConfig(type, base, rope.number("factor", 1, MAX_FACTOR), 1, 1, 0);
      case "dynamic" -> new RopeConfig(type, base, rope.number("factor", 1, MAX_FACTOR), 1, 1, context);
      case "llama3" -> new RopeConfig(type, base, rope.number("factor", 1, MAX_FACTOR),
          rope.number("low_freq_factor", 1e-6, MAX_FACTOR), rope.number("high_freq_factor", 1e-6, MAX_FACTOR),
          rope.integer("original_max_position_embeddings", 1, Integer.MAX_VALUE));
      case "yarn" -> yarn(rope, base, context);
      case "longrope", "su" -> longRope(config, rope, base, context); // "su": the first files of Phi-3
      default -> throw new OribiException(rope.where() + ": rope_type \"" + type
          + "\" is not supported; default, linear, dynamic, llama3, yarn and longrope are.");
    };
  }

  private static RopeConfig yarn(Fields rope, double base, int context) {
    int original = rope.integer("original_max_position_embeddings", 1, Integer.MAX_VALUE, context);
    double factor = rope.number("factor", 1, MAX_FACTOR, (double) context / original);
    double mscale = rope.number("mscale", 0, MAX_FACTOR, 0);
    double mscaleAll = rope.number("mscale_all_dim", 0, MAX_FACTOR, 0);
    double derived = mscale != 0 && mscaleAll != 0 ? mscale(factor, mscale) / mscale(factor, mscaleAll) : mscale(factor, 1);
    double fast = rope.number("beta_fast", 0, MAX_FACTOR, 32);
    double slow = rope.number("beta_slow", 0, MAX_FACTOR, 1);
    Yarn yarn = new Yarn(fast == 0 ? 32 : fast, slow == 0 ? 1 : slow, rope.flag("truncate", true));
    return new RopeConfig(
        "yarn", base, factor, 1, 1, original, 1, rope.number("attention_factor", 0, MAX_FACTOR, derived), yarn, null);
  }

  private static double mscale(double factor, double mscale) {
    return factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1;
  }

  private static RopeConfig longRope(Fields config, Fields rope, double base, int context) {
    int outside = config.integer("original_max_position_embeddings", 1, Integer.MAX_VALUE, context);
    int original = rope.integer("original_max_position_embeddings", 1, Integer.MAX_VALUE, outside);
    double factor = rope.number("factor", 1e-6, MAX_FACTOR, (double) context / original);
    double derived = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(original));
    double attention = rope.number("attention_factor", 0, MAX_FACTOR, derived);
    LongRope factors = new LongRope(floats(rope, "short_factor"), floats(rope, "long_factor"));
    return new RopeConfig("longrope", base, factor, 1, 1, original, 1, attention, null, factors);
  }

  private static List<Float> floats(Fields rope, String key) {
    List<Float> all = new ArrayList<>();
    for (float x : rope.numbers(key, 1e-6, MAX_FACTOR)) {
      all.add(x);
    }
    if (all.size() > MOST_PAIRS) {
      throw rope.refuse(key, "has too many entries");
    }
    return all;
  }

  private RopeConfig turning(double part) {
    return new RopeConfig(
        type, theta, factor, lowFreqFactor, highFreqFactor, originalMaxPositionEmbeddings, Double.isNaN(part) ? 1 : part, attentionFactor, yarn, longRope);
  }

  /** Sets {@code rope_theta} and {@code rope_scaling} of a file for a model that was made from numbers alone. */
  void writeTo(ObjectNode config) {
    ObjectNode scaling = Json.object().put("rope_type", type);
    if (!type.equals("default")) {
      scaling.put("factor", factor);
    }
    if (type.equals("llama3")) {
      scaling.put("low_freq_factor", lowFreqFactor).put("high_freq_factor", highFreqFactor)
          .put("original_max_position_embeddings", originalMaxPositionEmbeddings);
    }
    if (yarn != null || longRope != null || partial != 1) {
      throw new OribiException("RoPE type " + type + " can be written only where it was read from a config.json");
    }
    config.put("rope_theta", theta);
    config.set("rope_scaling", type.equals("default") ? null : scaling);
  }

  // --------------------------------------------------------------------------------------------------------- angles

  /**
   * Tokens that a scaling of the original context reaches; 0 where that is not known. Files to which YaRN was added by hand keep
   * the context of before as max_position_embeddings.
   */
  int reach() {
    boolean scaled = type.equals("yarn") || type.equals("dynamic");
    return scaled ? (int) Math.min(Integer.MAX_VALUE, originalMaxPositionEmbeddings * factor) : 0;
  }

  /** Channels of a head that turn: an even number. */
  public int rotated(int headDim) {
    int channels = (int) (headDim * partial);
    if (channels % 2 != 0 || channels == 0) {
      throw new OribiException("partial_rotary_factor " + partial + " of heads of " + headDim + " turns " + channels
          + " channels, which must be an even number");
    }
    return channels;
  }

  /** Whether sequences longer than {@link #originalMaxPositionEmbeddings} turn by other angles from their first token on. */
  public boolean dependsOnLength() {
    return type.equals("dynamic") || type.equals("longrope");
  }

  /**
   * Angle by which a position advances, for each pair of a head's channels that turn, in sequences of no more than the original
   * context, if that matters.
   *
   * <p>Computed in fp32, step by step as transformers does, so that the angles agree to the bit or nearly so.
   */
  public float[] invFreq(int headDim) {
    int channels = rotated(headDim);
    if (type.equals("yarn")) {
      return yarnFrequencies(channels);
    }
    float[] inv = frequencies(channels, theta);
    for (int i = 0; i < inv.length; i++) {
      inv[i] = switch (type) {
        case "linear" -> inv[i] / (float) factor;
        case "llama3" -> llama3(inv[i]);
        case "longrope" -> divided(longRope.shortFactor, i, channels);
        default -> inv[i];
      };
    }
    return inv;
  }

  /**
   * The same in longer sequences.
   *
   * @param longest for {@code dynamic}: the length for which the base is made larger; every sequence beyond the original context
   *     gets this one
   */
  public float[] invFreqOfLong(int headDim, int longest) {
    int channels = rotated(headDim);
    if (type.equals("dynamic")) {
      double stretch = factor * Math.max(longest, originalMaxPositionEmbeddings) / originalMaxPositionEmbeddings - (factor - 1);
      return frequencies(channels, theta * Math.pow(stretch, (double) channels / (channels - 2)));
    }
    if (!type.equals("longrope")) {
      return invFreq(headDim);
    }
    float[] inv = new float[channels / 2];
    for (int i = 0; i < inv.length; i++) {
      inv[i] = divided(longRope.longFactor, i, channels);
    }
    return inv;
  }

  private static float[] frequencies(int channels, double base) {
    float[] inv = new float[channels / 2];
    for (int i = 0; i < inv.length; i++) {
      inv[i] = 1f / (float) Math.pow(base, 2f * i / channels);
    }
    return inv;
  }

  private float divided(List<Float> factors, int pair, int channels) {
    if (factors.size() != channels / 2) {
      throw new OribiException("short_factor and long_factor must have " + channels / 2 + " entries, one for each pair of channels,"
          + " found " + factors.size());
    }
    return 1f / (factors.get(pair) * (float) Math.pow(theta, 2f * pair / channels));
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

  /** Peng et al. 2023: channels that turn often keep their frequency, those that turn less than once have it divided. */
  private float[] yarnFrequencies(int channels) {
    double low = channelOf(yarn.betaFast, channels);
    double high = channelOf(yarn.betaSlow, channels);
    double from = Math.max(yarn.truncate ? Math.floor(low) : low, 0);
    double to = Math.min(yarn.truncate ? Math.ceil(high) : high, channels - 1);
    float width = (float) (from == to ? 0.001 : to - from);
    float[] inv = new float[channels / 2];
    for (int i = 0; i < inv.length; i++) {
      float wave = (float) Math.pow(theta, 2f * i / channels);
      float kept = 1 - Math.min(1, Math.max(0, (i - (float) from) / width));
      inv[i] = 1f / ((float) factor * wave) * (1 - kept) + 1f / wave * kept;
    }
    return inv;
  }

  /** The channel that turns so many times within the original context. */
  private double channelOf(double turns, int channels) {
    return channels * Math.log(originalMaxPositionEmbeddings / (turns * 2 * Math.PI)) / (2 * Math.log(theta));
  }
}
