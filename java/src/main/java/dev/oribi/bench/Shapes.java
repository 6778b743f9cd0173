package dev.oribi.bench;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import dev.oribi.io.Json;
import dev.oribi.model.config.ModelConfig;
import java.util.LinkedHashMap;
import java.util.Map;

/** Published shapes of models, by name. */
public final class Shapes {
  private static final Map<String, ModelConfig> SHAPES = new LinkedHashMap<>();

  static {
    llama();
    mistral();
    qwen();
    gemma();
    phi();
  }

  private Shapes() {}

  private static void llama() {
    add("smollm2-135m", "llama", 576, 1536, 30, 9, 3, 64, 49152, 8192, 100_000, true, "{}");
    add("smollm2-360m", "llama", 960, 2560, 32, 15, 5, 64, 49152, 8192, 100_000, true, "{}");
    add("tinyllama-1.1b", "llama", 2048, 5632, 22, 32, 4, 64, 32000, 2048, 10_000, false, "{}");
    add("llama-3.2-1b", "llama", 2048, 8192, 16, 32, 8, 64, 128256, 131072, 500_000, true, "{}");
    add("smollm3-3b", "smollm3", 2048, 11008, 36, 16, 4, 128, 128256, 65536, 5_000_000, true, "{}");
    add("smollm2-1.7b", "llama", 2048, 8192, 24, 32, 32, 64, 49152, 8192, 130_000, true, "{}");
    add("llama-3.2-3b", "llama", 3072, 8192, 28, 24, 8, 128, 128256, 131072, 500_000, true, "{}");
    add("llama-2-7b", "llama", 4096, 11008, 32, 32, 32, 128, 32000, 4096, 10_000, false, "{}");
    add("llama-3.1-8b", "llama", 4096, 14336, 32, 32, 8, 128, 128256, 131072, 500_000, false, "{}");
    add("llama-2-13b", "llama", 5120, 13824, 40, 40, 40, 128, 32000, 4096, 10_000, false, "{}");
    add("llama-3.1-70b", "llama", 8192, 28672, 80, 64, 8, 128, 128256, 131072, 500_000, false, "{}");
  }

  private static void mistral() {
    add("mistral-7b-v0.1", "mistral", 4096, 14336, 32, 32, 8, 128, 32000, 32768, 10_000, false, "{\"sliding_window\": 4096}");
    add("mistral-7b-v0.3", "mistral", 4096, 14336, 32, 32, 8, 128, 32768, 32768, 1_000_000, false, "{\"sliding_window\": null}");
    add("mistral-nemo-12b", "mistral", 5120, 14336, 40, 32, 8, 128, 131072, 131072, 1_000_000, false, "{\"sliding_window\": null}");
    add("mistral-small-24b", "mistral", 5120, 32768, 40, 32, 8, 128, 131072, 32768, 100_000_000, false, "{\"sliding_window\": null}");
  }

  private static void qwen() {
    add("qwen2.5-0.5b", "qwen2", 896, 4864, 24, 14, 2, 64, 151936, 32768, 1_000_000, true, "{}");
    add("qwen2.5-1.5b", "qwen2", 1536, 8960, 28, 12, 2, 128, 151936, 32768, 1_000_000, true, "{}");
    add("qwen2.5-7b", "qwen2", 3584, 18944, 28, 28, 4, 128, 152064, 131072, 1_000_000, false, "{}");
    add("qwen2.5-14b", "qwen2", 5120, 13824, 48, 40, 8, 128, 152064, 131072, 1_000_000, false, "{}");
    add("qwen2.5-32b", "qwen2", 5120, 27648, 64, 40, 8, 128, 152064, 131072, 1_000_000, false, "{}");
    add("qwen3-0.6b", "qwen3", 1024, 3072, 28, 16, 8, 128, 151936, 40960, 1_000_000, true, "{}");
    add("qwen3-1.7b", "qwen3", 2048, 6144, 28, 16, 8, 128, 151936, 40960, 1_000_000, true, "{}");
    add("qwen3-4b", "qwen3", 2560, 9728, 36, 32, 8, 128, 151936, 40960, 1_000_000, true, "{}");
    add("qwen3-8b", "qwen3", 4096, 12288, 36, 32, 8, 128, 151936, 40960, 1_000_000, false, "{}");
    add("qwen3-14b", "qwen3", 5120, 17408, 40, 40, 8, 128, 151936, 40960, 1_000_000, false, "{}");
    add("qwen3-32b", "qwen3", 5120, 25600, 64, 64, 8, 128, 151936, 40960, 1_000_000, false, "{}");
  }

  private static void gemma() {
    add("gemma-2b", "gemma", 2048, 16384, 18, 8, 1, 256, 256000, 8192, 10_000, true, "{}");
    add("gemma-7b", "gemma", 3072, 24576, 28, 16, 16, 256, 256000, 8192, 10_000, true, "{}");
    add("gemma-2-2b", "gemma2", 2304, 9216, 26, 8, 4, 256, 256000, 8192, 10_000, true, "{\"query_pre_attn_scalar\": 256}");
    add("gemma-2-9b", "gemma2", 3584, 14336, 42, 16, 8, 256, 256000, 8192, 10_000, true, "{\"query_pre_attn_scalar\": 256}");
    add("gemma-2-27b", "gemma2", 4608, 36864, 46, 32, 16, 128, 256000, 8192, 10_000, true, "{\"query_pre_attn_scalar\": 144}");
    add("gemma-3-270m", "gemma3_text", 640, 2048, 18, 4, 1, 256, 262144, 32768, 1_000_000, true, "{\"sliding_window\": 512}");
    add("gemma-3-1b", "gemma3_text", 1152, 6912, 26, 4, 1, 256, 262144, 32768, 1_000_000, true, "{\"sliding_window\": 512}");
  }

  private static void phi() {
    add("phi-3-mini-4k", "phi3", 3072, 8192, 32, 32, 32, 96, 32064, 4096, 10_000, false, "{\"sliding_window\": 2047}");
    add("phi-4-mini", "phi3", 3072, 8192, 32, 24, 8, 128, 200064, 131072, 10_000, true, "{\"partial_rotary_factor\": 0.75}");
    add("phi-4", "phi3", 5120, 17920, 40, 40, 10, 128, 100352, 16384, 250_000, false, "{}");
  }

  /** {@code more}: what else {@code config.json} says that matters for speed and memory. */
  private static void add(
      String name, String type, int c, int f, int layers, int heads, int kvHeads, int d, int v, int positions, double theta,
      boolean tied, String more) {
    ObjectNode json = Json.object();
    json.setAll((ObjectNode) Json.parse(more, name));
    json.put("model_type", type).put("hidden_size", c).put("intermediate_size", f).put("num_hidden_layers", layers)
        .put("num_attention_heads", heads).put("num_key_value_heads", kvHeads).put("head_dim", d).put("vocab_size", v)
        .put("max_position_embeddings", positions).put("rms_norm_eps", 1e-5).put("rope_theta", theta)
        .put("tie_word_embeddings", tied).put("torch_dtype", "bfloat16");
    SHAPES.put(name, ModelConfig.parse(json, name));
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
