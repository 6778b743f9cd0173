package dev.oribi.train;

import static org.assertj.core.api.Assertions.assertThat;

import dev.oribi.io.Checkpoint;
import dev.oribi.io.TensorInfo;
import dev.oribi.model.Machine;
import dev.oribi.testing.TestMachine;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.Map;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Logits, loss and every gradient against those of Hugging Face transformers and PEFT on small random models; the files and
 * the script that made them lie in {@code models/llama}.
 */
class LlamaGoldensTest {
  private static final Path GOLDENS = Path.of("..", "models", "llama", "goldens");

  /** Largest relative error, as the norm of the difference over the norm, of a tensor. */
  private static final double TOLERANCE = 1e-5;

  @TempDir Path temp;

  @ParameterizedTest
  @ValueSource(
      strings = {
        "llama1",
        "llama2-grouped-tied",
        "llama3.1-factor-8",
        "llama3.2-factor-32-tied",
        "linear-rope-own-head-dim-shards",
        "gelu-modules-to-save"
      })
  void logitsLossAndGradientsAreThoseOfTransformers(String name) {
    Path folder = GOLDENS.resolve(name);
    Path full = temp.resolve("full.safetensors");
    Path batch = folder.resolve("batch.json");
    Path adapter = temp.resolve("adapter.safetensors");
    try (Machine machine = TestMachine.open()) {
      Trace.write(folder.resolve("model"), null, true, batch, full, StorageType.FLOAT32, machine);
      Trace.write(
          folder.resolve("model"), folder.resolve("adapter"), false, batch, adapter, StorageType.FLOAT32, machine);
    }
    compare(full, folder.resolve("full.safetensors"));
    compare(adapter, folder.resolve("adapter.safetensors"));
  }

  private static void compare(Path ours, Path theirs) {
    try (Checkpoint a = Checkpoint.open(ours);
        Checkpoint b = Checkpoint.open(theirs)) {
      assertThat(a.tensors().keySet()).isEqualTo(b.tensors().keySet());
      for (Map.Entry<String, TensorInfo> e : b.tensors().entrySet()) {
        float[] expected = read(b, e.getValue());
        float[] found = read(a, a.tensors().get(e.getKey()));
        double error = relativeError(found, expected);
        assertThat(!(error <= TOLERANCE)).as("%s: relative error %.3g", e.getKey(), error).isFalse();
      }
    }
  }

  private static float[] read(Checkpoint file, TensorInfo t) {
    FloatBuffer values = FloatBuffer.allocate((int) t.elements());
    file.fileOf(t).readFloats(t, 0, values);
    return values.array();
  }

  private static double relativeError(float[] found, float[] expected) {
    assertThat(found).hasSameSizeAs(expected);
    double difference = 0;
    double norm = 0;
    for (int i = 0; i < found.length; i++) {
      difference += Math.pow((double) found[i] - expected[i], 2);
      norm += Math.pow(expected[i], 2);
    }
    return Math.sqrt(difference / Math.max(norm, 1e-30));
  }
}
