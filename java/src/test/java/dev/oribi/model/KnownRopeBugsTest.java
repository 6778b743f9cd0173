package dev.oribi.model;

import static org.assertj.core.api.Assertions.assertThat;

import dev.oribi.io.Json;
import dev.oribi.kernel.DType;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.testing.SmallDecoder;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/**
 * Llama 3.1's scaling of rotary positions was dropped by a class that replaced the published one, and then had its factor
 * written in: https://github.com/unslothai/unsloth/issues/6197, 6907 and 6925. A model answered well up to some 29 thousand
 * tokens, and with nonsense after.
 */
class KnownRopeBugsTest {
  private static final int POSITIONS = 48_001;
  private static final int HEAD_DIM = 32;

  private static ModelConfig config(String factor, boolean scaled) {
    String scaling = "{\"rope_type\": \"llama3\", \"factor\": " + factor + ", \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0,"
        + " \"original_max_position_embeddings\": 8192}";
    String json = "{\"model_type\": \"llama\", \"architectures\": [\"LlamaForCausalLM\"], \"vocab_size\": 8, \"hidden_size\": 32,"
        + " \"intermediate_size\": 8, \"num_hidden_layers\": 1, \"num_attention_heads\": 1, \"max_position_embeddings\": 131072,"
        + " \"rope_theta\": 500000.0, \"rope_scaling\": " + (scaled ? scaling : "null") + "}";
    return ModelConfig.parse(Json.parse(json, "config.json"), "config.json");
  }

  /** What the model turns by, taken from its tables on the device, against the published formula in doubles. */
  @ParameterizedTest
  @CsvSource({"8.0", "32.0"})
  void theTablesAreScaledFarPastTheOriginalContext(String factor) {
    float[] scaled = cosines(config(factor, true));
    float[] plain = cosines(config(factor, false));
    int changed = 0;
    for (int p : new int[] {1, 8191, 8192, 28_867, 31_767, 48_000}) {
      for (int i = 0; i < HEAD_DIM / 2; i++) {
        double exact = p * frequency(i, Double.parseDouble(factor));
        double off = Math.abs(scaled[p * HEAD_DIM / 2 + i] - Math.cos(exact));
        assertThat(off).as("pair %d at %d", i, p).isLessThan(Math.max(1, exact) * 0x1p-21);
        changed += Math.abs(plain[p * HEAD_DIM / 2 + i] - Math.cos(exact)) > 0.1 ? 1 : 0;
      }
    }
    assertThat(changed).as("cosines that would be wrong without scaling").isGreaterThan(15);
  }

  private static double frequency(int pair, double factor) {
    double frequency = Math.pow(500_000, -2.0 * pair / HEAD_DIM);
    double turns = 8192 * frequency / (2 * Math.PI);
    double kept = Math.min(1, Math.max(0, (turns - 1) / (4 - 1)));
    return kept * frequency + (1 - kept) * frequency / factor;
  }

  private static float[] cosines(ModelConfig config) {
    try (SmallDecoder model = new SmallDecoder(config, DType.BF16, POSITIONS)) {
      return model.angles(model.model().ropeTables().get(config.rope()), true);
    }
  }
}
