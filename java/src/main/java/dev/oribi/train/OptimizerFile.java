package dev.oribi.train;

import dev.oribi.OribiException;
import dev.oribi.io.SafetensorsFile;
import dev.oribi.io.SafetensorsWriter;
import dev.oribi.io.TensorInfo;
import dev.oribi.io.TensorType;
import dev.oribi.train.TrainableTensor.Part;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * The file {@code optimizer.safetensors} of a checkpoint: what is trained, and AdamW's moments, exactly as in memory.
 *
 * <ul>
 *   <li>Always {@code NAME.value} for each trained tensor, fp32.
 *   <li>Moments in fp32: {@code NAME.exp_avg} and {@code NAME.exp_avg_sq}, PyTorch's words.
 *   <li>Moments in 8 bits: the columns of each group of parameters ({@link StateColumn}), under bitsandbytes' words
 *       {@code state1}, {@code state2} (codes) and {@code absmax1}, {@code absmax2} (the blocks' largest magnitudes). A block
 *       may hold values of two tensors, so they are not split by tensor.
 * </ul>
 */
final class OptimizerFile {
  private static final String MEAN = ".exp_avg";
  private static final int CHUNK = 16 << 20;

  private OptimizerFile() {}

  private static Map<Part, String> parts(TrainStep step) {
    Map<Part, String> suffixes = new LinkedHashMap<>();
    suffixes.put(Part.VALUE, ".value");
    if (step.stateColumns().isEmpty()) {
      suffixes.put(Part.MOMENT1, MEAN);
      suffixes.put(Part.MOMENT2, ".exp_avg_sq");
    }
    return suffixes;
  }

  /** Writes values and moments of all tensors. */
  static void write(Path file, TrainStep step) {
    Map<String, SafetensorsWriter.Source> sources = new LinkedHashMap<>();
    List<SafetensorsWriter.Tensor> declared = new ArrayList<>();
    for (TrainableTensor tensor : step.trainable()) {
      parts(step).forEach((part, suffix) -> {
        declared.add(new SafetensorsWriter.Tensor(tensor.name() + suffix, TensorType.F32, tensor.shape()));
        sources.put(tensor.name() + suffix, (declaration, sink) -> put(tensor, part, sink));
      });
    }
    for (StateColumn column : step.stateColumns()) {
      declared.add(new SafetensorsWriter.Tensor(column.name(), column.type(), column.elements()));
      sources.put(column.name(), (declaration, sink) -> put(column, sink));
    }
    SafetensorsWriter.write(
        file, declared, SafetensorsWriter.PT, (declaration, sink) -> sources.get(declaration.name()).write(declaration, sink));
  }

  private static void put(TrainableTensor tensor, Part part, SafetensorsWriter.Sink sink) throws IOException {
    FloatBuffer values = FloatBuffer.allocate(Math.toIntExact(tensor.elements()));
    tensor.read(part, values);
    sink.floats(values.flip());
  }

  private static long bytes(StateColumn column) {
    return column.elements() * column.type().bits() / 8;
  }

  private static void put(StateColumn column, SafetensorsWriter.Sink sink) throws IOException {
    long bytes = bytes(column);
    for (long at = 0; at < bytes; at += CHUNK) {
      ByteBuffer chunk = ByteBuffer.allocate((int) Math.min(CHUNK, bytes - at));
      column.read(at, chunk);
      sink.bytes(chunk.flip());
    }
  }

  /**
   * Puts values and moments back.
   *
   * @throws OribiException if the file has not exactly these tensors
   */
  static void read(Path file, TrainStep step) {
    List<TrainableTensor> tensors = step.trainable();
    List<StateColumn> columns = step.stateColumns();
    Map<Part, String> parts = parts(step);
    try (SafetensorsFile in = SafetensorsFile.open(file)) {
      checkOptimizer(in, columns.isEmpty());
      if (in.tensors().size() != tensors.size() * parts.size() + columns.size()) {
        throw new OribiException(file + " has " + in.tensors().size() + " tensors, but this run trains "
            + tensors.size() + " and needs " + (tensors.size() * parts.size() + columns.size())
            + " with their moments: the checkpoint is of another run.");
      }
      for (TrainableTensor tensor : tensors) {
        FloatBuffer values = FloatBuffer.allocate(Math.toIntExact(tensor.elements()));
        for (Map.Entry<Part, String> part : parts.entrySet()) {
          String name = tensor.name() + part.getValue();
          in.readFloats(find(in, name, TensorType.F32, tensor.shape()), 0, values.clear());
          tensor.write(part.getKey(), values.flip());
        }
      }
      columns.forEach(column -> read(in, column));
    }
  }

  private static void read(SafetensorsFile in, StateColumn column) {
    TensorInfo info = find(in, column.name(), column.type(), column.elements());
    long bytes = bytes(column);
    for (long at = 0; at < bytes; at += CHUNK) {
      int n = (int) Math.min(CHUNK, bytes - at);
      column.write(at, ByteBuffer.allocateDirect(n).put(in.slice(info, at, n)).flip());
    }
  }

  private static void checkOptimizer(SafetensorsFile in, boolean float32) {
    boolean hasFloat32 = in.tensors().keySet().stream().anyMatch(name -> name.endsWith(MEAN));
    if (hasFloat32 != float32) {
      throw new OribiException(in.file() + " has AdamW's moments in " + (hasFloat32 ? "float32" : "8 bits")
          + ", and this run keeps them in " + (float32 ? "float32" : "8 bits") + ": give --optim "
          + (hasFloat32 ? "adamw_torch" : "adamw_8bit") + ", or another --output-dir.");
    }
  }

  private static TensorInfo find(SafetensorsFile in, String name, TensorType type, long... shape) {
    TensorInfo info = in.tensors().get(name);
    if (info == null || info.type() != type || !Arrays.equals(info.shape(), shape)) {
      String found = info == null ? "nothing" : info.type() + " " + Arrays.toString(info.shape());
      throw new OribiException(in.file() + " has " + found + " under " + name + ", where this run needs " + type + " "
          + Arrays.toString(shape) + ": the checkpoint is of another run.");
    }
    return info;
  }
}
