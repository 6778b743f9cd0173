package dev.oribi.model.config;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import dev.oribi.io.Json;
import java.util.List;

/**
 * Which linear layers of a model are held in 4 bits: NF4 with double quantization, as {@code quantization_config} of a
 * {@code config.json} says, or as a run asks for. Embedding, norms and the output head never are.
 *
 * @param skipModules {@code llm_int8_skip_modules}: layers that stay 16-bit, by the beginning or the end of their path
 * @param stored whether the checkpoint holds the codes; false: it holds plain weights, which are quantized as they are loaded
 */
public record QuantizationConfig(List<String> skipModules, boolean stored) {
  public static final String KEY = "quantization_config";

  /** What a run asks for with {@code load_in_4bit}: every linear layer but the head. */
  public static final QuantizationConfig ON_LOAD = new QuantizationConfig(List.of(), false);

  public QuantizationConfig {
    skipModules = List.copyOf(skipModules);
  }

  /**
   * What holds for a run.
   *
   * @param loadIn4bit whether plain weights are to be quantized; a checkpoint in 4 bits stays as it is either way
   * @return null: nothing is quantized
   */
  public static QuantizationConfig of(ModelConfig model, boolean loadIn4bit) {
    QuantizationConfig stored = model.quantization();
    return stored != null ? stored : loadIn4bit ? ON_LOAD : null;
  }

  /** What {@code config.json} says; null if its weights are plain. Kinds that Oribi does not implement are refused by name. */
  static QuantizationConfig read(Fields model) {
    if (!model.truthy(KEY)) {
      return null;
    }
    Fields config = Fields.of(model.node().get(KEY), model.where() + ": " + KEY);
    String method = config.text("quant_method", "bitsandbytes");
    if (!method.equals("bitsandbytes")) {
      throw config.refuse("quant_method", "is not supported; bitsandbytes is");
    }
    if (config.flag("load_in_8bit", false)) {
      throw config.refuse("load_in_8bit", "is not supported; load_in_4bit is");
    }
    if (!config.flag("load_in_4bit", false)) {
      throw new OribiException(config.where() + ": load_in_4bit must be true.");
    }
    if (!config.text("bnb_4bit_quant_type", "fp4").equals("nf4")) {
      throw new OribiException(config.where() + ": bnb_4bit_quant_type must be \"nf4\", found \""
          + config.text("bnb_4bit_quant_type", "fp4") + "\".");
    }
    if (!config.flag("bnb_4bit_use_double_quant", false)) {
      throw new OribiException(config.where() + ": bnb_4bit_use_double_quant must be true; weights in 4 bits without double"
          + " quantization are not supported.");
    }
    return new QuantizationConfig(config.texts("llm_int8_skip_modules"), true);
  }

  /** Whether the weight of the linear layer at this path is in 4 bits. */
  public boolean quantizes(String module) {
    return skipModules.stream().noneMatch(skip -> module.startsWith(skip) || module.endsWith(skip));
  }

  private ObjectNode toJson(String dtype) {
    ObjectNode json = Json.object().put("_load_in_4bit", true).put("_load_in_8bit", false)
        .put("bnb_4bit_compute_dtype", dtype).put("bnb_4bit_quant_storage", "uint8").put("bnb_4bit_quant_type", "nf4")
        .put("bnb_4bit_use_double_quant", true).put("llm_int8_enable_fp32_cpu_offload", false)
        .put("llm_int8_has_fp16_weight", false).put("llm_int8_threshold", 6.0).put("load_in_4bit", true)
        .put("load_in_8bit", false).put("quant_method", "bitsandbytes");
    if (skipModules.isEmpty()) {
      json.putNull("llm_int8_skip_modules");
    } else {
      ArrayNode skips = json.putArray("llm_int8_skip_modules");
      skipModules.forEach(skips::add);
    }
    return json;
  }

  /**
   * Names this quantization in the model's {@code config.json}, unless it is there already.
   *
   * @param dtype {@code bnb_4bit_compute_dtype}
   */
  public ObjectNode putInto(ObjectNode modelJson, String dtype) {
    JsonNode old = modelJson.get(KEY);
    if (old == null || old.isNull()) {
      modelJson.set(KEY, toJson(dtype));
    }
    return modelJson;
  }
}
