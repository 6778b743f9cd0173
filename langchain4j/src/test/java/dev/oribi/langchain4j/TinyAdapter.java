package dev.oribi.langchain4j;

import dev.oribi.io.SafetensorsWriter;
import dev.oribi.io.TensorType;
import dev.oribi.model.config.LoraConfig;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.config.ModelTensors;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;

/** An adapter of random numbers, large enough to change every answer of the tiny model. */
final class TinyAdapter {
  static final Path TINY = Path.of("../models/tiny/model");

  private TinyAdapter() {}

  static void write(Path adapterFolder) {
    List<SafetensorsWriter.Tensor> tensors = new ArrayList<>();
    ModelTensors.of(ModelConfig.read(TINY)).stream().filter(s -> s.name().contains("q_proj")).forEach(s -> {
      String module = s.name().replace(".weight", "");
      tensors.add(new SafetensorsWriter.Tensor(LoraConfig.tensorName(module, "lora_A"), TensorType.F32, 4, s.shape()[1]));
      tensors.add(new SafetensorsWriter.Tensor(LoraConfig.tensorName(module, "lora_B"), TensorType.F32, s.shape()[0], 4));
    });
    SafetensorsWriter.write(adapterFolder.resolve(LoraConfig.WEIGHTS_FILE), tensors, SafetensorsWriter.PT, (t, sink) -> {
      FloatBuffer values = FloatBuffer.allocate((int) t.bytes() / 4);
      Random random = new Random(t.name().hashCode());
      while (values.hasRemaining()) {
        values.put((float) random.nextGaussian() / 2);
      }
      sink.floats(values.flip());
    });
    new LoraConfig(4, 8, 0, List.of("q_proj"), null, false, List.of(), LoraConfig.Init.KAIMING, Map.of(), Map.of(), "tiny").write(adapterFolder);
  }
}
