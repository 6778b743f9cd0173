package dev.oribi.models.tiny;

import dev.oribi.io.Checkpoint;
import dev.oribi.io.SafetensorsWriter;
import dev.oribi.io.TensorInfo;
import dev.oribi.io.TensorType;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.List;

/**
 * Copies the weights of a trained model as bfloat16, half the size of the float32 in which they were trained, so that they
 * are small enough for git. Each weight is rounded to the nearest.
 */
public final class StoreWeights {
  private StoreWeights() {}

  /** @param args folder of the trained model, folder to write {@code model.safetensors} to, replacing it */
  public static void main(String[] args) {
    if (args.length != 2) {
      System.err.println("Usage: StoreWeights <trained-folder> <model-folder>");
      System.exit(2);
    }
    write(Path.of(args[0]), Path.of(args[1]));
  }

  static void write(Path trained, Path folder) {
    try (Checkpoint from = Checkpoint.open(trained)) {
      List<SafetensorsWriter.Tensor> tensors =
          from.tensors().values().stream()
              .map(tensor -> new SafetensorsWriter.Tensor(tensor.name(), TensorType.BF16, tensor.shape()))
              .toList();
      SafetensorsWriter.write(
          folder.resolve(Checkpoint.SINGLE), tensors, SafetensorsWriter.PT, (tensor, sink) -> copy(from, tensor.name(), sink));
    }
  }

  private static void copy(Checkpoint from, String name, SafetensorsWriter.Sink sink) throws IOException {
    TensorInfo tensor = from.tensor(name);
    FloatBuffer values = FloatBuffer.allocate(Math.toIntExact(tensor.elements()));
    from.readFloats(tensor, 0, values);
    sink.floats(values.rewind());
  }
}
