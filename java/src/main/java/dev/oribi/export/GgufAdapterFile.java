package dev.oribi.export;

import dev.oribi.OribiException;
import dev.oribi.gguf.GgmlType;
import dev.oribi.gguf.GgufFamily;
import dev.oribi.gguf.GgufFile;
import dev.oribi.gguf.GgufTensor;
import dev.oribi.gguf.GgufValue;
import dev.oribi.gguf.GgufWriter;
import dev.oribi.gguf.RowOrder;
import dev.oribi.io.Checkpoint;
import dev.oribi.io.TensorInfo;
import dev.oribi.model.config.LoraConfig;
import dev.oribi.model.config.ModelConfig;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * A PEFT adapter as llama.cpp's adapter file: A and B of each module in fp32 beside the name of its weight, and one alpha.
 *
 * <p>llama.cpp scales by alpha over the rank of the tensor. Where PEFT scales a module otherwise (rank-stabilized, or by a pattern) the
 * difference is multiplied into its B. Modules trained whole have no place in such a file and are refused.
 */
final class GgufAdapterFile {
  private static final String A = ".lora_a";
  private static final String B = ".lora_b";
  private static final int MODULE_PARTS = ".lora_A.weight".length();

  /** A tensor of the file and where it comes from. */
  private record Part(TensorInfo from, float factor, RowOrder order) {}

  private final LoraConfig lora;
  private final ModelConfig config;
  private final GgufFamily family;

  GgufAdapterFile(Path modelFolder, Path adapterFolder) {
    this.lora = LoraConfig.read(adapterFolder);
    if (!lora.targetParameters().isEmpty()) {
      throw new OribiException(adapterFolder + ": target_parameters " + lora.targetParameters() + ", adapters of fused experts, have no place"
          + " in a GGUF adapter: export the merged model instead (--format gguf)");
    }
    this.config = ModelConfig.read(modelFolder);
    this.family = GgufFamily.ofModelType(config.modelType());
    if (!lora.modulesToSave().isEmpty()) {
      throw new OribiException(adapterFolder + ": " + lora.modulesToSave() + " were trained whole, and an adapter in GGUF cannot hold them:"
          + " export the merged model instead (--format gguf)");
    }
  }

  void write(Path adapterFolder, Path file) {
    try (Checkpoint files = Checkpoint.open(adapterFolder.resolve(LoraConfig.WEIGHTS_FILE))) {
      Map<String, Part> parts = new LinkedHashMap<>();
      List<GgufWriter.Tensor> tensors = new ArrayList<>();
      for (TensorInfo t : files.tensors().values()) {
        add(t, parts, tensors);
      }
      Map<String, GgufValue> keys = new LinkedHashMap<>();
      keys.put("general.architecture", GgufValue.string(family.architecture()));
      keys.put("general.type", GgufValue.string("adapter"));
      keys.put("adapter.type", GgufValue.string("lora"));
      keys.put("adapter.lora.alpha", GgufValue.f32(lora.loraAlpha()));
      keys.put("general.file_type", GgufValue.u32(0));
      GgufWriter.write(file, keys, tensors, (t, sink) -> {
        float[] values = read(files, parts.get(t.name()));
        sink.floats(values, values.length);
      });
    }
  }

  private void add(TensorInfo t, Map<String, Part> parts, List<GgufWriter.Tensor> tensors) {
    boolean a = t.name().endsWith(".lora_A.weight");
    boolean b = t.name().endsWith(".lora_B.weight");
    if (!t.name().startsWith(LoraConfig.PREFIX) || !a && !b) {
      throw new OribiException(t.file() + ": the adapter's tensor " + t.name() + " has no place in a GGUF adapter; nothing is left out");
    }
    String module = t.name().substring(LoraConfig.PREFIX.length(), t.name().length() - MODULE_PARTS);
    String name = family.ggufName(module + ".weight") + (a ? A : B);
    float factor = b ? (float) (lora.scale(module) * lora.rank(module) / lora.loraAlpha()) : 1;
    RowOrder order = a ? RowOrder.SAME
        : family.rowOrder(module + ".weight", config.numAttentionHeads(), config.numKeyValueHeads(), config.headDim());
    parts.put(name, new Part(t, factor, order));
    tensors.add(new GgufWriter.Tensor(name, GgmlType.F32, t.shape()));
  }

  private static float[] read(Checkpoint files, Part part) {
    int cols = (int) part.from.shape()[1];
    float[] values = new float[Math.toIntExact(part.from.elements())];
    files.readFloats(part.from, 0, FloatBuffer.wrap(values));
    float[] turned = new float[values.length];
    for (int row = 0; row < values.length / cols; row++) {
      int from = (int) part.order.modelRow(row) * cols;
      for (int i = 0; i < cols; i++) {
        turned[row * cols + i] = values[from + i] * part.factor;
      }
    }
    return turned;
  }

  /** The largest difference between what a file says of a module's A and B, times its scale, and what the adapter says. */
  static double difference(Path modelFolder, Path adapterFolder, Path file) {
    GgufAdapterFile expected = new GgufAdapterFile(modelFolder, adapterFolder);
    double largest = 0;
    try (Checkpoint files = Checkpoint.open(adapterFolder.resolve(LoraConfig.WEIGHTS_FILE)); GgufFile written = GgufFile.open(file)) {
      float alpha = (Float) written.metadata().get("adapter.lora.alpha").value();
      if (written.tensors().size() != files.tensors().size()) {
        throw new OribiException(file + ": holds " + written.tensors().size() + " tensors of " + files.tensors().size());
      }
      for (TensorInfo t : files.tensors().values()) {
        boolean b = t.name().endsWith(".lora_B.weight");
        String module = t.name().substring(LoraConfig.PREFIX.length(), t.name().length() - MODULE_PARTS);
        GgufTensor w = written.tensor(expected.family.ggufName(module + ".weight") + (b ? B : A));
        float[] found = new float[Math.toIntExact(w.elements())];
        written.readFloats(w, 0, FloatBuffer.wrap(found));
        float[] given = new float[found.length];
        files.readFloats(t, 0, FloatBuffer.wrap(given));
        RowOrder order = b ? expected.family.rowOrder(module + ".weight", expected.config.numAttentionHeads(),
            expected.config.numKeyValueHeads(), expected.config.headDim()) : RowOrder.SAME;
        double ours = b ? alpha / expected.lora.rank(module) : 1;
        double theirs = b ? expected.lora.scale(module) : 1;
        int cols = (int) w.cols();
        for (int i = 0; i < given.length; i++) {
          int at = (int) order.fileRow(i / cols) * cols + i % cols;
          largest = Math.max(largest, Math.abs(ours * found[at] - theirs * given[i]));
        }
      }
    }
    return largest;
  }
}
