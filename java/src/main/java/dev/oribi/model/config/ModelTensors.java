package dev.oribi.model.config;

import dev.oribi.OribiException;
import dev.oribi.io.Checkpoint;
import dev.oribi.io.TensorInfo;
import dev.oribi.model.family.Architecture;
import dev.oribi.model.family.Architecture.ExpertsSpec;
import dev.oribi.model.family.Architecture.GatedMlpSpec;
import dev.oribi.model.family.Architecture.LatentAttentionSpec;
import dev.oribi.model.family.Architecture.SelfAttentionSpec;
import dev.oribi.model.family.Families;
import dev.oribi.quant.Nf4Format;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/** The one table of names and shapes of a model's tensors in a checkpoint, as its {@link Architecture} names them. */
public final class ModelTensors {
  private static final String WEIGHT = ".weight";

  public static final String EMBEDDING = Architecture.EMBEDDING + WEIGHT;
  public static final String FINAL_NORM = Architecture.LAST_NORM + WEIGHT;
  public static final String LM_HEAD = Architecture.HEAD + WEIGHT;

  private static final int COMPARE_BYTES = 1 << 22;

  private ModelTensors() {}

  /** All weights in the order of the forward pass; the output projection is absent if it is tied to the embedding. */
  public static List<TensorSpec> of(ModelConfig config) {
    List<TensorSpec> specs = new ArrayList<>();
    specs.add(new TensorSpec(EMBEDDING, config.vocabSize(), config.hiddenSize()));
    List<Architecture.Layer> layers = config.architecture().layers();
    for (int layer = 0; layer < layers.size(); layer++) {
      addLayer(specs, Architecture.LAYER + layer + ".", config, layers.get(layer));
    }
    specs.add(new TensorSpec(FINAL_NORM, config.hiddenSize()));
    if (!config.tieWordEmbeddings()) {
      specs.add(new TensorSpec(LM_HEAD, config.vocabSize(), config.hiddenSize()));
    }
    return List.copyOf(specs);
  }

  /** Parameters of the model, a shared head counted once. */
  public static long elements(ModelConfig config) {
    return of(config).stream().mapToLong(s -> Arrays.stream(s.shape()).reduce(1, (a, b) -> a * b)).sum();
  }

  private static void addLayer(List<TensorSpec> specs, String layer, ModelConfig config, Architecture.Layer l) {
    long c = config.hiddenSize();
    addVector(specs, layer + l.inputNorm(), c);
    if (l.attention() instanceof SelfAttentionSpec a) {
      addAttention(specs, layer, config, a);
    } else if (l.attention() instanceof LatentAttentionSpec a) {
      addLatent(specs, layer, config, a);
    }
    addVector(specs, layer + l.midNorm(), c);
    if (l.mlp() instanceof GatedMlpSpec m) {
      addMlp(specs, layer, m, c, config.intermediateSize());
    } else if (l.mlp() instanceof ExpertsSpec x) {
      addExperts(specs, layer, x, c);
    }
  }

  private static void addMlp(List<TensorSpec> specs, String layer, GatedMlpSpec m, long c, long f) {
    addLinears(specs, layer, m.gateUp(), c, m.biases(), f, f);
    addLinears(specs, layer, List.of(m.down()), f, m.biases(), c);
    addVector(specs, layer, m.outputNorm(), c);
  }

  private static void addExperts(List<TensorSpec> specs, String layer, ExpertsSpec x, long c) {
    specs.add(new TensorSpec(layer + x.router() + WEIGHT, x.shape().experts(), c));
    if (x.choiceBias() != null) {
      specs.add(new TensorSpec(layer + x.choiceBias(), x.shape().experts()));
    }
    for (int e = 0; e < x.shape().experts(); e++) {
      addLinears(specs, layer, List.of(x.module(e, 0), x.module(e, 1)), c, false, x.size(), x.size());
      addLinears(specs, layer, List.of(x.module(e, 2)), x.size(), false, c);
    }
    if (x.shared() != null) {
      addMlp(specs, layer, x.shared(), c, x.sharedSize());
    }
  }

  private static void addLatent(List<TensorSpec> specs, String layer, ModelConfig config, LatentAttentionSpec a) {
    long c = config.hiddenSize();
    addLinears(specs, layer, a.down(), c, a.biases(), a.downRows());
    addLinears(specs, layer, List.of(a.q()), a.qRank() == 0 ? c : a.qRank(), false, a.shape().q());
    if (a.qRank() > 0) {
      addVector(specs, layer + LatentAttentionSpec.Q_NORM, a.qRank());
    }
    addVector(specs, layer + LatentAttentionSpec.KV_NORM, a.kvRank());
    addLinears(specs, layer, List.of(LatentAttentionSpec.KV), a.kvRank(), false, a.shape().kv());
    addLinears(specs, layer, List.of(LatentAttentionSpec.O), a.shape().out(), a.biases(), c);
  }

  private static void addAttention(List<TensorSpec> specs, String layer, ModelConfig config, SelfAttentionSpec a) {
    long q = (long) config.numAttentionHeads() * config.headDim();
    long kv = (long) config.numKeyValueHeads() * config.headDim();
    addLinears(specs, layer, a.qkv(), config.hiddenSize(), a.qkvBias(), q, kv, kv);
    addVector(specs, layer, a.qNorm(), config.headDim());
    addVector(specs, layer, a.kNorm(), config.headDim());
    addVector(specs, layer, a.outputNorm(), config.hiddenSize());
    addLinears(specs, layer, List.of(a.o()), q, a.oBias(), config.hiddenSize());
  }

  /** Weights and biases of modules that have {@code rows} each, or of one that has them all. */
  private static void addLinears(
      List<TensorSpec> specs, String layer, List<String> modules, long in, boolean biases, long... rows) {
    long[] each = modules.size() == 1 ? new long[] {Arrays.stream(rows).sum()} : rows;
    for (int i = 0; i < each.length; i++) {
      specs.add(new TensorSpec(layer + modules.get(i) + WEIGHT, each[i], in));
    }
    for (int i = 0; biases && i < each.length; i++) {
      specs.add(new TensorSpec(layer + modules.get(i) + ".bias", each[i]));
    }
  }

  private static void addVector(List<TensorSpec> specs, String layer, String norm, long size) {
    if (norm != null) {
      addVector(specs, layer + norm, size);
    }
  }

  private static void addVector(List<TensorSpec> specs, String norm, long size) {
    specs.add(new TensorSpec(norm + WEIGHT, size));
  }

  /**
   * Checks that a checkpoint holds exactly what the model needs: every tensor, in its shape, as F32, BF16 or F16 (or in 4 bits,
   * where config.json says so), and none that the model would not use. Rotary tables that older tools stored are let pass, and so is an {@code lm_head.weight} that
   * repeats the tied embedding.
   */
  public static void check(ModelConfig config, Checkpoint checkpoint) {
    Set<String> known = new HashSet<>();
    QuantizationConfig quantization = config.quantization();
    for (TensorSpec spec : of(config)) {
      known.add(spec.name());
      if (isQuantized(spec, quantization)) {
        checkQuantized(spec, checkpoint);
        Nf4Format.SUFFIXES.forEach(suffix -> known.add(spec.name() + suffix));
      } else {
        checkOne(spec, checkpoint);
      }
    }
    for (TensorInfo tensor : checkpoint.tensors().values()) {
      if (tensor.name().equals(LM_HEAD) && config.tieWordEmbeddings()) {
        checkTied(tensor, checkpoint);
      } else if (!known.contains(tensor.name()) && !tensor.name().endsWith("rotary_emb.inv_freq")
          && !Families.of(config.modelType()).leavesOut(tensor.name(), config)) {
        throw new OribiException(tensor.file() + ": tensor " + tensor.name() + " has no place in a " + config.modelType() + " model with "
            + config.numHiddenLayers() + " layers; do config.json and weights belong together?");
      }
    }
  }

  /** Whether the checkpoint holds this weight in 4 bits: those of linear layers that are not left out by name. */
  private static boolean isQuantized(TensorSpec spec, QuantizationConfig quantization) {
    boolean linear = spec.shape().length == 2 && !spec.name().equals(EMBEDDING) && !spec.name().equals(LM_HEAD)
        && !spec.name().endsWith(".gate" + WEIGHT); // a router is held as it is
    return linear && quantization != null
        && quantization.quantizes(spec.name().substring(0, spec.name().length() - ".weight".length()));
  }

  private static void checkQuantized(TensorSpec spec, Checkpoint checkpoint) {
    if (checkpoint.tensors().containsKey(spec.name()) && !Nf4Format.isStored(checkpoint, spec.name())) {
      throw new OribiException(checkpoint.tensor(spec.name()).file() + ": tensor " + spec.name() + " is not in 4 bits although"
          + " quantization_config of config.json says so; name its layer in llm_int8_skip_modules, or fetch both again.");
    }
    Nf4Format.check(checkpoint, spec.name(), spec.shape());
  }

  private static void checkOne(TensorSpec spec, Checkpoint checkpoint) {
    TensorInfo tensor = checkpoint.tensors().get(spec.name());
    if (tensor == null) {
      throw new OribiException(checkpoint.describe() + ": tensor " + spec.name() + " is missing; do config.json and weights belong together?");
    }
    if (Nf4Format.isStored(checkpoint, spec.name())) {
      throw new OribiException(tensor.file() + ": tensor " + spec.name() + " is in 4 bits, and config.json does not say so, or it is"
          + " the embedding or the head, which must be plain.");
    }
    if (!Arrays.equals(tensor.shape(), spec.shape())) {
      throw new OribiException(tensor.file() + ": tensor " + spec.name() + " has shape " + Arrays.toString(tensor.shape())
          + ", config.json asks for " + Arrays.toString(spec.shape()) + ".");
    }
    switch (tensor.type()) {
      case F32, BF16, F16 -> { }
      default -> throw new OribiException(tensor.file() + ": tensor " + spec.name() + " has type " + tensor.type() + "; F32, BF16 and F16 are supported.");
    }
  }

  private static void checkTied(TensorInfo head, Checkpoint checkpoint) {
    TensorInfo embedding = checkpoint.tensor(EMBEDDING);
    boolean same = head.type() == embedding.type() && Arrays.equals(head.shape(), embedding.shape());
    for (long at = 0; same && at < head.bytes(); at += COMPARE_BYTES) {
      int n = (int) Math.min(COMPARE_BYTES, head.bytes() - at);
      ByteBuffer a = checkpoint.fileOf(head).slice(head, at, n);
      same = a.equals(checkpoint.fileOf(embedding).slice(embedding, at, n));
    }
    if (!same) {
      throw new OribiException(head.file() + ": " + LM_HEAD + " differs from " + EMBEDDING
          + " although config.json has tie_word_embeddings true; set it to false, or remove the tensor.");
    }
  }
}
