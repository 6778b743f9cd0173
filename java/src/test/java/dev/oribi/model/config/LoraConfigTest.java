package dev.oribi.model.config;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import dev.oribi.io.Json;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class LoraConfigTest {
  private static final String Q = "model.layers.0.self_attn.q_proj";

  @TempDir Path folder;

  private static LoraConfig parse(String json) {
    return LoraConfig.parse(Json.parse(json, "adapter"), "adapter");
  }

  private static LoraConfig with(String more) {
    ObjectNode json = Json.object().put("peft_type", "LORA");
    json.setAll((ObjectNode) Json.parse(more, "more"));
    return LoraConfig.parse(json, "adapter");
  }

  /** Cases by PEFT's rules: a list matches the whole path or its end after a dot, a string is a regular expression for the whole path. */
  @ParameterizedTest
  @CsvSource(delimiter = ';', quoteCharacter = '`', value = {
      "[\"foo\"]; foo; true",
      "[\"bar\"]; foo; false",
      "[\"foo\",\"bar\"]; foo; true",
      "[\"foo\"]; a.foo; true",
      "[\"foo\"]; afoo; false",
      "[\"foo\"]; a.foo.b; false",
      "[\"b.foo\"]; a.b.foo; true",
      "[\"b.foo\"]; ab.foo; false",
      "[\".*foo\"]; a.foo; false",
      "\"foo\"; foo; true",
      "\"foo\"; a.foo; false",
      "\".*oo\"; foo; true",
      "\"fo.*\"; foo; true",
      "\".*bar.*\"; foo; false",
      "\".*oba.*\"; foobar; true",
      "\"oba\"; foobar; false",
      "\".*\\\\.(q|v)_proj\"; model.layers.11.self_attn.v_proj; true",
      "\"model\\\\.layers\\\\.[01]\\\\..*_proj\"; model.layers.2.self_attn.v_proj; false",
      "\"all-linear\"; model.layers.0.mlp.down_proj; true",
      "\"ALL-LINEAR\"; model.layers.0.mlp.down_proj; true",
      "\"all-linear\"; lm_head; false",
      "[\"lm_head\"]; lm_head; true",
      "null; model.layers.0.self_attn.q_proj; true",
      "null; model.layers.0.self_attn.v_proj; true",
      "null; model.layers.0.self_attn.k_proj; false",
  })
  void targets(String modules, String path, boolean expected) {
    assertThat(with("{\"target_modules\":" + modules + "}").targets(path)).isEqualTo(expected);
  }

  @Test
  void exclusionsWinAndFollowTheSameRules() {
    LoraConfig list = with("{\"target_modules\":\"all-linear\",\"exclude_modules\":[\"layers.0.self_attn.q_proj\"]}");
    assertThat(list.targets(Q)).isFalse();
    assertThat(list.targets("model.layers.1.self_attn.q_proj")).isTrue();
    LoraConfig regex = with("{\"target_modules\":[\"q_proj\"],\"exclude_modules\":\".*layers\\\\.0\\\\..*\"}");
    assertThat(regex.targets(Q)).isFalse();
    assertThat(regex.targets("model.layers.1.self_attn.q_proj")).isTrue();
  }

  @Test
  void scaleAndRankFollowThePatterns() {
    LoraConfig plain = with("{\"r\":16,\"lora_alpha\":32}");
    assertThat(plain.scale(Q)).isEqualTo(2);
    assertThat(with("{\"r\":16,\"lora_alpha\":32,\"use_rslora\":true}").scale(Q)).isEqualTo(8);
    assertThat(with("{}").rank(Q)).isEqualTo(8);
    assertThat(with("{}").scale(Q)).isEqualTo(1);
    LoraConfig pattern = with("{\"r\":16,\"lora_alpha\":32,\"rank_pattern\":{\"layers.0.self_attn.q_proj\":4,\"q_proj\":2},"
        + "\"alpha_pattern\":{\".*layers\\\\.[01]\\\\..*\":8}}");
    assertThat(pattern.rank(Q)).isEqualTo(4);
    assertThat(pattern.rank("model.layers.1.self_attn.q_proj")).isEqualTo(2);
    assertThat(pattern.rank("model.layers.1.self_attn.xq_proj")).isEqualTo(16);
    assertThat(pattern.scale(Q)).isEqualTo(2);
    assertThat(pattern.scale("model.layers.2.self_attn.k_proj")).isEqualTo(2);
    assertThat(pattern.scale("model.layers.1.self_attn.k_proj")).isEqualTo(0.5);
  }

  @Test
  void namesAreThoseOfPeft() {
    assertThat(LoraConfig.tensorName(Q, "lora_A")).isEqualTo("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight");
    assertThat(LoraConfig.savedName("lm_head")).isEqualTo("base_model.model.lm_head.weight");
    LoraConfig saving = with("{\"modules_to_save\":[\"lm_head\",\"embed_tokens\"]}");
    assertThat(saving.saves("lm_head")).isTrue();
    assertThat(saving.saves("model.embed_tokens")).isTrue();
    assertThat(saving.saves(Q)).isFalse();
  }

  /** A file as PEFT 0.17 writes it. */
  @Test
  void readsWhatPeftWrites() {
    LoraConfig c = parse("""
        {"alpha_pattern": {}, "auto_mapping": null, "base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M", "bias": "none",
         "corda_config": null, "eva_config": null, "exclude_modules": null, "fan_in_fan_out": false, "inference_mode": true,
         "init_lora_weights": true, "layer_replication": null, "layers_pattern": null, "layers_to_transform": null,
         "loftq_config": {}, "lora_alpha": 16, "lora_bias": false, "lora_dropout": 0.05, "megatron_config": null,
         "megatron_core": "megatron.core", "modules_to_save": null, "peft_type": "LORA", "qalora_group_size": 16, "r": 8,
         "rank_pattern": {}, "revision": null, "target_modules": ["v_proj", "q_proj"], "target_parameters": null,
         "task_type": "CAUSAL_LM", "trainable_token_indices": null, "use_dora": false, "use_qalora": false, "use_rslora": false}""");
    assertThat(c.r()).isEqualTo(8);
    assertThat(c.loraAlpha()).isEqualTo(16);
    assertThat(c.loraDropout()).isEqualTo(0.05);
    assertThat(c.targetModules()).isEqualTo(List.of("v_proj", "q_proj"));
    assertThat(c.modulesToSave()).isEmpty();
    assertThat(c.initLoraWeights()).isEqualTo(LoraConfig.Init.KAIMING);
    assertThat(c.baseModelNameOrPath()).isEqualTo("HuggingFaceTB/SmolLM2-135M");
  }

  @ParameterizedTest
  @CsvSource(delimiter = ';', quoteCharacter = '`', value = {
      "{\"peft_type\":\"LOHA\"}; peft_type must be \"LORA\"",
      "{\"peft_type\":null}; peft_type",
      "{\"task_type\":\"SEQ_CLS\"}; task_type",
      "{\"bias\":\"all\"}; bias = the string \"all\"",
      "{\"use_dora\":true}; use_dora = true is not supported",
      "{\"lora_bias\":true}; lora_bias",
      "{\"fan_in_fan_out\":true}; fan_in_fan_out",
      "{\"layers_to_transform\":[0,1]}; layers_to_transform",
      "{\"layers_to_transform\":0}; layers_to_transform = 0 is not supported",
      "{\"trainable_token_indices\":[0]}; trainable_token_indices",
      "{\"target_parameters\":7}; target_parameters must be a list of strings",
      "{\"target_parameters\":[\"mlp.experts.down_proj\"],\"lora_dropout\":0.1}; lora_dropout must be 0 with target_parameters",
      "{\"layer_replication\":[[0,2]]}; layer_replication",
      "{\"some_future_switch\":true}; some_future_switch",
      "{\"init_lora_weights\":\"pissa\"}; init_lora_weights",
      "{\"r\":0}; r must be",
      "{\"r\":1.5}; r must be",
      "{\"lora_dropout\":1}; lora_dropout",
      "{\"lora_dropout\":-0.1}; lora_dropout",
      "{\"lora_alpha\":0}; lora_alpha",
      "{\"target_modules\":[]}; target_modules is empty",
      "{\"target_modules\":7}; target_modules must be a list of strings",
      "{\"target_modules\":[\"a\",7]}; target_modules must be a list of strings",
      "{\"target_modules\":\"(\"}; is not a regular expression",
      "{\"rank_pattern\":{\"q\":0}}; q must be a whole number",
      "{\"rank_pattern\":{\"(\":4}}; is not a regular expression",
      "{\"target_modules\":[\"lm_head\"],\"modules_to_save\":[\"lm_head\"]}; both in target_modules and in modules_to_save",
  })
  void refusesByName(String more, String reason) {
    assertThatThrownBy(() -> with(more)).isInstanceOf(OribiException.class).hasMessageStartingWith("adapter").hasMessageContaining(reason)
        .satisfies(e -> assertThat(e.getMessage().lines()).hasSize(1));
  }

  @Test
  void expressionsThatWouldTakeYearsAreStopped() {
    LoraConfig hostile = with("{\"target_modules\":\"(.*)*(.*)*(.*)*(.*)*(.*)*Z\"}");
    assertThatThrownBy(() -> hostile.targets(Q)).isInstanceOf(OribiException.class).hasMessageContaining("takes too long");
    assertThatThrownBy(() -> with("{\"target_modules\":\"" + "(".repeat(100_000) + "\"}")).isInstanceOf(OribiException.class);
  }

  @Test
  void whatIsWrittenIsReadAndHasEveryFieldOfPeft() throws IOException {
    LoraConfig c = with("{\"r\":4,\"lora_alpha\":6.5,\"lora_dropout\":0.1,\"target_modules\":\".*q_proj\",\"use_rslora\":true,"
        + "\"modules_to_save\":[\"lm_head\"],\"init_lora_weights\":\"gaussian\",\"rank_pattern\":{\"q_proj\":2},\"alpha_pattern\":{\"q_proj\":3.0},"
        + "\"base_model_name_or_path\":\"base\"}");
    c.write(folder);
    assertThat(LoraConfig.read(folder)).isEqualTo(c);
    JsonNode json = Json.read(folder.resolve(LoraConfig.FILE));
    assertThat(json.properties().stream().map(e -> e.getKey()).toList()).isSorted().contains("alpha_pattern", "auto_mapping",
        "base_model_name_or_path", "bias", "corda_config", "eva_config", "exclude_modules", "fan_in_fan_out", "inference_mode",
        "init_lora_weights", "layer_replication", "layers_pattern", "layers_to_transform", "loftq_config", "lora_alpha", "lora_bias",
        "lora_dropout", "megatron_config", "megatron_core", "modules_to_save", "peft_type", "r", "rank_pattern", "revision",
        "target_modules", "task_type", "trainable_token_indices", "use_dora", "use_rslora");
    assertThat(json.get("inference_mode").booleanValue()).isTrue();
    LoraConfig allLinear = LoraConfig.of(8, 16, 0, "all-linear", false, List.of(), "base");
    assertThat(allLinear.toJson().get("target_modules").size()).isEqualTo(7);
    assertThat(allLinear.toJson().get("lora_alpha").isInt()).isTrue();
    assertThatThrownBy(() -> LoraConfig.read(folder.resolve("none"))).isInstanceOf(OribiException.class).hasMessageContaining("there is no such folder");
    Path empty = Files.createDirectory(folder.resolve("empty"));
    assertThatThrownBy(() -> LoraConfig.read(empty)).isInstanceOf(OribiException.class).hasMessageContaining("has no adapter_config.json");
  }
}
