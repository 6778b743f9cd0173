package dev.oribi.gguf;

import dev.oribi.OribiException;
import dev.oribi.io.Json;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * How a family of models is written in GGUF: the name of its architecture, the names of its tensors, and whether the rows of
 * queries and keys change places. One line a family, and one place that knows llama.cpp's names.
 *
 * @param modelType {@code model_type} of config.json
 * @param architecture {@code general.architecture}
 * @param permutes true where llama.cpp rotates neighbouring channels instead of halves: the rows of q and k then lie in another
 *     order ({@link RowOrder})
 */
public record GgufFamily(String modelType, String architecture, boolean permutes) {
  private static final List<GgufFamily> ALL = List.of(new GgufFamily("llama", "llama", true));

  private static final Map<String, String> OF_LAYER = new LinkedHashMap<>();
  private static final Map<String, String> OF_MODEL = new LinkedHashMap<>();

  static {
    OF_LAYER.put("input_layernorm", "attn_norm");
    OF_LAYER.put("self_attn.q_proj", "attn_q");
    OF_LAYER.put("self_attn.k_proj", "attn_k");
    OF_LAYER.put("self_attn.v_proj", "attn_v");
    OF_LAYER.put("self_attn.o_proj", "attn_output");
    OF_LAYER.put("post_attention_layernorm", "ffn_norm");
    OF_LAYER.put("mlp.gate_proj", "ffn_gate");
    OF_LAYER.put("mlp.up_proj", "ffn_up");
    OF_LAYER.put("mlp.down_proj", "ffn_down");
    OF_MODEL.put("model.embed_tokens", "token_embd");
    OF_MODEL.put("model.norm", "output_norm");
    OF_MODEL.put("lm_head", "output");
  }

  private static final Pattern LAYER = Pattern.compile("model\\.layers\\.(\\d{1,4})\\.(.+)");
  private static final Pattern BLOCK = Pattern.compile("blk\\.(\\d{1,4})\\.(.+)");
  private static final String WEIGHT = ".weight";

  /** The family of a {@code model_type}; an {@link OribiException} if GGUF or Oribi does not know it. */
  public static GgufFamily ofModelType(String modelType) {
    return ALL.stream().filter(f -> f.modelType.equals(modelType)).findFirst().orElseThrow(() -> new OribiException(
        "models of type " + modelType + " cannot be written as GGUF yet; supported: "
            + ALL.stream().map(GgufFamily::modelType).toList()));
  }

  /** The family of an architecture in a file. */
  static GgufFamily ofArchitecture(String architecture, String where) {
    return ALL.stream().filter(f -> f.architecture.equals(architecture)).findFirst().orElseThrow(() -> new OribiException(
        where + ": general.architecture " + Json.shorten(architecture) + " is not supported; supported: "
            + ALL.stream().map(GgufFamily::architecture).toList()));
  }

  /** llama.cpp's name of a weight, from Hugging Face's. */
  public String ggufName(String name) {
    Matcher layer = LAYER.matcher(name);
    boolean inLayer = layer.matches();
    String found = inLayer ? find(OF_LAYER, layer.group(2)) : find(OF_MODEL, name);
    if (found == null) {
      throw new OribiException("the tensor " + name + " has no place in a GGUF file of architecture " + architecture);
    }
    return inLayer ? "blk." + layer.group(1) + "." + found : found;
  }

  private static String find(Map<String, String> names, String name) {
    String module = name.endsWith(WEIGHT) ? name.substring(0, name.length() - WEIGHT.length()) : "";
    return names.containsKey(module) ? names.get(module) + WEIGHT : null;
  }

  /** Hugging Face's name of a weight, from llama.cpp's; empty for what a model folder does not hold, such as rope_freqs. */
  Optional<String> modelName(String name) {
    Matcher block = BLOCK.matcher(name);
    boolean inBlock = block.matches();
    Map<String, String> names = inBlock ? OF_LAYER : OF_MODEL;
    String rest = inBlock ? block.group(2) : name;
    return names.entrySet().stream()
        .filter(e -> rest.equals(e.getValue() + WEIGHT))
        .map(e -> (inBlock ? "model.layers." + block.group(1) + "." : "") + e.getKey() + WEIGHT)
        .findFirst();
  }

  /** The order of a tensor's rows, by Hugging Face's name; with adapters, of its B. */
  public RowOrder rowOrder(String name, int heads, int kvHeads, int headDim) {
    boolean q = name.contains(".q_proj.");
    boolean k = name.contains(".k_proj.");
    return permutes && (q || k) ? new RowOrder(q ? heads : kvHeads, headDim) : RowOrder.SAME;
  }
}
