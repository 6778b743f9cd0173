package dev.oribi.model.config;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatCode;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import dev.oribi.io.Checkpoint;
import dev.oribi.io.Json;
import dev.oribi.io.SafetensorsWriter;
import dev.oribi.io.SafetensorsWriter.Tensor;
import dev.oribi.io.TensorType;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ModelTensorsTest {
  @TempDir Path folder;

  private static ModelConfig config(boolean tied) {
    ObjectNode json = (ObjectNode) Json.parse(ModelConfigTest.SMALL, "config");
    json.put("head_dim", 10).put("tie_word_embeddings", tied);
    return ModelConfig.parse(json, "config");
  }

  private static Map<String, Tensor> tensors(ModelConfig config) {
    Map<String, Tensor> tensors = new LinkedHashMap<>();
    ModelTensors.of(config).forEach(spec -> tensors.put(spec.name(), new Tensor(spec.name(), TensorType.BF16, spec.shape())));
    return tensors;
  }

  /** Writes tensors of zeros, {@code lm_head.weight} of {@code head}, and checks them. */
  private void check(ModelConfig config, Map<String, Tensor> tensors, int head) {
    Path file = folder.resolve("model.safetensors");
    SafetensorsWriter.write(file, tensors.values(), SafetensorsWriter.PT, (t, sink) -> {
      byte[] data = new byte[(int) t.bytes()];
      Arrays.fill(data, (byte) (t.name().equals("lm_head.weight") ? head : 0));
      sink.bytes(ByteBuffer.wrap(data));
    });
    try (Checkpoint checkpoint = Checkpoint.open(file)) {
      ModelTensors.check(config, checkpoint);
    }
  }

  @Test
  void namesAndShapesAreThoseOfHuggingFace() {
    Map<String, Tensor> t = tensors(config(false));
    assertThat(t).hasSize(2 * 9 + 3);
    assertThat(t.get("model.embed_tokens.weight").shape()).containsExactly(512, 64);
    assertThat(t.get("model.layers.1.self_attn.q_proj.weight").shape()).containsExactly(80, 64);
    assertThat(t.get("model.layers.1.self_attn.k_proj.weight").shape()).containsExactly(40, 64);
    assertThat(t.get("model.layers.0.self_attn.o_proj.weight").shape()).containsExactly(64, 80);
    assertThat(t.get("model.layers.0.mlp.gate_proj.weight").shape()).containsExactly(172, 64);
    assertThat(t.get("model.layers.0.mlp.down_proj.weight").shape()).containsExactly(64, 172);
    assertThat(t.get("model.layers.0.post_attention_layernorm.weight").shape()).containsExactly(64);
    assertThat(t.get("lm_head.weight").shape()).containsExactly(512, 64);
    assertThat(tensors(config(true))).doesNotContainKey("lm_head.weight");
  }

  /** The table of Llama 3.2 1B adds up to the number of parameters that its authors state. */
  @Test
  void theTableOfLlama32HasItsPublishedSize() {
    ModelConfig config = ModelConfig.parse(Json.parse(ModelConfigTest.LLAMA_3_2_1B, "config"), "config");
    long parameters = ModelTensors.of(config).stream().mapToLong(spec -> Arrays.stream(spec.shape()).reduce(1, (a, b) -> a * b)).sum();
    assertThat(parameters).isEqualTo(1_235_814_400L);
  }

  @Test
  void acceptsWhatFitsAndOldRotaryTables() {
    ModelConfig config = config(false);
    Map<String, Tensor> tensors = tensors(config);
    tensors.put("r", new Tensor("model.layers.0.self_attn.rotary_emb.inv_freq", TensorType.F32, 5));
    assertThatCode(() -> check(config, tensors, 0)).doesNotThrowAnyException();
  }

  @Test
  void namesWhatIsMissingMisshapenOrTooMuch() {
    ModelConfig config = config(false);
    Map<String, Tensor> missing = tensors(config);
    missing.remove("model.layers.1.mlp.up_proj.weight");
    refused(config, missing, "tensor model.layers.1.mlp.up_proj.weight is missing");

    Map<String, Tensor> misshapen = tensors(config);
    misshapen.put("model.norm.weight", new Tensor("model.norm.weight", TensorType.F32, 65));
    refused(config, misshapen, "model.norm.weight has shape [65], config.json asks for [64]");

    Map<String, Tensor> mistyped = tensors(config);
    mistyped.put("model.norm.weight", new Tensor("model.norm.weight", TensorType.I8, 64));
    refused(config, mistyped, "model.norm.weight has type I8");

    Map<String, Tensor> tooMuch = tensors(config);
    tooMuch.put("x", new Tensor("model.layers.0.self_attn.q_proj.bias", TensorType.F32, 80));
    refused(config, tooMuch, "model.layers.0.self_attn.q_proj.bias has no place");
  }

  private void refused(ModelConfig config, Map<String, Tensor> tensors, String reason) {
    assertThatThrownBy(() -> check(config, tensors, 0)).isInstanceOf(OribiException.class).hasMessageContaining(reason);
  }

  @Test
  void aTiedHeadMayRepeatTheEmbeddingButNotDiffer() {
    ModelConfig tied = config(true);
    Map<String, Tensor> tensors = tensors(config(false));
    assertThatCode(() -> check(tied, tensors, 0)).doesNotThrowAnyException();
    assertThatThrownBy(() -> check(tied, tensors, 1)).isInstanceOf(OribiException.class).hasMessageContaining("differs from model.embed_tokens.weight");
  }
}
