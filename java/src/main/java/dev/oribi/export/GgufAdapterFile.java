package dev.oribi.export;

import dev.oribi.OribiException;
import dev.oribi.gguf.GgmlType;
import dev.oribi.gguf.GgufFile;
import dev.oribi.gguf.GgufNames;
import dev.oribi.gguf.GgufTensor;
import dev.oribi.gguf.GgufValue;
import dev.oribi.gguf.GgufWriter;
import dev.oribi.gguf.RowOrder;
import dev.oribi.gguf.family.GgufFamilies;
import dev.oribi.gguf.family.GgufFamily;
import dev.oribi.io.Checkpoint;
import dev.oribi.io.TensorInfo;
import dev.oribi.model.config.LoraConfig;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.config.ModelTensors;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/**
 * A PEFT adapter as llama.cpp's adapter file: A and B of each module in fp32 beside the name of its weight, and one alpha. The
 * adapters of a layer's experts are stacks as their weights are.
 *
 * <p>llama.cpp scales by alpha over the rank of the tensor. Where PEFT scales a module otherwise (rank-stabilized, or by a pattern) the
 * difference is multiplied into its B. Modules trained whole have no place in such a file and are refused, and so are adapters
 * of some experts alone, and of what llama.cpp multiplies without asking for adapters ({@link GgufFamily#adapts}).
 */
final class GgufAdapterFile {
  private static final String A = ".lora_a";
  private static final String B = ".lora_b";
  private static final int MODULE_PARTS = ".lora_A.weight".length();

  /**
   * A tensor of the adapter and its place.
   *
   * @param name of the file's tensor
   * @param part which matrix of it
   * @param parts matrices of it; 0: the tensor is this one alone
   */
  private record Part(TensorInfo from, String name, int part, int parts, float factor, RowOrder order) {}

  private final LoraConfig lora;
  private final GgufFamily family;
  private final GgufNames names;
  /** Of the model's weights; a tied head is none. */
  private final Map<String, long[]> shapes = new HashMap<>();

  GgufAdapterFile(Path modelFolder, Path adapterFolder) {
    this.lora = LoraConfig.read(adapterFolder);
    if (!lora.targetParameters().isEmpty()) {
      throw new OribiException(adapterFolder + ": target_parameters " + lora.targetParameters() + ", adapters of fused experts, have no place"
          + " in a GGUF adapter: export the merged model instead (--format gguf)");
    }
    ModelConfig config = ModelConfig.read(modelFolder);
    this.family = GgufFamilies.ofModelType(config.modelType());
    this.names = family.names(config);
    ModelTensors.of(config).forEach(spec -> shapes.put(spec.name(), spec.shape()));
    if (!lora.modulesToSave().isEmpty()) {
      throw new OribiException(adapterFolder + ": " + lora.modulesToSave() + " were trained whole, and an adapter in GGUF cannot hold them:"
          + " export the merged model instead (--format gguf)");
    }
  }

  void write(Path adapterFolder, Path file) {
    try (Checkpoint files = Checkpoint.open(adapterFolder.resolve(LoraConfig.WEIGHTS_FILE))) {
      requireWhole(files);
      Map<String, TreeMap<Integer, Part>> parts = new LinkedHashMap<>();
      for (TensorInfo t : files.tensors().values()) {
        Part part = part(t);
        parts.computeIfAbsent(part.name, n -> new TreeMap<>()).put(part.part, part);
      }
      Map<String, GgufValue> keys = new LinkedHashMap<>();
      keys.put("general.architecture", GgufValue.string(family.architecture()));
      keys.put("general.type", GgufValue.string("adapter"));
      keys.put("adapter.type", GgufValue.string("lora"));
      keys.put("adapter.lora.alpha", GgufValue.f32(lora.loraAlpha()));
      keys.put("general.file_type", GgufValue.u32(0));
      List<GgufWriter.Tensor> tensors = parts.values().stream().map(p -> tensor(List.copyOf(p.values()))).toList();
      GgufWriter.write(file, keys, tensors, (t, sink) -> {
        for (Part part : parts.get(t.name()).values()) {
          float[] values = read(files, part);
          sink.floats(values, values.length);
        }
      });
    }
  }

  private static GgufWriter.Tensor tensor(List<Part> parts) {
    Part first = parts.get(0);
    long[] shape = first.from.shape();
    for (Part p : parts) {
      if (parts.size() != Math.max(1, p.parts) || !Arrays.equals(p.from.shape(), shape)) {
        throw new OribiException(p.from.file() + ": " + p.from.name() + ": an adapter in GGUF holds adapters of one rank for all " + p.parts
            + " experts of a layer or none, and here are " + parts.size() + ": export the merged model instead (--format gguf)");
      }
    }
    return new GgufWriter.Tensor(first.name, GgmlType.F32, first.parts == 0 ? shape : new long[] {first.parts, shape[0], shape[1]});
  }

  /** Every module has A and B, which fit its weight and each other: a run would ask for that, and none reads this adapter here. */
  private void requireWhole(Checkpoint files) {
    for (TensorInfo t : files.tensors().values()) {
      boolean a = t.name().endsWith(".lora_A.weight");
      if (!t.name().startsWith(LoraConfig.PREFIX) || !a && !t.name().endsWith(".lora_B.weight")) {
        throw new OribiException(t.file() + ": the adapter's tensor " + t.name() + " has no place in a GGUF adapter; nothing is left out");
      }
      long[] weight = shapes.get(module(t) + ".weight");
      String other = LoraConfig.tensorName(module(t), a ? "lora_B" : "lora_A");
      if (weight == null || weight.length != 2 || !files.tensors().containsKey(other)) {
        throw new OribiException(t.file() + ": the adapter's tensor " + t.name() + (weight == null ? " belongs to no weight of the model" : " has no "
            + other + " beside it") + "; nothing of an adapter is left out");
      }
      int rank = lora.rank(module(t));
      long[] expected = a ? new long[] {rank, weight[1]} : new long[] {weight[0], rank};
      if (!Arrays.equals(t.shape(), expected)) {
        throw new OribiException(t.file() + ": the adapter's tensor " + t.name() + " has shape " + Arrays.toString(t.shape())
            + ", the model and adapter_config.json ask for " + Arrays.toString(expected) + "; do they belong together?");
      }
    }
  }

  private Part part(TensorInfo t) {
    boolean a = t.name().endsWith(".lora_A.weight");
    String module = module(t);
    GgufNames.Place place = names.place(module + ".weight");
    if (!family.adapts(place.tensor())) {
      throw new OribiException(t.file() + ": llama.cpp applies no adapter to " + module + " in architecture " + family.architecture()
          + ", and would run without it: export the merged model instead (--format gguf), or train modules other than that");
    }
    float factor = !a ? (float) (lora.scale(module) * lora.rank(module) / lora.loraAlpha()) : 1;
    return new Part(t, place.tensor() + (a ? A : B), place.part(), place.parts(), factor, a ? RowOrder.SAME : place.order());
  }

  private static String module(TensorInfo t) {
    return t.name().substring(LoraConfig.PREFIX.length(), t.name().length() - MODULE_PARTS);
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
    long elements = 0;
    try (Checkpoint files = Checkpoint.open(adapterFolder.resolve(LoraConfig.WEIGHTS_FILE)); GgufFile written = GgufFile.open(file)) {
      float alpha = (Float) written.metadata().get("adapter.lora.alpha").value();
      for (TensorInfo t : files.tensors().values()) {
        largest = Math.max(largest, expected.difference(files, t, written, alpha));
        elements += t.elements();
      }
      long found = written.tensors().values().stream().mapToLong(GgufTensor::elements).sum();
      if (found != elements) {
        throw new OribiException(file + ": holds " + found + " numbers of " + elements);
      }
    }
    return largest;
  }

  private double difference(Checkpoint files, TensorInfo t, GgufFile written, float alpha) {
    Part part = part(t);
    GgufTensor w = written.tensor(part.name);
    float[] given = new float[Math.toIntExact(t.elements())];
    files.readFloats(t, 0, FloatBuffer.wrap(given));
    float[] found = new float[given.length];
    written.readFloats(w, (long) part.part * given.length, FloatBuffer.wrap(found));
    boolean b = part.name.endsWith(B);
    double ours = b ? alpha / lora.rank(module(t)) : 1;
    double theirs = b ? lora.scale(module(t)) : 1;
    int cols = (int) w.cols();
    double largest = 0;
    for (int i = 0; i < given.length; i++) {
      int at = (int) part.order.fileRow(i / cols) * cols + i % cols;
      largest = Math.max(largest, Math.abs(ours * found[at] - theirs * given[i]));
    }
    return largest;
  }
}
