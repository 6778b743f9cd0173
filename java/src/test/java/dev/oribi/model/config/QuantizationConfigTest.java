package dev.oribi.model.config;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.io.Json;
import java.util.List;
import org.junit.jupiter.api.Test;

class QuantizationConfigTest {
  private static ModelConfig model(String quantization) {
    ObjectNode json = (ObjectNode) Json.parse(ModelConfigTest.SMALL, "config");
    json.set("quantization_config", Json.parse(quantization, "quantization_config"));
    return ModelConfig.parse(json, "config");
  }

  @Test
  void theFilesOfPublishedModelsAreRead() {
    ModelConfig all = model("""
        {"_load_in_4bit": true, "_load_in_8bit": false, "bnb_4bit_compute_dtype": "bfloat16", "bnb_4bit_quant_storage": "uint8",
         "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": true, "llm_int8_enable_fp32_cpu_offload": false,
         "llm_int8_has_fp16_weight": false, "llm_int8_skip_modules": null, "llm_int8_threshold": 6.0, "load_in_4bit": true,
         "load_in_8bit": false, "quant_method": "bitsandbytes"}""");
    assertThat(all.quantization()).isEqualTo(new QuantizationConfig(List.of(), true));
    QuantizationConfig some = model("""
        {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": true, "load_in_4bit": true,
         "llm_int8_skip_modules": ["lm_head", "model.layers.1.mlp", "layers.2.self_attn.o_proj"]}""").quantization();
    assertThat(some.quantizes("model.layers.0.mlp.up_proj")).isTrue();
    assertThat(some.quantizes("model.layers.1.mlp.up_proj")).isFalse();
    assertThat(some.quantizes("model.layers.1.self_attn.o_proj")).isTrue();
    assertThat(some.quantizes("model.layers.2.self_attn.o_proj")).isFalse();
  }

  @Test
  void aCheckpointInFourBitsStaysAsItIs() {
    ModelConfig plain = ModelConfig.parse(Json.parse(ModelConfigTest.SMALL, "config"), "config");
    assertThat(QuantizationConfig.of(plain, false)).isNull();
    assertThat(QuantizationConfig.of(plain, true)).isEqualTo(QuantizationConfig.ON_LOAD);
    ModelConfig stored = model("{\"load_in_4bit\":true,\"bnb_4bit_quant_type\":\"nf4\",\"bnb_4bit_use_double_quant\":true}");
    for (boolean asked : new boolean[] {false, true}) {
      assertThat(QuantizationConfig.of(stored, asked)).isEqualTo(stored.quantization());
    }
  }

  @Test
  void whatIsWrittenIsRead() {
    QuantizationConfig some = new QuantizationConfig(List.of("lm_head", "down_proj"), false);
    ObjectNode json = some.putInto((ObjectNode) Json.parse(ModelConfigTest.SMALL, "config"), "bfloat16");
    assertThat(ModelConfig.parse(json, "config").quantization()).isEqualTo(new QuantizationConfig(some.skipModules(), true));
    ObjectNode again = QuantizationConfig.ON_LOAD.putInto(json.deepCopy(), "float16");
    assertThat(again).as("what is there already stays").isEqualTo(json);
  }
}
