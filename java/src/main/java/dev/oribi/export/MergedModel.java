package dev.oribi.export;

import dev.oribi.OribiException;
import dev.oribi.io.Checkpoint;
import dev.oribi.io.TensorInfo;
import dev.oribi.layer.ExpertsLast;
import dev.oribi.model.config.FusedExperts;
import dev.oribi.model.config.LoraConfig;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.family.Architecture;
import dev.oribi.model.family.Architecture.ExpertsSpec;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;

/**
 * A model with its adapter added to the weights: {@code W + s·B·A}, in fp32 from the weights as they are stored.
 *
 * <p>Nothing of an adapter is left out: a tensor of it that finds no weight is an error. Modules that were trained whole take
 * the place of the base's. A head that shares the embedding becomes a tensor of its own where one of the two was trained.
 */
final class MergedModel implements AutoCloseable {
  private static final String EMBEDDING = "model.embed_tokens.weight";
  private static final String HEAD = "lm_head.weight";

  /** Rows that one task of the product takes. */
  private static final int TASK = 16;

  /** An adapter of one weight. */
  private record Delta(float[] a, float[] b, int rank, float scale) {}

  private final BaseWeights base;
  private final Checkpoint adapter;
  private final Map<String, Delta> deltas = new HashMap<>();
  private final Map<String, TensorInfo> saved = new HashMap<>();
  private final List<String> names;

  /** @param adapter folder of a PEFT adapter, or null */
  MergedModel(Path folder, Path adapterFolder) {
    base = BaseWeights.open(folder);
    Checkpoint opened = null;
    try {
      opened = adapterFolder == null ? null : Checkpoint.open(adapterFolder.resolve(LoraConfig.WEIGHTS_FILE));
      adapter = opened;
      names = new ArrayList<>(base.names());
      if (adapter != null) {
        readAdapter(LoraConfig.read(adapterFolder), adapterFolder, folder);
      }
      if (ModelConfig.read(folder).tieWordEmbeddings()) {
        names.remove(HEAD); // some files hold a copy of the embedding
        if (saved.containsKey(EMBEDDING) || saved.containsKey(HEAD)) {
          names.add(HEAD);
        }
      }
    } catch (RuntimeException e) {
      base.close();
      if (opened != null) {
        opened.close();
      }
      throw e;
    }
  }

  private void readAdapter(LoraConfig lora, Path folder, Path modelFolder) {
    Set<String> used = new HashSet<>();
    readFusedExperts(lora, ModelConfig.read(modelFolder), used);
    for (String weight : base.names()) {
      String module = weight.endsWith(".weight") ? weight.substring(0, weight.length() - ".weight".length()) : weight;
      TensorInfo a = adapter.tensors().get(LoraConfig.tensorName(module, "lora_A"));
      TensorInfo b = adapter.tensors().get(LoraConfig.tensorName(module, "lora_B"));
      if (a != null && b != null) {
        deltas.put(weight, delta(a, b, (float) lora.scale(module), base.shape(weight)));
        used.add(a.name());
        used.add(b.name());
      }
    }
    for (String module : List.of("model.embed_tokens", "lm_head")) {
      TensorInfo whole = adapter.tensors().get(LoraConfig.savedName(module));
      if (whole != null) {
        saved.put(module + ".weight", whole);
        used.add(whole.name());
      }
    }
    for (String name : adapter.tensors().keySet()) {
      if (!used.contains(name)) {
        throw new OribiException(folder + ": the adapter's tensor " + name + " belongs to no weight of the model; nothing of an adapter is left out");
      }
    }
    if (used.isEmpty()) {
      throw new OribiException(folder + ": the adapter is empty");
    }
  }

  /** Of an adapter on fused experts, each weight's own rows of A and B. */
  private void readFusedExperts(LoraConfig lora, ModelConfig config, Set<String> used) {
    List<Architecture.Layer> layers = config.architecture().layers();
    for (int i = 0; i < layers.size(); i++) {
      if (layers.get(i).mlp() instanceof ExpertsSpec x) {
        FusedExperts names = new FusedExperts(lora, Architecture.LAYER + i);
        readFused(names, FusedExperts.GATE_UP, x, List.of(0, 1), used);
        readFused(names, FusedExperts.DOWN, x, List.of(2), used);
      }
    }
  }

  private void readFused(FusedExperts names, String parameter, ExpertsSpec x, List<Integer> which, Set<String> used) {
    if (!names.adapts(parameter)) {
      return;
    }
    TensorInfo a = adapter.tensors().get(names.tensorName(parameter, "lora_A"));
    TensorInfo b = adapter.tensors().get(names.tensorName(parameter, "lora_B"));
    int experts = x.shape().experts();
    int rank = names.rank(parameter);
    long[] shape = base.shape(names.layer() + "." + x.module(0, which.get(0)) + ".weight");
    long[] shapeOfA = {(long) experts * rank, shape[1]};
    long[] shapeOfB = {which.size() * shape[0], (long) rank * experts};
    if (a == null || b == null || !Arrays.equals(a.shape(), shapeOfA) || !Arrays.equals(b.shape(), shapeOfB)) {
      throw new OribiException("the adapter's " + names.tensorName(parameter, "lora_A") + " and lora_B must be " + Arrays.toString(shapeOfA)
          + " and " + Arrays.toString(shapeOfB) + " for these experts");
    }
    float[] allOfA = values(a);
    float[] allOfB = new ExpertsLast(experts, rank).fromFile(values(b));
    int sizeOfA = allOfA.length / experts;
    int sizeOfB = allOfB.length / experts / which.size();
    for (int e = 0; e < experts; e++) {
      for (int w = 0; w < which.size(); w++) {
        int at = (e * which.size() + w) * sizeOfB;
        deltas.put(names.layer() + "." + x.module(e, which.get(w)) + ".weight", new Delta(
            Arrays.copyOfRange(allOfA, e * sizeOfA, (e + 1) * sizeOfA), Arrays.copyOfRange(allOfB, at, at + sizeOfB), rank,
            (float) names.scale(parameter)));
      }
    }
    used.add(a.name());
    used.add(b.name());
  }

  private Delta delta(TensorInfo a, TensorInfo b, float scale, long[] shape) {
    if (a.shape().length != 2 || b.shape().length != 2 || a.shape()[1] != shape[1] || b.shape()[0] != shape[0]
        || a.shape()[0] != b.shape()[1]) {
      throw new OribiException(a.file() + ": " + a + " and " + b + " do not fit a weight of " + shape[0] + " x " + shape[1]);
    }
    return new Delta(values(a), values(b), (int) a.shape()[0], scale);
  }

  private float[] values(TensorInfo t) {
    float[] values = new float[Math.toIntExact(t.elements())];
    adapter.readFloats(t, 0, FloatBuffer.wrap(values));
    return values;
  }

  /** Every weight of the merged model. */
  List<String> names() {
    return names;
  }

  /** Whether an adapter is part of this weight. */
  boolean adapted(String name) {
    return deltas.containsKey(name) || saved.containsKey(name);
  }

  /** Whether head and embedding are different tensors. */
  boolean ownHead() {
    return names.contains(HEAD);
  }

  long[] shape(String name) {
    return base.shape(source(name));
  }

  /** A head that is written although the base has none begins as the embedding of the base. */
  private String source(String name) {
    return name.equals(HEAD) && !base.names().contains(HEAD) ? EMBEDDING : name;
  }

  /** {@code count} rows from {@code row} on, which lie at the beginning of {@code into}; a vector is one row. */
  void read(String name, long row, int count, float[] into) {
    long[] shape = shape(name);
    int cols = Math.toIntExact(shape[shape.length - 1]);
    FloatBuffer values = FloatBuffer.wrap(into, 0, count * cols);
    if (saved.containsKey(name)) {
      adapter.readFloats(saved.get(name), row * cols, values);
    } else {
      base.readRows(source(name), row, values);
    }
    Delta d = deltas.get(name);
    if (d != null) {
      IntStream.range(0, (count + TASK - 1) / TASK).parallel().forEach(task -> {
        float[] sum = new float[cols];
        for (int r = task * TASK; r < Math.min(count, (task + 1) * TASK); r++) {
          add(into, r * cols, d, Math.toIntExact(row + r), sum);
        }
      });
    }
    requireFinite(name, into, count * cols);
  }

  /** The product is summed by itself, so that its small terms are not rounded against the weight one by one. */
  private static void add(float[] into, int at, Delta d, int row, float[] sum) {
    Arrays.fill(sum, 0);
    for (int k = 0; k < d.rank; k++) {
      float b = d.b[row * d.rank + k];
      int from = k * sum.length;
      for (int i = 0; i < sum.length; i++) {
        sum[i] += b * d.a[from + i];
      }
    }
    for (int i = 0; i < sum.length; i++) {
      into[at + i] += d.scale * sum[i];
    }
  }

  private static void requireFinite(String name, float[] values, int n) {
    for (int i = 0; i < n; i++) {
      if (!Float.isFinite(values[i])) {
        throw new OribiException(name + " holds numbers that are not finite: the model or the adapter is damaged");
      }
    }
  }

  @Override
  public void close() {
    base.close();
    if (adapter != null) {
      adapter.close();
    }
  }
}
