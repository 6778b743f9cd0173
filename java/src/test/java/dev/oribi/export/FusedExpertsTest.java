package dev.oribi.export;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.OribiException;
import dev.oribi.io.Checkpoint;
import dev.oribi.io.Json;
import dev.oribi.io.SafetensorsWriter;
import dev.oribi.io.TensorInfo;
import dev.oribi.io.TensorType;
import dev.oribi.model.Decoder.Training;
import dev.oribi.model.Machine;
import dev.oribi.model.ModelFiles;
import dev.oribi.model.config.LoraConfig;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.testing.StepFixture;
import dev.oribi.testing.TestMachine;
import dev.oribi.testing.TinyModels;
import dev.oribi.train.StorageType;
import dev.oribi.train.Trace;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * Adapters on fused experts, as PEFT writes them with {@code target_parameters}: read, written, merged. That they compute what PEFT
 * computes, forward and backward, is shown by {@code FamilyGoldensTest}.
 */
class FusedExpertsTest {
  private static final Path GOLDEN = Path.of("..", "models", "qwen3_moe", "goldens", "target-parameters");
  private static final List<String> BOTH = List.of("mlp.experts.down_proj", "mlp.experts.gate_up_proj");

  @TempDir Path temp;

  private static LoraConfig lora(List<String> modules, List<String> parameters, Map<String, Integer> ranks) {
    return new LoraConfig(2, 4, 0, modules, parameters, null, false, List.of(), LoraConfig.Init.KAIMING, ranks, Map.of(), null);
  }

  private static float[] values(Checkpoint files, TensorInfo t) {
    float[] values = new float[(int) t.elements()];
    files.readFloats(t, 0, FloatBuffer.wrap(values));
    return values;
  }

  private static List<String> names(String family, LoraConfig lora) {
    try (StepFixture f = new StepFixture(TinyModels.routedFamilies().get(family), Training.adapter(lora), StepFixture.Plan.DEFAULT, 1)) {
      return f.model().parameters().trainable().stream().map(t -> t.name() + " " + List.of(t.shape()[0], t.shape()[1])).toList();
    }
  }

  @Test
  void whatIsWrittenIsWhatWasRead() throws IOException {
    Path adapter = GOLDEN.resolve("adapter");
    Path written = temp.resolve("written");
    ModelConfig config = ModelConfig.read(GOLDEN.resolve("model"));
    try (StepFixture f = new StepFixture(config, Training.adapter(LoraConfig.read(adapter)), StepFixture.Plan.DEFAULT, 1)) {
      f.weights().load(GOLDEN.resolve("model"), adapter);
      new ModelFiles(f.model(), f.weights(), null).write(written);
    }
    try (Checkpoint a = Checkpoint.open(adapter.resolve(LoraConfig.WEIGHTS_FILE));
        Checkpoint b = Checkpoint.open(written.resolve(LoraConfig.WEIGHTS_FILE))) {
      assertThat(b.tensors().keySet()).isEqualTo(a.tensors().keySet()).anyMatch(n -> n.contains("mlp.experts.base_layer.lora_B"));
      for (TensorInfo t : a.tensors().values()) {
        assertThat(values(b, b.tensor(t.name()))).as(t.name()).isEqualTo(values(a, t));
      }
    }
    assertThat(LoraConfig.read(written)).isEqualTo(LoraConfig.read(adapter));
    assertThat(Json.read(written.resolve(LoraConfig.FILE)).get("target_parameters")).hasSize(2);
  }

  @Test
  void mergedGivesTheLogitsOfTheAdapter() throws IOException {
    Path merged = Files.createDirectories(temp.resolve("merged"));
    Path traced = temp.resolve("traced.safetensors");
    Files.copy(GOLDEN.resolve("model/config.json"), merged.resolve("config.json"));
    try (MergedModel model = new MergedModel(GOLDEN.resolve("model"), GOLDEN.resolve("adapter"))) {
      List<SafetensorsWriter.Tensor> tensors = new ArrayList<>();
      model.names().forEach(n -> tensors.add(new SafetensorsWriter.Tensor(n, TensorType.F32, model.shape(n))));
      SafetensorsWriter.write(merged.resolve("model.safetensors"), tensors, SafetensorsWriter.PT, (t, sink) -> {
        float[] all = new float[(int) Arrays.stream(model.shape(t.name())).reduce(1, (a, b) -> a * b)];
        int rows = model.shape(t.name()).length == 1 ? 1 : (int) model.shape(t.name())[0];
        model.read(t.name(), 0, rows, all);
        sink.floats(FloatBuffer.wrap(all));
      });
    }
    try (Machine machine = TestMachine.open()) {
      Trace.write(merged, null, false, GOLDEN.resolve("batch.json"), traced, StorageType.FLOAT32, machine);
    }
    try (Checkpoint a = Checkpoint.open(traced); Checkpoint b = Checkpoint.open(GOLDEN.resolve("adapter.safetensors"))) {
      float[] found = values(a, a.tensor("logits"));
      float[] expected = values(b, b.tensor("logits"));
      double difference = 0;
      double norm = 0;
      for (int i = 0; i < expected.length; i++) {
        difference += Math.pow(found[i] - expected[i], 2);
        norm += Math.pow(expected[i], 2);
      }
      assertThat(Math.sqrt(difference / norm)).isLessThan(1e-5);
    }
  }

  /** The wrapper of the first parameter is the inner one; alone it has the module's own name. Mixtral's modules are called so too. */
  @Test
  void tensorsHavePeftsNamesAndShapes() {
    assertThat(names("qwen3_moe", lora(null, List.of("gate_up_proj"), Map.of(".*\\.gate_up_proj", 3))).get(0))
        .isEqualTo("base_model.model.model.layers.1.mlp.experts.lora_A.weight [18, 10]");
    List<String> both = names("mixtral", lora(List.of("q_proj"), BOTH, Map.of(".*\\.gate_up_proj", 3)));
    ModelConfig mixtral = TinyModels.routedFamilies().get("mixtral");
    int experts = 4;
    assertThat(both).anyMatch(n -> n.equals("base_model.model.model.layers.0.mlp.experts.base_layer.lora_A.weight ["
            + 3 * experts + ", " + mixtral.hiddenSize() + "]"))
        .anyMatch(n -> n.startsWith("base_model.model.model.layers.0.mlp.experts.lora_B.weight [" + mixtral.hiddenSize() + ", "
            + 2 * experts + "]"))
        .anyMatch(n -> n.contains("q_proj.lora_A"));
  }

  @Test
  void refusesByName() {
    assertThatThrownBy(() -> names("qwen3_moe", lora(null, List.of("mlp.gate.weight"), Map.of())))
        .isInstanceOf(OribiException.class).hasMessageContaining("target_parameters names mlp.gate.weight");
    assertThatThrownBy(() -> names("qwen3_moe", lora(List.of("down_proj"), BOTH, Map.of())))
        .isInstanceOf(OribiException.class).hasMessageContaining("target_modules and target_parameters both name");
    assertThatThrownBy(() -> new GgufAdapterFile(GOLDEN.resolve("model"), GOLDEN.resolve("adapter")))
        .isInstanceOf(OribiException.class).hasMessageContaining("target_parameters");
  }

  /** A dense model has no such parameter. */
  @Test
  void aDenseModelRefusesThem() {
    assertThatThrownBy(() -> new StepFixture(TinyModels.tiny("silu", false), Training.adapter(lora(null, BOTH, Map.of())),
        StepFixture.Plan.DEFAULT, 1)).isInstanceOf(OribiException.class).hasMessageContaining("target_parameters names");
  }
}
