package dev.oribi.gguf.family;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import dev.oribi.gguf.GgufKeys;
import dev.oribi.io.Json;
import dev.oribi.model.config.RopeConfig;

/**
 * Llama 3.1's scaling of rotary frequencies, which GGUF holds as a tensor of divisors, one for each pair of channels, where
 * config.json names the four numbers that they come from.
 */
final class Llama3Factors {
  /** The numbers of the published models; the factor is 8 for Llama 3.1 and 32 for 3.2. */
  private static final double LOW = 1;

  private static final double HIGH = 4;
  private static final int ORIGINAL = 8192;
  private static final float TOLERANCE = 1e-4f;

  private Llama3Factors() {}

  /** The divisor of each frequency. */
  static float[] of(int headDim, RopeConfig r) {
    return of(headDim, r.theta(), r.factor(), r.lowFreqFactor(), r.highFreqFactor(), r.originalMaxPositionEmbeddings());
  }

  private static float[] of(int headDim, double theta, double factor, double low, double high, int original) {
    float[] divisors = new float[headDim / 2];
    for (int i = 0; i < divisors.length; i++) {
      double wave = 2 * Math.PI * Math.pow(theta, 2.0 * i / headDim);
      double smooth = (original / wave - low) / (high - low);
      divisors[i] = (float) (wave < original / high ? 1 : wave > original / low ? factor : 1 / ((1 - smooth) / factor + smooth));
    }
    return divisors;
  }

  /** The rope_scaling of config.json that gives a file's divisors; an {@link OribiException} if none does. */
  static ObjectNode guess(GgufKeys keys, float[] found, int headDim, double theta) {
    if (found.length != headDim / 2) {
      throw keys.refuse("tensor rope_freqs.weight must have " + headDim / 2 + " elements, found " + found.length);
    }
    double factor = found[headDim / 2 - 1];
    float[] expected = of(headDim, theta, factor, LOW, HIGH, ORIGINAL);
    for (int i = 0; i < expected.length; i++) {
      if (!(Math.abs(found[i] - expected[i]) <= TOLERANCE * expected[i])) {
        throw keys.refuse("rope_freqs.weight is not the scaling of Llama 3.1 and 3.2, which is what is supported");
      }
    }
    return Json.object().put("rope_type", "llama3").put("factor", factor).put("low_freq_factor", LOW)
        .put("high_freq_factor", HIGH).put("original_max_position_embeddings", ORIGINAL);
  }
}
