package dev.oribi.model;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.OribiException;
import dev.oribi.io.Checkpoint;
import dev.oribi.kernel.DType;
import dev.oribi.layer.Parameters.Tensor;
import dev.oribi.model.Decoder.Training;
import dev.oribi.model.config.LoraConfig;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.testing.ReferenceDecoder.Sequence;
import dev.oribi.testing.StepFixture;
import dev.oribi.testing.StepFixture.Plan;
import dev.oribi.testing.TinyModels;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What is saved is what is loaded, to the bit, and a model that was saved computes what it computed. */
class ModelFilesTest {
  private static final List<Sequence> BATCH = TinyModels.sequences(2, 13, 9, 4);

  @TempDir Path temp;

  private static float[] values(StepFixture f, Tensor t) {
    FloatBuffer into = FloatBuffer.allocate((int) t.elements());
    f.weights().read(t, 0, into);
    return into.array();
  }

  private static void assertSame(StepFixture a, StepFixture b) {
    for (Tensor t : a.model().parameters().tensors()) {
      Tensor other = b.model().parameters().tensors().stream().filter(x -> x.name().equals(t.name())).findFirst().orElseThrow();
      assertThat(values(b, other)).as(t.name()).isEqualTo(values(a, t));
    }
  }

  private static double loss(StepFixture f) {
    return f.step().evaluate(TinyModels.batch(BATCH));
  }

  @Test
  void aWholeModel() throws IOException {
    for (boolean tied : new boolean[] {false, true}) {
      Path folder = temp.resolve("model-" + tied);
      ModelConfig config = TinyModels.tiny("gelu", tied);
      try (StepFixture trained = new StepFixture(config, Training.FULL, Plan.DEFAULT, 1)) {
        trained.microStep(BATCH);
        trained.step().update(1, 1e-2);
        new ModelFiles(trained.model(), trained.weights(), null).write(folder);
        ModelConfig read = ModelConfig.read(folder);
        assertThat(read).usingRecursiveComparison().ignoringFields("raw").isEqualTo(config);
        try (StepFixture loaded = new StepFixture(read, Training.FULL, Plan.DEFAULT, 2)) {
          assertThat(loss(loaded)).isNotEqualTo(loss(trained));
          loaded.weights().load(folder, null);
          assertSame(trained, loaded);
          assertThat(loss(loaded)).isEqualTo(loss(trained));
        }
      }
    }
  }

  @Test
  void anAdapterAndItsBase() throws IOException {
    Path base = temp.resolve("base");
    Path adapter = temp.resolve("adapter");
    ModelConfig config = TinyModels.tiny("silu", true);
    LoraConfig lora =
        new LoraConfig(
            3, 5, 0.1, List.of("q_proj", "down_proj"), null, true, List.of("lm_head"), LoraConfig.Init.KAIMING,
            Map.of("down_proj", 2), Map.of(), null);
    try (StepFixture plain = new StepFixture(config, Training.FULL, Plan.DEFAULT, 1)) {
      new ModelFiles(plain.model(), plain.weights(), null).write(base);
    }
    try (StepFixture trained = new StepFixture(config, Training.adapter(lora), Plan.DEFAULT, 3)) {
      trained.weights().load(base, null);
      trained.microStep(BATCH);
      trained.step().update(1, 1e-2);
      new ModelFiles(trained.model(), trained.weights(), base).write(adapter);
      assertThat(Files.exists(adapter.resolve("README.md"))).isTrue();
      LoraConfig read = LoraConfig.read(adapter);
      try (StepFixture loaded = new StepFixture(config, Training.adapter(read), Plan.DEFAULT, 4)) {
        loaded.weights().load(base, adapter);
        assertSame(trained, loaded);
        assertThat(loss(loaded)).isEqualTo(loss(trained));
      }
      LoraConfig fewer = LoraConfig.of(3, 5, 0, List.of("q_proj"), true, List.of("lm_head"), null);
      try (StepFixture other = new StepFixture(config, Training.adapter(fewer), Plan.DEFAULT, 4)) {
        assertThatThrownBy(() -> other.weights().load(base, adapter))
            .isInstanceOf(OribiException.class).hasMessageContaining("down_proj.lora_A.weight");
      }
    }
  }

  /** The fp32 value that learns is stored, not the 16-bit copy that the products read. */
  @Test
  void anAdapterTrainedInBfloat16KeepsItsFloat32Values() throws IOException {
    LoraConfig lora = LoraConfig.of(3, 5, 0, LoraConfig.ALL_LINEAR, false, List.of(), null);
    ModelConfig config = TinyModels.tiny("silu", false);
    Path adapter = temp.resolve("adapter");
    try (StepFixture trained = new StepFixture(config, Training.adapter(lora), Plan.DEFAULT.type(DType.BF16), 3);
        StepFixture loaded = new StepFixture(config, Training.adapter(lora), Plan.DEFAULT.type(DType.BF16), 3)) {
      trained.microStep(BATCH);
      trained.step().update(1, 1e-2);
      new ModelFiles(trained.model(), trained.weights(), null).write(adapter);
      try (var files = Checkpoint.open(adapter.resolve(LoraConfig.WEIGHTS_FILE))) {
        loaded.weights().loadAdapter(files, "the adapter");
      }
      assertSame(trained, loaded);
      assertThat(loss(loaded)).isEqualTo(loss(trained));
    }
  }
}
