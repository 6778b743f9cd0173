package dev.oribi.model.config;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.OribiException;
import dev.oribi.io.Json;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class GenerationConfigTest {
  @TempDir Path folder;

  private final ModelConfig model = ModelConfig.parse(Json.parse(ModelConfigTest.LLAMA_3_2_1B, "config"), "config");

  @Test
  void withoutTheFileTheDefaultsAndTheModelsIdsHold() {
    GenerationConfig g = GenerationConfig.read(folder, model);
    assertThat(g.eosTokenIds()).containsExactly(128001, 128008, 128009);
    assertThat(g.bosTokenId()).hasValue(128000);
    assertThat(g.doSample()).isFalse();
    assertThat(g.temperature()).isEqualTo(1);
    assertThat(g.topK()).isEqualTo(50);
    assertThat(g.topP()).isEqualTo(1);
    assertThat(g.minP()).isZero();
    assertThat(g.repetitionPenalty()).isEqualTo(1);
    assertThat(g.maxNewTokens()).isEmpty();
  }

  @Test
  void theFileOverridesAndReadsBackEqual() throws IOException {
    Files.writeString(folder.resolve("generation_config.json"), "{\"eos_token_id\":2,\"pad_token_id\":0,\"do_sample\":true,\"temperature\":0.6,"
        + "\"top_k\":0,\"top_p\":0.9,\"min_p\":0.05,\"repetition_penalty\":1.1,\"max_new_tokens\":64,\"transformers_version\":\"4.45\"}");
    GenerationConfig g = GenerationConfig.read(folder, model);
    assertThat(g.eosTokenIds()).containsExactly(2);
    assertThat(g.padTokenId()).hasValue(0);
    assertThat(g.bosTokenId()).hasValue(128000);
    assertThat(g.doSample()).isTrue();
    assertThat(g.temperature()).isEqualTo(0.6);
    assertThat(g.topK()).isZero();
    assertThat(g.topP()).isEqualTo(0.9);
    assertThat(g.minP()).isEqualTo(0.05);
    assertThat(g.repetitionPenalty()).isEqualTo(1.1);
    assertThat(g.maxNewTokens()).hasValue(64);
    Json.write(folder.resolve("generation_config.json"), g.toJson());
    assertThat(GenerationConfig.read(folder, model)).isEqualTo(g);
  }

  @Test
  void nonsenseIsRefused() throws IOException {
    Files.writeString(folder.resolve("generation_config.json"), "{\"top_p\":1.5}");
    assertThatThrownBy(() -> GenerationConfig.read(folder, model)).isInstanceOf(OribiException.class).hasMessageContaining("top_p");
  }
}
