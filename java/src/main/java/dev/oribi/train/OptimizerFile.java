package dev.oribi.train;

import dev.oribi.OribiException;
import dev.oribi.io.SafetensorsFile;
import dev.oribi.io.SafetensorsWriter;
import dev.oribi.io.TensorInfo;
import dev.oribi.io.TensorType;
import dev.oribi.train.TrainableTensor.Part;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * The file {@code optimizer.safetensors} of a checkpoint: for each trained tensor {@code NAME.value}, {@code
 * NAME.exp_avg} and {@code NAME.exp_avg_sq} (PyTorch's words for AdamW's moments), all fp32 as they are in memory.
 */
final class OptimizerFile {
  private static final Map<Part, String> SUFFIX = new LinkedHashMap<>();

  static {
    SUFFIX.put(Part.VALUE, ".value");
    SUFFIX.put(Part.MOMENT1, ".exp_avg");
    SUFFIX.put(Part.MOMENT2, ".exp_avg_sq");
  }

  private OptimizerFile() {}

  /** Writes values and moments of all tensors. */
  static void write(Path file, List<TrainableTensor> tensors) {
    Map<String, TrainableTensor> byName = new HashMap<>();
    Map<String, Part> partByName = new HashMap<>();
    List<SafetensorsWriter.Tensor> declared = new ArrayList<>();
    for (TrainableTensor tensor : tensors) {
      SUFFIX.forEach((part, suffix) -> {
        byName.put(tensor.name() + suffix, tensor);
        partByName.put(tensor.name() + suffix, part);
        declared.add(new SafetensorsWriter.Tensor(tensor.name() + suffix, TensorType.F32, tensor.shape()));
      });
    }
    SafetensorsWriter.write(file, declared, SafetensorsWriter.PT, (declaration, sink) -> {
      TrainableTensor tensor = byName.get(declaration.name());
      FloatBuffer values = FloatBuffer.allocate(Math.toIntExact(tensor.elements()));
      tensor.read(partByName.get(declaration.name()), values);
      sink.floats(values.flip());
    });
  }

  /**
   * Puts values and moments back.
   *
   * @throws OribiException if the file has not exactly these tensors
   */
  static void read(Path file, List<TrainableTensor> tensors) {
    try (SafetensorsFile in = SafetensorsFile.open(file)) {
      if (in.tensors().size() != tensors.size() * SUFFIX.size()) {
        throw new OribiException(file + " has " + in.tensors().size() + " tensors, but this run trains "
            + tensors.size() + " and needs three for each: the checkpoint is of another run.");
      }
      for (TrainableTensor tensor : tensors) {
        FloatBuffer values = FloatBuffer.allocate(Math.toIntExact(tensor.elements()));
        for (Map.Entry<Part, String> part : SUFFIX.entrySet()) {
          in.readFloats(find(in, tensor, tensor.name() + part.getValue()), 0, values.clear());
          tensor.write(part.getKey(), values.flip());
        }
      }
    }
  }

  private static TensorInfo find(SafetensorsFile in, TrainableTensor tensor, String name) {
    TensorInfo info = in.tensors().get(name);
    if (info == null || info.type() != TensorType.F32 || !Arrays.equals(info.shape(), tensor.shape())) {
      String found = info == null ? "nothing" : info.type() + " " + Arrays.toString(info.shape());
      throw new OribiException(in.file() + " has " + found + " under " + name + ", where this run needs F32 "
          + Arrays.toString(tensor.shape()) + ": the checkpoint is of another run.");
    }
    return info;
  }
}
