package dev.oribi.gguf.family;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.gguf.GgufKeys;
import dev.oribi.model.family.Architecture;
import dev.oribi.model.family.Architecture.SelfAttentionSpec;
import java.util.List;

/**
 * Windows of attention in a part of the layers. llama.cpp knows them by a period: of {@code period} layers after each other all
 * but the last have the window, 0 stands for all layers, and each architecture has a period of its own where the file names none.
 *
 * <pre>
 * attention.sliding_window          keys that a query sees
 * attention.sliding_window_pattern  the period, where it is not the usual one
 * </pre>
 */
final class GgufWindows {
  private static final String SIZE = "attention.sliding_window";
  private static final String PERIOD = "attention.sliding_window_pattern";

  private GgufWindows() {}

  /** Writes the size, if any layer has one, and the period. What no period says is found when the keys are read back. */
  static void put(Architecture a, int usualPeriod, GgufKeys keys) {
    List<Integer> windows = a.layers().stream().map(l -> ((SelfAttentionSpec) l.attention()).window()).toList();
    int size = windows.stream().mapToInt(Integer::intValue).max().orElse(0);
    if (size > 0) {
      keys.put(SIZE, size);
    }
    int period = usualPeriod;
    for (int p = 0; !says(period, windows) && p <= windows.size() + 1; p++) {
      period = says(p, windows) ? p : period;
    }
    if (period != usualPeriod) {
      keys.put(PERIOD, period);
    }
  }

  private static boolean says(int period, List<Integer> windows) {
    for (int i = 0; i < windows.size(); i++) {
      if (has(period, i) != windows.get(i) > 0) {
        return false;
      }
    }
    return true;
  }

  private static boolean has(int period, int layer) {
    return period == 0 || layer % period < period - 1;
  }

  /** Sets {@code sliding_window} and {@code layer_types}. {@code usualSize} 0: without a size there are no windows. */
  static void read(GgufKeys keys, int usualPeriod, int usualSize, ObjectNode config) {
    int size = keys.integer(SIZE, 0, usualSize);
    int period = keys.integer(PERIOD, 0, usualPeriod);
    if (size > 0) {
      config.put("sliding_window", size);
    }
    ArrayNode types = config.putArray("layer_types");
    for (int i = 0; i < config.get("num_hidden_layers").asInt(); i++) {
      types.add(size > 0 && has(period, i) ? "sliding_attention" : "full_attention");
    }
  }
}
