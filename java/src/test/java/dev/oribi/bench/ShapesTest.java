package dev.oribi.bench;

import static org.assertj.core.api.Assertions.assertThat;

import dev.oribi.model.config.ModelTensors;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** The tables of tensors add up to the numbers of parameters that the model hub shows for the published checkpoints. */
class ShapesTest {
  @ParameterizedTest
  @CsvSource({
    "llama-3.1-8b, 8030261248",
    "mistral-7b-v0.1, 7241732096",
    "mistral-7b-v0.3, 7248023552",
    "mistral-nemo-12b, 12247782400",
    "mistral-small-24b, 23572403200",
    "qwen2.5-0.5b, 494032768",
    "qwen2.5-1.5b, 1543714304",
    "qwen2.5-7b, 7615616512",
    "qwen2.5-14b, 14770033664",
    "qwen3-4b, 4022468096",
    "qwen3-8b, 8190735360",
    "gemma-2b, 2506172416",
    "gemma-7b, 8537680896",
    "gemma-2-2b, 2614341888",
    "gemma-2-9b, 9241705984",
    "gemma-2-27b, 27227128320",
    "gemma-3-270m, 268098176",
    "gemma-3-1b, 999885952",
    "phi-3-mini-4k, 3821079552",
    "phi-4, 14659507200",
    "phi-4-mini, 3836021760",
    "smollm3-3b, 3075098624",
  })
  void parametersAreThoseOfThePublishedCheckpoints(String shape, long parameters) {
    assertThat(ModelTensors.elements(Shapes.of(shape))).isEqualTo(parameters);
  }
}
