package dev.oribi.gguf.family;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import dev.oribi.gguf.GgufKeys;
import dev.oribi.gguf.GgufValue;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.config.RopeConfig;
import java.util.List;
import java.util.Set;

/**
 * Rotary positions in GGUF: a base, and one of the scalings that llama.cpp computes. Llama 3.1's and longrope's are tables of
 * divisors, one for each pair of channels, where config.json has the numbers that they come from.
 *
 * <pre>
 * linear    rope.scaling.type, .factor
 * yarn      the same, .original_context_length, .attn_factor
 * llama3    tensor rope_freqs.weight
 * longrope  tensors rope_factors_long.weight and rope_factors_short.weight, .original_context_length, .attn_factor
 * dynamic   nothing: the file's context ends where its scaling would begin
 * </pre>
 *
 * <p>llama.cpp multiplies cosines and sines under YaRN by 0.1·ln(factor) + 1 and then by {@code attn_factor}; config.json's
 * {@code attention_factor} is the whole product. There are keys for the turns at which YaRN's ramp begins and ends, and llama.cpp
 * leaves them unread in these architectures: it takes 32 and 1. So none is written, and of a file that has them the model is what they say.
 */
final class GgufRope {
  /** The scalings that it computes for all architectures. */
  static final Set<String> USUAL = Set.of("default", "linear", "yarn");

  private static final String FREQUENCIES = "rope_freqs.weight";
  private static final String LONG = "rope_factors_long.weight";
  private static final String SHORT = "rope_factors_short.weight";
  private static final String SCALING = "rope.scaling.";
  private static final String BASE = "rope.freq_base";
  private static final String ORIGINAL_CONTEXT = SCALING + "original_context_length";

  private GgufRope() {}

  static void put(ModelConfig config, Set<String> types, String modelType, GgufKeys keys) {
    RopeConfig r = config.rope();
    keys.put("rope.dimension_count", r.rotated(config.headDim())).putNumber(BASE, r.theta());
    if (!types.contains(r.type()) && !r.type().equals("dynamic")) {
      throw new OribiException("llama.cpp does not compute rope_type " + r.type() + " for models of type " + modelType);
    }
    switch (r.type()) {
      case "linear" -> scaling(r, "linear", keys);
      case "yarn" -> {
        scaling(r, "yarn", keys);
        keys.put(ORIGINAL_CONTEXT, r.originalMaxPositionEmbeddings());
        putAttention(r.attentionFactor() / yarnAttention(r.factor()), keys);
      }
      case "llama3" -> keys.putTable(FREQUENCIES, Llama3Factors.of(config.headDim(), r));
      case "longrope" -> {
        keys.putTable(LONG, floats(r.longRope().longFactor())).putTable(SHORT, floats(r.longRope().shortFactor()));
        keys.put(SCALING + "type", GgufValue.string("longrope")).put(ORIGINAL_CONTEXT, r.originalMaxPositionEmbeddings());
        putAttention(r.attentionFactor(), keys);
      }
      default -> { }
    }
  }

  private static void scaling(RopeConfig r, String type, GgufKeys keys) {
    keys.put(SCALING + "type", GgufValue.string(type)).putNumber(SCALING + "factor", r.factor());
  }

  private static void putAttention(double factor, GgufKeys keys) {
    if ((float) factor != 1) {
      keys.putNumber(SCALING + "attn_factor", factor);
    }
  }

  private static double yarnAttention(double factor) {
    return 1 + 0.1 * Math.log(factor);
  }

  private static float[] floats(List<Float> values) {
    float[] all = new float[values.size()];
    for (int i = 0; i < all.length; i++) {
      all[i] = values.get(i);
    }
    return all;
  }

  /** Sets rope_theta, rope_scaling and, where a part of each head turns, partial_rotary_factor. */
  static void read(GgufKeys keys, int headDim, ObjectNode json) {
    double theta = keys.number(BASE, 10_000);
    json.put("rope_theta", theta);
    int turning = keys.integer("rope.dimension_count", 1, headDim);
    if (turning < headDim) {
      json.put("partial_rotary_factor", (double) turning / headDim);
    }
    float[] frequencies = keys.table(FREQUENCIES);
    if (frequencies != null) {
      json.set("rope_scaling", Llama3Factors.guess(keys, frequencies, turning, theta));
      return;
    }
    boolean tables = keys.table(LONG) != null; // in many files of Phi-3 they are all that tells
    String type = tables ? "longrope" : keys.text(SCALING + "type", "none");
    double factor = keys.number(SCALING + "factor", 1);
    double attention = keys.number(SCALING + "attn_factor", 1);
    switch (type) {
      case "none" -> json.putNull("rope_scaling");
      case "linear" -> json.putObject("rope_scaling").put("rope_type", "linear").put("factor", factor);
      case "yarn" -> json.putObject("rope_scaling").put("rope_type", "yarn").put("factor", factor)
          .put("original_max_position_embeddings", keys.integer(ORIGINAL_CONTEXT, 1, context(json)))
          .put("beta_fast", keys.number(SCALING + "yarn_beta_fast", 32)).put("beta_slow", keys.number(SCALING + "yarn_beta_slow", 1))
          .put("attention_factor", attention * yarnAttention(factor));
      case "longrope" -> {
        ObjectNode scaling = json.putObject("rope_scaling").put("rope_type", "longrope").put("attention_factor", attention)
            .put("original_max_position_embeddings", keys.integer(ORIGINAL_CONTEXT, 1, context(json)));
        fill(scaling.putArray("long_factor"), keys, LONG);
        fill(scaling.putArray("short_factor"), keys, SHORT);
      }
      default -> throw keys.refuse(SCALING + "type", "is not supported; none, linear, yarn and longrope are.");
    }
  }

  private static int context(ObjectNode json) {
    return json.get("max_position_embeddings").asInt();
  }

  private static void fill(ArrayNode into, GgufKeys keys, String table) {
    float[] values = keys.table(table);
    if (values == null) {
      throw keys.refuse("has no tensor " + table + ", which longrope needs.");
    }
    for (float value : values) {
      into.add(value);
    }
  }
}
