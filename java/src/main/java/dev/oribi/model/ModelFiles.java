package dev.oribi.model;

import com.fasterxml.jackson.databind.node.ObjectNode;
import com.fasterxml.jackson.databind.node.TextNode;
import dev.oribi.io.AtomicFiles;
import dev.oribi.io.Json;
import dev.oribi.io.SafetensorsWriter;
import dev.oribi.io.TensorType;
import dev.oribi.layer.Parameters.Tensor;
import dev.oribi.model.config.LoraConfig;
import dev.oribi.model.config.ModelConfig;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Writes adapters as PEFT does and models as Hugging Face does, with the tokenizer beside the weights. */
public final class ModelFiles {
  private static final String CHOICE_BIAS = ".e_score_correction_bias";
  private static final int CHUNK = 1 << 20;

  /** What travels with the weights, as it is, if the base model's folder has it. */
  private static final List<String> COMPANIONS =
      List.of(
          "tokenizer.json",
          "tokenizer_config.json",
          "special_tokens_map.json",
          "tokenizer.model",
          "vocab.json",
          "merges.txt",
          "added_tokens.json",
          "chat_template.jinja",
          "generation_config.json");

  private final Decoder model;
  private final Weights weights;
  private final Path base;

  /**
   * @param base folder of the base model, for its tokenizer; null to write weights alone
   */
  public ModelFiles(Decoder model, Weights weights, Path base) {
    this.model = model;
    this.weights = weights;
    this.base = base;
  }

  /** Writes what was trained: the adapter, or the whole model. */
  public void write(Path folder) throws IOException {
    if (model.training().lora() != null) {
      writeAdapter(folder);
    } else {
      writeModel(folder);
    }
    copyCompanions(folder);
  }

  /** {@code adapter_model.safetensors} in fp32, {@code adapter_config.json} and a model card. */
  private void writeAdapter(Path folder) {
    LoraConfig lora = model.training().lora();
    Map<String, Tensor> tensors = named(model.parameters().trainable());
    SafetensorsWriter.write(
        folder.resolve(LoraConfig.WEIGHTS_FILE),
        tensors.values().stream().map(t -> new SafetensorsWriter.Tensor(t.name(), TensorType.F32, t.shape())).toList(),
        SafetensorsWriter.PT,
        (t, sink) -> put(tensors.get(t.name()), sink));
    (lora.targetModules().equals(LoraConfig.ALL_LINEAR) ? lora.targeting(model.linearModules()) : lora).write(folder);
    AtomicFiles.text(folder.resolve("README.md"), card(lora));
  }

  /** Weights in the type that {@code config.json} names, or in 4 bits where they are so, and {@code config.json}. */
  private void writeModel(Path folder) {
    String dtype = model.config().dtype() == null ? "float32" : model.config().dtype();
    List<SafetensorsWriter.Tensor> tensors = new ArrayList<>();
    Map<String, Content> contents = new HashMap<>();
    for (Tensor t : model.parameters().tensors()) {
      if (t.nf4() != null) {
        Nf4Tensors.add(t, dtype, weights, tensors, contents);
      } else {
        tensors.add(new SafetensorsWriter.Tensor(t.name(), fileType(model.config(), t.name()), t.shape()));
        contents.put(t.name(), sink -> put(t, sink));
      }
    }
    SafetensorsWriter.writeModel(
        folder, tensors, SafetensorsWriter.DEFAULT_SHARD_BYTES, (t, sink) -> contents.get(t.name()).write(sink));
    ObjectNode config = model.config().toJson();
    if (model.quantization() != null) {
      model.quantization().putInto(config, dtype);
    }
    Json.write(folder.resolve(ModelConfig.FILE), config);
  }

  /** Puts the data of one tensor of a file. */
  @FunctionalInterface
  interface Content {
    void write(SafetensorsWriter.Sink sink) throws IOException;
  }

  /**
   * The type in which a weight of a model is written. transformers keeps the bias of DeepSeek V3's choice of experts in fp32 whatever
   * the model is in: rounded to 16 bits it would choose others.
   */
  public static TensorType fileType(ModelConfig config, String name) {
    return name.endsWith(CHOICE_BIAS) ? TensorType.F32 : switch (config.dtype() == null ? "float32" : config.dtype()) {
      case "bfloat16" -> TensorType.BF16;
      case "float16" -> TensorType.F16;
      default -> TensorType.F32;
    };
  }

  private static Map<String, Tensor> named(List<Tensor> tensors) {
    Map<String, Tensor> named = new LinkedHashMap<>();
    for (Tensor t : tensors) {
      named.put(t.name(), t);
    }
    return named;
  }

  private void put(Tensor t, SafetensorsWriter.Sink sink) throws IOException {
    FloatBuffer chunk = FloatBuffer.allocate(CHUNK);
    for (long at = 0; at < t.elements(); at += CHUNK) {
      chunk.clear().limit((int) Math.min(CHUNK, t.elements() - at));
      weights.read(t, at, chunk);
      sink.floats(chunk.flip());
    }
  }

  private static String card(LoraConfig lora) {
    String name = lora.baseModelNameOrPath() == null ? "" : lora.baseModelNameOrPath();
    return "---\nbase_model: " + Json.compact(TextNode.valueOf(name)) + "\nlibrary_name: peft\npipeline_tag: text-generation\n"
        + "tags:\n- lora\n- oribi\n---\n\nA LoRA adapter (r = " + lora.r() + ", lora_alpha = " + lora.loraAlpha()
        + ") trained with Oribi.\n";
  }

  private void copyCompanions(Path folder) throws IOException {
    if (base != null && !(Files.exists(folder) && Files.isSameFile(base, folder))) {
      copyCompanions(base, folder);
    }
  }

  /** Copies the tokenizer, the template and the settings of generation from one model folder into another. */
  public static void copyCompanions(Path from, Path folder) throws IOException {
    copy(from, folder, COMPANIONS);
  }

  /** Copies those files that there are. */
  public static void copy(Path fromFolder, Path folder, List<String> names) throws IOException {
    for (String name : names) {
      Path from = fromFolder.resolve(name);
      if (Files.isRegularFile(from)) {
        AtomicFiles.file(folder.resolve(name), out -> {
          try (FileChannel in = FileChannel.open(from, StandardOpenOption.READ)) {
            long size = in.size();
            for (long at = 0; at < size; ) {
              at += in.transferTo(at, size - at, out);
            }
          }
        });
      }
    }
  }
}
