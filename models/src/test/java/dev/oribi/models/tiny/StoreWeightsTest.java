package dev.oribi.models.tiny;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;

import dev.oribi.io.Checkpoint;
import dev.oribi.io.SafetensorsWriter;
import dev.oribi.io.TensorType;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class StoreWeightsTest {
  private static final double HALF_STEP_OF_BF16 = 0x1p-8; // of a value in [1, 2): seven bits follow the point

  @Test
  void keepsNamesShapesAndValuesWithinTheRounding(@TempDir Path folder) throws IOException {
    float[] values = new float[13 * 113];
    Random random = new Random(3);
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) random.nextGaussian();
    }
    Path trained = Files.createDirectory(folder.resolve("trained"));
    Path stored = Files.createDirectory(folder.resolve("stored"));
    SafetensorsWriter.write(
        trained.resolve(Checkpoint.SINGLE),
        List.of(new SafetensorsWriter.Tensor("model.norm.weight", TensorType.F32, 13, 113)),
        SafetensorsWriter.PT,
        (tensor, sink) -> sink.floats(FloatBuffer.wrap(values)));
    StoreWeights.write(trained, stored);
    try (Checkpoint checkpoint = Checkpoint.open(stored)) {
      assertThat(checkpoint.tensors()).containsOnlyKeys("model.norm.weight");
      assertThat(checkpoint.tensor("model.norm.weight").type()).isEqualTo(TensorType.BF16);
      assertThat(checkpoint.tensor("model.norm.weight").shape()).containsExactly(13, 113);
      FloatBuffer read = FloatBuffer.allocate(values.length);
      checkpoint.readFloats(checkpoint.tensor("model.norm.weight"), 0, read);
      for (int i = 0; i < values.length; i++) {
        assertThat((double) read.get(i)).isCloseTo(values[i], within(Math.abs(values[i]) * HALF_STEP_OF_BF16));
      }
    }
  }
}
