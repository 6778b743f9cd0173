package dev.oribi.testing;

import dev.oribi.io.Checkpoint;
import dev.oribi.io.SafetensorsWriter;
import dev.oribi.io.TensorType;
import dev.oribi.model.config.ModelTensors;
import dev.oribi.model.config.LoraConfig;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.config.TensorSpec;
import dev.oribi.model.family.Architecture;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.Predicate;

/** An adapter of random numbers on every linear layer, as PEFT would have written it. */
public final class RandomAdapter {
  private RandomAdapter() {}

  /** @param size standard deviation of the elements of B; those of A have 1/sqrt(in) */
  public static Path write(Path folder, Path model, int rank, double alpha, boolean rslora, double size) {
    return write(folder, model, rank, alpha, rslora, size, RandomAdapter::isLinear);
  }

  /** The same on some modules, by their names. */
  public static Path write(Path folder, Path model, int rank, double alpha, boolean rslora, double size, Predicate<String> modules) {
    ModelConfig config = ModelConfig.read(model);
    Set<String> targets = new TreeSet<>();
    List<SafetensorsWriter.Tensor> tensors = new ArrayList<>();
    for (TensorSpec spec : ModelTensors.of(config)) {
      String module = spec.name().replaceAll("\\.weight$", "");
      if (spec.shape().length == 2 && modules.test(module)) {
        targets.add(module.substring(module.lastIndexOf('.') + 1));
        tensors.add(new SafetensorsWriter.Tensor(LoraConfig.tensorName(module, "lora_A"), TensorType.F32, rank, spec.shape()[1]));
        tensors.add(new SafetensorsWriter.Tensor(LoraConfig.tensorName(module, "lora_B"), TensorType.F32, spec.shape()[0], rank));
      }
    }
    SafetensorsWriter.write(folder.resolve(LoraConfig.WEIGHTS_FILE), tensors, SafetensorsWriter.PT, (t, sink) -> {
      Random random = new Random(t.name().hashCode());
      float[] values = new float[(int) (t.shape()[0] * t.shape()[1])];
      double deviation = t.name().contains("lora_A") ? 1 / Math.sqrt(t.shape()[1]) : size;
      for (int i = 0; i < values.length; i++) {
        values[i] = (float) (deviation * random.nextGaussian());
      }
      sink.floats(FloatBuffer.wrap(values));
    });
    new LoraConfig(rank, alpha, 0, List.copyOf(targets), null, rslora, List.of(), LoraConfig.Init.KAIMING, Map.of(), Map.of(), model.toString())
        .write(folder);
    return folder;
  }

  /** All matrices but the embedding, the head and routers. */
  public static boolean isLinear(String module) {
    return !module.equals(Architecture.EMBEDDING) && !module.equals(Architecture.HEAD) && !module.endsWith(".gate");
  }

  /** The same adapter without the modules in whose names {@code part} stands. */
  public static void copyWithout(Path from, Path to, String part) throws IOException {
    Files.copy(from.resolve(LoraConfig.FILE), to.resolve(LoraConfig.FILE));
    try (Checkpoint files = Checkpoint.open(from.resolve(LoraConfig.WEIGHTS_FILE))) {
      List<SafetensorsWriter.Tensor> tensors = files.tensors().values().stream().filter(t -> !t.name().contains(part))
          .map(t -> new SafetensorsWriter.Tensor(t.name(), t.type(), t.shape())).toList();
      SafetensorsWriter.write(to.resolve(LoraConfig.WEIGHTS_FILE), tensors, SafetensorsWriter.PT, (t, sink) -> {
        FloatBuffer values = FloatBuffer.allocate(Math.toIntExact(files.tensor(t.name()).elements()));
        files.readFloats(files.tensor(t.name()), 0, values);
        sink.floats(values.flip());
      });
    }
  }
}
