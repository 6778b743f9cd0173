package dev.oribi.model;

import static org.assertj.core.api.Assertions.assertThat;

import dev.oribi.io.Json;
import dev.oribi.kernel.DType;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.testing.TestMachine;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/**
 * Cards without bfloat16 (T4, V100): activations of Gemma exceed 65,504, the largest number of float16, and become infinite:
 * https://unsloth.ai/blog/gemma3. What happens to a run that overflows all the same is in {@code TrainerTest}.
 */
class KnownFloat16BugsTest {
  private static final int T4 = 75;
  private static final int A100 = 80;

  @ParameterizedTest
  @CsvSource({
      "gemma2, Gemma2ForCausalLM, bfloat16, F32, BF16", "gemma3_text, Gemma3ForCausalLM, bfloat16, F32, BF16",
      "gemma3_text, Gemma3ForCausalLM, float32, F32, F32", "llama, LlamaForCausalLM, bfloat16, F16, BF16",
      "llama, LlamaForCausalLM, float32, F32, F32"})
  void familiesThatOverflowAreNotComputedInFloat16(String type, String architecture, String stored, DType onT4, DType onA100) {
    ModelConfig config = ModelConfig.parse(Json.parse("{\"model_type\": \"" + type + "\", \"architectures\": [\"" + architecture
        + "\"], \"vocab_size\": 8, \"hidden_size\": 32, \"intermediate_size\": 8, \"num_hidden_layers\": 1, \"num_attention_heads\": 1,"
        + " \"head_dim\": 8, \"torch_dtype\": \"" + stored + "\"}", "config.json"), "config.json");
    assertThat(Machine.defaultType(config, T4)).isEqualTo(onT4);
    assertThat(Machine.defaultType(config, A100)).isEqualTo(onA100);
    try (Machine machine = TestMachine.open()) {
      assertThat(machine.defaultType(config))
          .isEqualTo(machine.isCuda() ? Machine.defaultType(config, machine.kernels().architecture()) : DType.F32);
    }
  }
}
