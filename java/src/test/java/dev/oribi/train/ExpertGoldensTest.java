package dev.oribi.train;

import static org.assertj.core.api.Assertions.assertThat;

import dev.oribi.io.Checkpoint;
import dev.oribi.io.TensorInfo;
import dev.oribi.model.Machine;
import dev.oribi.testing.Compare;
import dev.oribi.testing.TestMachine;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** The families with routed experts and with latent attention against the goldens of Hugging Face transformers and PEFT. */
class ExpertGoldensTest {
  private static final Path MODELS = Path.of("..", "models");

  /** Largest relative error, as the norm of the difference over the norm, of a tensor. */
  private static final double TOLERANCE = 1e-5;

  @TempDir Path temp;

  @ParameterizedTest
  @ValueSource(
      strings = {
        "mixtral/goldens/8x7b-published",
        "mixtral/goldens/window-attention-only",
        "qwen3_moe/goldens/30b-a3b-published",
        "qwen3_moe/goldens/dense-layers",
        "deepseek_v2/goldens/lite-published",
        "deepseek_v2/goldens/group-limited-q-lora",
        "deepseek_v3/goldens/v3-published",
        "deepseek_v3/goldens/no-q-lora-one-group"
      })
  void logitsLossAndGradientsAreThoseOfTransformers(String name) {
    Path folder = MODELS.resolve(name);
    try (Machine machine = TestMachine.open()) {
      compare(machine, folder, folder.resolve("adapter"), "adapter.safetensors");
      if (Files.exists(folder.resolve("full.safetensors"))) {
        compare(machine, folder, null, "full.safetensors");
      }
    }
  }

  private void compare(Machine machine, Path folder, Path adapter, String file) {
    Path ours = temp.resolve(file);
    Trace.write(
        folder.resolve("model"), adapter, adapter == null, folder.resolve("batch.json"), ours, StorageType.FLOAT32, machine);
    double worst = 0;
    try (Checkpoint a = Checkpoint.open(ours);
        Checkpoint b = Checkpoint.open(folder.resolve(file))) {
      assertThat(a.tensors().keySet()).isEqualTo(b.tensors().keySet());
      for (Map.Entry<String, TensorInfo> e : b.tensors().entrySet()) {
        double error = Compare.relative(read(a, a.tensors().get(e.getKey())), Compare.widen(read(b, e.getValue())));
        assertThat(!(error <= TOLERANCE)).as("%s: relative error %.3g", e.getKey(), error).isFalse();
        worst = Math.max(worst, error);
      }
      System.out.printf("%-60s %4d tensors, off by %.1e%n", folder.getFileName() + " " + file, b.tensors().size(), worst);
    }
  }

  private static float[] read(Checkpoint file, TensorInfo t) {
    FloatBuffer values = FloatBuffer.allocate((int) t.elements());
    file.fileOf(t).readFloats(t, 0, values);
    return values.array();
  }
}
