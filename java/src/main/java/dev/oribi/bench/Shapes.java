package dev.oribi.bench;

import dev.oribi.OribiException;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.config.RopeConfig;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;

/** Published shapes of models of the Llama architecture, by name. */
public final class Shapes {
  private static final Map<String, ModelConfig> SHAPES = new LinkedHashMap<>();

  static {
    add("smollm2-135m", 576, 1536, 30, 9, 3, 64, 49152, 8192, 100_000, true);
    add("smollm2-360m", 960, 2560, 32, 15, 5, 64, 49152, 8192, 100_000, true);
    add("tinyllama-1.1b", 2048, 5632, 22, 32, 4, 64, 32000, 2048, 10_000, false);
    add("llama-3.2-1b", 2048, 8192, 16, 32, 8, 64, 128256, 131072, 500_000, true);
    add("smollm2-1.7b", 2048, 8192, 24, 32, 32, 64, 49152, 8192, 130_000, true);
    add("llama-3.2-3b", 3072, 8192, 28, 24, 8, 128, 128256, 131072, 500_000, true);
    add("llama-2-7b", 4096, 11008, 32, 32, 32, 128, 32000, 4096, 10_000, false);
    add("mistral-7b-v0.3", 4096, 14336, 32, 32, 8, 128, 32768, 32768, 1_000_000, false);
    add("llama-3.1-8b", 4096, 14336, 32, 32, 8, 128, 128256, 131072, 500_000, false);
    add("llama-2-13b", 5120, 13824, 40, 40, 40, 128, 32000, 4096, 10_000, false);
    add("llama-3.1-70b", 8192, 28672, 80, 64, 8, 128, 128256, 131072, 500_000, false);
  }

  private Shapes() {}

  private static void add(
      String name, int c, int f, int layers, int heads, int kvHeads, int d, int v, int positions, double theta, boolean tied) {
    SHAPES.put(
        name,
        new ModelConfig(
            "llama", c, f, layers, heads, kvHeads, d, v, positions, 1e-5, "silu", RopeConfig.plain(theta), tied, "bfloat16",
            OptionalInt.empty(), List.of(), OptionalInt.empty(), null));
  }

  public static Iterable<String> names() {
    return SHAPES.keySet();
  }

  /** The numbers of a shape. */
  public static ModelConfig of(String name) {
    ModelConfig config = SHAPES.get(name);
    if (config == null) {
      throw new OribiException("there is no shape " + name + ": choose from " + String.join(", ", SHAPES.keySet()));
    }
    return config;
  }
}
