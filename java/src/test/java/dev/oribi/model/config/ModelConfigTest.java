package dev.oribi.model.config;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import dev.oribi.io.Json;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.OptionalInt;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class ModelConfigTest {
  /** The numbers of Llama 3.2 1B in the spelling of transformers 4. */
  static final String LLAMA_3_2_1B = """
      {"architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 128000,
       "eos_token_id": [128001, 128008, 128009], "head_dim": 64, "hidden_act": "silu", "hidden_size": 2048,
       "initializer_range": 0.02, "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": false,
       "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8, "pretraining_tp": 1,
       "rms_norm_eps": 1e-05, "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
       "original_max_position_embeddings": 8192, "rope_type": "llama3"}, "rope_theta": 500000.0, "tie_word_embeddings": true,
       "torch_dtype": "bfloat16", "transformers_version": "4.45.0.dev0", "use_cache": true, "vocab_size": 128256}""";

  static final String SMALL = """
      {"model_type": "llama", "hidden_size": 64, "intermediate_size": 172, "num_hidden_layers": 2, "num_attention_heads": 8,
       "num_key_value_heads": 4, "vocab_size": 512}""";

  @TempDir Path folder;

  private static ModelConfig parse(String json) {
    return ModelConfig.parse(Json.parse(json, "config.json"), "config.json");
  }

  private static ModelConfig small(String more) {
    ObjectNode json = (ObjectNode) Json.parse(SMALL, "config.json");
    json.setAll((ObjectNode) Json.parse(more, "more"));
    return ModelConfig.parse(json, "config.json");
  }

  @Test
  void readsTheOlderSpelling() throws IOException {
    Files.writeString(folder.resolve("config.json"), LLAMA_3_2_1B);
    ModelConfig c = ModelConfig.read(folder);
    assertThat(c.hiddenSize()).isEqualTo(2048);
    assertThat(c.intermediateSize()).isEqualTo(8192);
    assertThat(c.numHiddenLayers()).isEqualTo(16);
    assertThat(c.numAttentionHeads()).isEqualTo(32);
    assertThat(c.numKeyValueHeads()).isEqualTo(8);
    assertThat(c.headDim()).isEqualTo(64);
    assertThat(c.vocabSize()).isEqualTo(128256);
    assertThat(c.maxPositionEmbeddings()).isEqualTo(131072);
    assertThat(c.rmsNormEps()).isEqualTo(1e-5);
    assertThat(c.rope()).isEqualTo(new RopeConfig("llama3", 500_000, 32, 1, 4, 8192));
    assertThat(c.tieWordEmbeddings()).isTrue();
    assertThat(c.dtype()).isEqualTo("bfloat16");
    assertThat(c.bosTokenId()).hasValue(128000);
    assertThat(c.eosTokenIds()).containsExactly(128001, 128008, 128009);
    assertThat(c.padTokenId()).isEmpty();
  }

  @Test
  void readsTheNewerSpelling() {
    ModelConfig c = small("{\"dtype\": \"float16\", \"rope_parameters\": {\"rope_theta\": 20000.0, \"rope_type\": \"linear\", \"factor\": 2.0}}");
    assertThat(c.dtype()).isEqualTo("float16");
    assertThat(c.rope()).isEqualTo(new RopeConfig("linear", 20_000, 2, 1, 1, 0));
  }

  @Test
  void defaultsAreThoseOfTransformers() {
    ModelConfig c = small("{\"eos_token_id\": 2, \"pad_token_id\": -1, \"num_key_value_heads\": null, \"hidden_act\": \"swish\"}");
    assertThat(c.headDim()).isEqualTo(8);
    assertThat(c.numKeyValueHeads()).isEqualTo(8);
    assertThat(c.rmsNormEps()).isEqualTo(1e-6);
    assertThat(c.hiddenAct()).isEqualTo("silu");
    assertThat(c.rope()).isEqualTo(RopeConfig.plain(10_000));
    assertThat(c.tieWordEmbeddings()).isFalse();
    assertThat(c.eosTokenIds()).containsExactly(2);
    assertThat(c.padTokenId()).isEmpty();
    assertThat(c.dtype()).isNull();
  }

  @ParameterizedTest
  @CsvSource(delimiter = ';', quoteCharacter = '`', value = {
      "{\"model_type\":\"mamba\"}; model_type = the string \"mamba\" is not supported; supported: llama, mistral",
      "{\"model_type\":null}; model_type is missing",
      "{\"architectures\":[\"LlamaForSequenceClassification\"]}; LlamaForSequenceClassification",
      "{\"attention_bias\":1}; attention_bias must be true or false",
      "{\"attn_logit_softcapping\":50}; attn_logit_softcapping = 50 is not supported for model_type llama",
      "{\"use_qk_norm\":true}; use_qk_norm",
      "{\"num_local_experts\":8}; num_local_experts",
      "{\"quantization_config\":{\"quant_method\":\"gptq\"}}; quantization_config: quant_method = the string \"gptq\" is not supported; bitsandbytes is",
      "{\"quantization_config\":7}; quantization_config: expected an object",
      "{\"quantization_config\":{\"quant_method\":\"bitsandbytes\",\"load_in_8bit\":true}}; load_in_8bit = true is not supported",
      "{\"quantization_config\":{\"quant_method\":\"bitsandbytes\"}}; load_in_4bit must be true",
      "{\"quantization_config\":{\"load_in_4bit\":true}}; bnb_4bit_quant_type must be \"nf4\", found \"fp4\"",
      "{\"quantization_config\":{\"load_in_4bit\":true,\"bnb_4bit_quant_type\":\"nf4\"}}; bnb_4bit_use_double_quant must be true",
      "{\"sliding_window\":4096}; sliding_window",
      "{\"attention_dropout\":0.1}; attention_dropout",
      "{\"pretraining_tp\":2}; pretraining_tp",
      "{\"partial_rotary_factor\":0.5}; partial_rotary_factor",
      "{\"layer_types\":[\"full_attention\",\"sliding_attention\"]}; sliding_attention",
      "{\"hidden_act\":\"relu2\"}; the activation function \"relu2\" is not supported",
      "{\"torch_dtype\":\"float8_e4m3fn\"}; torch_dtype",
      "{\"rope_scaling\":{\"type\":\"ntk\",\"factor\":2}}; rope_type \"ntk\" is not supported; default, linear, dynamic",
      "{\"rope_scaling\":{\"type\":\"linear\"}}; factor is missing",
      "{\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8}}; low_freq_factor is missing",
      "{\"rope_scaling\":7}; rope_scaling: expected an object",
      "{\"rope_parameters\":{\"full_attention\":{\"rope_theta\":1e4}}}; each kind of layer",
      "{\"rope_theta\":5e5,\"rope_parameters\":{\"rope_theta\":1e4,\"rope_type\":\"default\"}}; disagree",
      "{\"hidden_size\":0}; hidden_size must be a whole number from 1",
      "{\"hidden_size\":-64}; hidden_size",
      "{\"hidden_size\":64.5}; hidden_size",
      "{\"hidden_size\":\"64\"}; hidden_size",
      "{\"hidden_size\":99999999999999}; hidden_size",
      "{\"hidden_size\":65}; must be a multiple of num_attention_heads",
      "{\"num_key_value_heads\":3}; must be a multiple of num_key_value_heads",
      "{\"head_dim\":7}; head_dim must be even",
      "{\"vocab_size\":null}; vocab_size is missing",
      "{\"rms_norm_eps\":0}; rms_norm_eps",
      "{\"tie_word_embeddings\":\"yes\"}; tie_word_embeddings must be true or false",
      "{\"eos_token_id\":[1,\"a\"]}; eos_token_id must hold token ids",
      "{\"num_hidden_layers\":1000000}; num_hidden_layers",
  })
  void refusesByName(String more, String reason) {
    assertThatThrownBy(() -> small(more)).isInstanceOf(OribiException.class).hasMessageStartingWith("config.json").hasMessageContaining(reason)
        .satisfies(e -> assertThat(e.getMessage().lines()).hasSize(1));
  }

  @Test
  void aFolderWithoutTheFileSaysSo() {
    assertThatThrownBy(() -> ModelConfig.read(folder)).isInstanceOf(OribiException.class).hasMessageContaining("has no config.json");
  }

  @Test
  void writingKeepsEverythingAndReadsBackEqual() {
    for (ModelConfig c : List.of(parse(LLAMA_3_2_1B), small("{}"), small("{\"dtype\":\"bfloat16\",\"eos_token_id\":7,"
        + "\"rope_parameters\":{\"rope_theta\":20000.0,\"rope_type\":\"linear\",\"factor\":2.0}}"))) {
      ModelConfig again = ModelConfig.parse(Json.parse(Json.pretty(c.toJson()), "again"), "again");
      assertThat(again).usingRecursiveComparison().ignoringFields("raw").isEqualTo(c);
    }
    assertThat(parse(LLAMA_3_2_1B).toJson().get("transformers_version").textValue()).isEqualTo("4.45.0.dev0");
    assertThat(parse(LLAMA_3_2_1B).toJson().get("eos_token_id").size()).isEqualTo(3);
    ModelConfig made = new ModelConfig("llama", 64, 172, 2, 8, 4, 8, 512, 128, 1e-5, "silu", RopeConfig.plain(1e4), true, "float32",
        OptionalInt.of(1), List.of(2), OptionalInt.empty(), null);
    assertThat(ModelConfig.parse(made.toJson(), "made")).usingRecursiveComparison().ignoringFields("raw").isEqualTo(made);
    assertThat(made.toJson().get("architectures").get(0).textValue()).isEqualTo("LlamaForCausalLM");
  }
}
