package dev.oribi.model;

import dev.oribi.OribiException;
import dev.oribi.gguf.GgmlType;
import dev.oribi.io.Half;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.Fp8;
import dev.oribi.kernel.LatentShape;
import dev.oribi.layer.Attention;
import dev.oribi.layer.DecoderLayer;
import dev.oribi.layer.DecoderLayer.Packing;
import dev.oribi.layer.DecoderLayer.Stream;
import dev.oribi.layer.FeedForward;
import dev.oribi.layer.GatedMlp;
import dev.oribi.layer.LatentAttention;
import dev.oribi.layer.Linear;
import dev.oribi.layer.Norm;
import dev.oribi.layer.Parameters;
import dev.oribi.layer.Parameters.Param;
import dev.oribi.layer.Projection;
import dev.oribi.layer.Saved;
import dev.oribi.layer.Saving;
import dev.oribi.layer.SelfAttention;
import dev.oribi.model.config.LoraConfig;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.config.QuantizationConfig;
import dev.oribi.model.config.RopeConfig;
import dev.oribi.model.family.Architecture;
import dev.oribi.model.family.Architecture.AttentionSpec;
import dev.oribi.model.family.Architecture.ExpertsSpec;
import dev.oribi.model.family.Architecture.GatedMlpSpec;
import dev.oribi.model.family.Architecture.LatentAttentionSpec;
import dev.oribi.model.family.Architecture.MlpSpec;
import dev.oribi.model.family.Architecture.SelfAttentionSpec;
import dev.oribi.program.Buffer;
import dev.oribi.program.Buffer.Lifetime;
import dev.oribi.program.Buffer.Rows;
import dev.oribi.program.Copies;
import dev.oribi.program.Emit;
import dev.oribi.program.Emit.Heads;
import dev.oribi.program.Emit.KvCache;
import dev.oribi.program.Emit.RopeTable;
import dev.oribi.program.Head;
import dev.oribi.program.View;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;

/**
 * A decoder of any family: embedding, layers as the {@link Architecture} describes them, a last norm, a vocabulary projection
 * that may share the embedding's weight. Making one declares its tensors; it holds no memory. The {@code emit} methods write the
 * model into programs.
 */
public final class Decoder {
  /** What learns: nothing, adapters, or every weight. */
  public record Training(boolean full, LoraConfig lora) {
    public static final Training NONE = new Training(false, null);
    public static final Training FULL = new Training(true, null);

    public static Training adapter(LoraConfig lora) {
      return new Training(false, lora);
    }
  }

  /**
   * What the host gives a run and gets from it.
   *
   * @param places how positions become rows of the rotary tables
   * @param ids token ids [N]
   * @param positions rows of the rotary tables [N]; see {@link Places}
   * @param cuSeqlens [S+1]
   * @param targetRows rows of the tokens that have a target; in generation, the last row of each sequence
   * @param loss labels of those rows, their losses and the sum
   */
  public record Inputs(Places places, Buffer ids, Buffer positions, Buffer cuSeqlens, Buffer targetRows, Emit.Loss loss) {
    static Inputs of(Emit.Sizes s, Places places) {
      return new Inputs(
          places,
          io("input_ids", DType.I32, Rows.TOKENS, s.tokens()),
          io("positions", DType.I32, Rows.TOKENS, s.tokens()),
          io("cu_seqlens", DType.I32, Rows.FIXED, s.sequences() + s.spare() + 1),
          io("target_rows", DType.I32, Rows.TARGETS, s.targets()),
          new Emit.Loss(
              io("labels", DType.I32, Rows.TARGETS, s.targets()),
              io("losses", DType.F32, Rows.TARGETS, s.targets()),
              io("loss_sum", DType.F64, Rows.FIXED, 1),
              io("grad_scale", DType.F32, Rows.FIXED, 1)));
    }
  }

  /** A buffer that the host fills or reads. */
  public static Buffer io(String name, DType type, Rows rowsOf, long rows) {
    return new Buffer(name, Lifetime.IO, type, rowsOf, rows, 1);
  }

  private static final String EMBED = Architecture.EMBEDDING;
  private static final String HEAD = Architecture.HEAD;

  private final ModelConfig config;
  private final Architecture architecture;
  private final Parameters parameters;
  private final Training training;
  private final FrozenStorage storage;
  private final int maxPositions;
  private final Map<RopeConfig, RopeTable> tables = new LinkedHashMap<>();
  private final Param embed;
  private final List<DecoderLayer> layers = new ArrayList<>();
  private final Norm norm;
  private final Param head;
  private final Set<String> linearModules = new LinkedHashSet<>();
  private final Set<String> expertParameters = new LinkedHashSet<>();
  private int dropoutStreams;

  /** A model whose linear layers are held as its checkpoint holds them. */
  public Decoder(ModelConfig config, DType type, Training training, int maxPositions) {
    this(config, type, training, FrozenStorage.of(config, false, false), maxPositions);
  }

  /**
   * @param type storage of activations and frozen weights
   * @param quantization which weights are in 4 bits; null: none
   * @param maxPositions longest sequence that will be run
   */
  public Decoder(
      ModelConfig config, DType type, Training training, QuantizationConfig quantization, int maxPositions) {
    this(config, type, training, new FrozenStorage(quantization, false), maxPositions);
  }

  /**
   * @param type storage of activations and of frozen weights that {@code storage} leaves as they are
   * @param maxPositions longest sequence that will be run
   */
  public Decoder(ModelConfig config, DType type, Training training, FrozenStorage storage, int maxPositions) {
    if (training.full && storage.layers() != null) {
      throw new OribiException(
          "weights in 4 bits cannot learn: train an adapter (without --full), or give the 16-bit model without"
              + " --load-in-4bit");
    }
    if (training.full && storage.fp8()) {
      throw new OribiException("weights in FP8 cannot learn: train an adapter (without --full), or leave --fp8 out");
    }
    this.config = config;
    this.training = training;
    this.storage = storage;
    this.parameters = new Parameters(type);
    this.architecture = config.architecture();
    this.maxPositions = maxPositions;
    boolean ownHead = !config.tieWordEmbeddings() || saved(EMBED) || saved(HEAD);
    this.embed = whole(EMBED, config.vocabSize());
    for (int i = 0; i < config.numHiddenLayers(); i++) {
      layers.add(layer(Architecture.LAYER + i, architecture.layers().get(i)));
    }
    this.norm = norm(Architecture.LAST_NORM, config.hiddenSize());
    this.head = storage.headIn8bit() ? headIn8Bits(ownHead) : ownHead ? whole(HEAD, config.vocabSize()) : embed;
    checkTargets();
  }

  private RopeTable table(RopeConfig rope) {
    String suffix = tables.isEmpty() ? "" : "." + tables.size();
    return new RopeTable(angles("rope.cos" + suffix, rope), angles("rope.sin" + suffix, rope));
  }

  private Buffer angles(String name, RopeConfig rope) {
    return new Buffer(name, Lifetime.WEIGHT, DType.F32, Rows.FIXED, (long) sets() * maxPositions, rope.rotated(config.headDim()) / 2);
  }

  /** Two where some sequences turn by other angles than others. */
  private int sets() {
    return architecture.ropes().stream().anyMatch(RopeConfig::dependsOnLength) ? 2 : 1;
  }

  /** How positions become rows of the rotary tables. */
  public Places places() {
    return sets() == 1
        ? Places.ONE_SET
        : new Places(
            architecture.ropes().stream().filter(RopeConfig::dependsOnLength).findFirst().orElseThrow()
                .originalMaxPositionEmbeddings(),
            maxPositions);
  }

  private DecoderLayer layer(String name, Architecture.Layer l) {
    long c = config.hiddenSize();
    Norm inputNorm = norm(name + "." + l.inputNorm(), c);
    Attention attention = attention(name, l.attention());
    Norm midNorm = norm(name + "." + l.midNorm(), c);
    return new DecoderLayer(name, inputNorm, attention, midNorm, mlp(name, l.mlp()));
  }

  private Attention attention(String name, AttentionSpec spec) {
    if (spec instanceof LatentAttentionSpec latent) {
      return latentAttention(name, latent);
    }
    if (!(spec instanceof SelfAttentionSpec a)) {
      throw new IllegalStateException("no class for " + spec);
    }
    Heads heads =
        new Heads(
            config.numAttentionHeads(), config.numKeyValueHeads(), config.headDim(), (float) a.scale(), a.window(),
            (float) a.softcap());
    long[] rows = a.qkv().size() == 1 ? new long[] {heads.all()} : new long[] {heads.q(), heads.kv(), heads.kv()};
    Linear qkv = linear(name, "self_attn.qkv_proj", a.qkv(), rows, config.hiddenSize(), a.qkvBias());
    SelfAttention.Norms norms =
        new SelfAttention.Norms(
            normOrNone(name, a.qNorm(), config.headDim()), normOrNone(name, a.kNorm(), config.headDim()),
            normOrNone(name, a.outputNorm(), config.hiddenSize()));
    RopeTable table =
        a.rope() == SelfAttentionSpec.NO_ROPE ? null : tables.computeIfAbsent(architecture.ropes().get(a.rope()), this::table);
    Linear o = linear(name, a.o(), List.of(a.o()), new long[] {config.hiddenSize()}, heads.q(), a.oBias());
    return new SelfAttention(name, heads, table, qkv, o, norms);
  }

  private Attention latentAttention(String name, LatentAttentionSpec a) {
    long c = config.hiddenSize();
    LatentShape s = a.shape();
    Linear down = linear(name, "self_attn.down_proj", a.down(), a.downRows(), c, a.biases());
    Norm qNorm = a.qRank() == 0 ? null : latentNorm(name + "." + LatentAttentionSpec.Q_NORM, a.qRank());
    Linear q = linear(name, a.q(), List.of(a.q()), new long[] {s.q()}, a.qRank() == 0 ? c : a.qRank(), false);
    Norm kvNorm = latentNorm(name + "." + LatentAttentionSpec.KV_NORM, a.kvRank());
    Linear kv = linear(name, LatentAttentionSpec.KV, List.of(LatentAttentionSpec.KV), new long[] {s.kv()}, a.kvRank(), false);
    Linear o = linear(name, LatentAttentionSpec.O, List.of(LatentAttentionSpec.O), new long[] {c}, s.out(), a.biases());
    RopeTable table = tables.computeIfAbsent(architecture.ropes().get(a.rope()), this::table);
    return new LatentAttention(
        name, s, (float) a.scale(), table, new LatentAttention.Projections(down, qNorm, q, kvNorm, kv, o));
  }

  private Norm latentNorm(String module, long cols) {
    Param w = parameters.add(module + ".weight", 1, cols, true, training.full, false);
    return new Norm(module, w, (float) LatentAttentionSpec.EPS, architecture.norm());
  }

  private FeedForward mlp(String name, MlpSpec spec) {
    if (spec instanceof ExpertsSpec x) {
      FeedForward shared = x.shared() == null ? null : gatedMlp(name, name + ".shared", x.shared(), x.sharedSize());
      ExpertModules modules = new ExpertModules(parameters, training, storage, name, x, config.hiddenSize());
      linearModules.addAll(modules.names());
      expertParameters.addAll(modules.parameters());
      return modules.declare(shared);
    }
    if (!(spec instanceof GatedMlpSpec m)) {
      throw new IllegalStateException("no class for " + spec);
    }
    return gatedMlp(name, name, m, config.intermediateSize());
  }

  /** @param label begins the names of its buffers */
  private FeedForward gatedMlp(String name, String label, GatedMlpSpec m, long f) {
    long c = config.hiddenSize();
    long[] rows = m.gateUp().size() == 1 ? new long[] {2 * f} : new long[] {f, f};
    Linear gateUp = linear(name, m.down().replace("down_proj", "gate_up_proj"), m.gateUp(), rows, c, m.biases());
    Linear down = linear(name, m.down(), List.of(m.down()), new long[] {c}, f, m.biases());
    return new GatedMlp(label, m.activation(), gateUp, down, normOrNone(name, m.outputNorm(), c));
  }

  private Norm normOrNone(String layer, String module, long cols) {
    return module == null ? null : norm(layer + "." + module, cols);
  }

  /** Norms learn in full training only, without weight decay, as in Hugging Face's trainer. */
  private Norm norm(String module, long cols) {
    Param w = parameters.add(module + ".weight", 1, cols, true, training.full, false);
    return new Norm(module, w, (float) config.rmsNormEps(), architecture.norm());
  }

  /** An embedding or head: learns in full training, or as a whole beside an adapter. */
  private Param whole(String module, long rows) {
    boolean asWhole = saved(module);
    String name = asWhole ? LoraConfig.savedName(module) : module + ".weight";
    if (!asWhole && inBlocks(List.of(name))) {
      return parameters.stackInBlocks(List.of(name), new long[] {rows}, config.hiddenSize(), blocks(List.of(name)));
    }
    return parameters.add(name, rows, config.hiddenSize(), false, training.full || asWhole, true);
  }

  private Param headIn8Bits(boolean ownHead) {
    if (!ownHead) {
      throw new OribiException(
          "--head-in-8bit: this model's head is its embedding table (tie_word_embeddings), which is kept as it is: leave the"
              + " option out");
    }
    if (training.full || saved(HEAD)) {
      throw new OribiException(
          "--head-in-8bit: a head in 8 bits cannot learn: leave the option out, or train an adapter without lm_head among"
              + " --modules-to-save");
    }
    return parameters.addIn8Bits(HEAD + ".weight", config.vocabSize(), config.hiddenSize());
  }

  private boolean saved(String module) {
    return training.lora != null && training.lora.saves(module);
  }

  /**
   * Projections of one input, stacked.
   *
   * @param label of the ops
   * @param names of the modules, within the layer
   */
  private Linear linear(String layer, String label, List<String> names, long[] out, long in, boolean biases) {
    List<String> modules = names.stream().map(n -> layer + "." + n).toList();
    linearModules.addAll(names.stream().map(n -> n.substring(n.lastIndexOf('.') + 1)).toList());
    Param weight = weight(modules, out, in);
    Param bias = biases ? bias(modules, out) : null;
    return new Linear(layer + "." + label, weight, training.lora == null ? null : lora(modules, out, in), bias);
  }

  /** Biases learn in full training only, without weight decay, as in Hugging Face's trainer. */
  private Param bias(List<String> modules, long[] out) {
    return parameters.stack(modules.stream().map(m -> m + ".bias").toList(), out, 1, true, training.full, false);
  }

  private Param weight(List<String> modules, long[] out, long in) {
    List<String> names = modules.stream().map(m -> m + ".weight").toList();
    if (inBlocks(names)) {
      return parameters.stackInBlocks(names, out, in, blocks(names));
    }
    boolean[] in4Bits = new boolean[out.length];
    boolean any = false;
    for (int i = 0; i < out.length; i++) {
      in4Bits[i] = storage.layers() != null && storage.layers().quantizes(modules.get(i));
      any |= in4Bits[i];
    }
    if (any) {
      return parameters.stackIn4Bits(names, out, in, in4Bits);
    }
    return storage.fp8() && Fp8.fits(Arrays.stream(out).sum(), in)
        ? parameters.stackInFp8(names, out, in)
        : parameters.stack(names, out, in, false, training.full, true);
  }

  /** Whether any of these weights is frozen in the blocks of a GGUF file. */
  private boolean inBlocks(List<String> names) {
    return !training.full && blocks(names).stream().anyMatch(Objects::nonNull);
  }

  /** How a GGUF file holds these weights, null for those that are held plain; a head that is not in the file is its embedding. */
  private List<GgmlType> blocks(List<String> names) {
    return names.stream()
        .map(n -> storage.blocks().getOrDefault(n, n.startsWith(HEAD) ? storage.blocks().getOrDefault(EMBED + ".weight", GgmlType.F32) : GgmlType.F32))
        .map(t -> storage.staysInFile(t) ? t : null)
        .toList();
  }

  /** The adapters of those modules that the configuration targets; null if there is none. */
  private Linear.Lora lora(List<String> modules, long[] out, long in) {
    LoraConfig l = training.lora;
    List<String> namesA = new ArrayList<>();
    List<Long> ranks = new ArrayList<>();
    for (String m : modules) {
      if (l.targets(m)) {
        namesA.add(LoraConfig.tensorName(m, "lora_A"));
        ranks.add((long) l.rank(m));
      }
    }
    if (namesA.isEmpty()) {
      return null;
    }
    Param a = parameters.stack(namesA, ranks.stream().mapToLong(Long::longValue).toArray(), in, false, true, true);
    Param b = ranks.stream().distinct().count() == 1 ? stackB(modules, out) : null;
    List<Linear.Adapter> adapters = new ArrayList<>();
    long row = 0;
    long rank = 0;
    long rowOfB = 0;
    for (int i = 0; i < modules.size(); i++) {
      String m = modules.get(i);
      if (l.targets(m)) {
        Param own =
            b != null
                ? b.rows(rowOfB, out[i])
                : parameters.add(LoraConfig.tensorName(m, "lora_B"), out[i], l.rank(m), false, true, true);
        adapters.add(
            new Linear.Adapter(row, out[i], rank, l.rank(m), own, (float) l.scale(m), dropoutStreams++));
        rank += l.rank(m);
        rowOfB += out[i];
      }
      row += out[i];
    }
    return new Linear.Lora(a, b, adapters, (float) l.loraDropout());
  }

  /** The B of adapters of one rank, one after the other, as the fused kernels read them. */
  private Param stackB(List<String> modules, long[] out) {
    LoraConfig l = training.lora;
    List<String> names = new ArrayList<>();
    List<Long> rows = new ArrayList<>();
    int rank = 0;
    for (int i = 0; i < modules.size(); i++) {
      if (l.targets(modules.get(i))) {
        names.add(LoraConfig.tensorName(modules.get(i), "lora_B"));
        rows.add(out[i]);
        rank = l.rank(modules.get(i));
      }
    }
    return parameters.stack(names, rows.stream().mapToLong(Long::longValue).toArray(), rank, false, true, true);
  }

  private void checkTargets() {
    LoraConfig lora = training.lora;
    if (lora == null) {
      return;
    }
    for (String module : List.of(EMBED, HEAD)) {
      if (!lora.targetModules().equals(LoraConfig.ALL_LINEAR) && lora.targets(module)) {
        String shortName = module.substring(module.lastIndexOf('.') + 1);
        throw new OribiException(
            "target_modules names " + shortName + ", which takes no adapter here: train it whole with --modules-to-save "
                + shortName);
      }
    }
    for (String name : lora.targetParameters()) {
      if (expertParameters.stream().noneMatch(p -> p.equals(name) || p.endsWith("." + name))) {
        throw new OribiException("target_parameters names " + name + ": of a model with routed experts their mlp.experts.gate_up_proj and"
            + " mlp.experts.down_proj may be named, and nothing else");
      }
    }
    for (String module : lora.modulesToSave()) {
      if (!EMBED.endsWith(module) && !HEAD.equals(module)) {
        throw new OribiException(
            "modules_to_save names " + module + ": embed_tokens and lm_head can be trained whole beside an adapter");
      }
    }
    if (parameters.trainable().isEmpty()) {
      throw new OribiException(
          "target_modules " + lora.targetModules() + " names no layer of this model: it has " + String.join(", ", linearModules)
              + "; all-linear means all of them");
    }
  }

  /**
   * Refuses a name among target_modules that fits no layer of this model, though others do. Files of PEFT may have such names, and
   * PEFT passes them by; in what a user asks for they are a mistake.
   */
  public void checkEveryTargetIsThere() {
    if (training.lora == null || !(training.lora.targetModules() instanceof List<?> names)) {
      return;
    }
    for (Object name : names) {
      boolean there = parameters.trainable().stream().anyMatch(t -> t.name().contains("." + name + ".lora_A."));
      if (!there) {
        throw new OribiException(
            "--target-modules names " + name + ", which this model does not have: it has " + String.join(", ", linearModules));
      }
    }
  }

  public ModelConfig config() {
    return config;
  }

  public Architecture architecture() {
    return architecture;
  }

  public Training training() {
    return training;
  }

  /** The last names of the modules of its layers' projections, such as q_proj. */
  public List<String> linearModules() {
    return List.copyOf(linearModules);
  }

  /** Which weights are in 4 bits; null: none. */
  public QuantizationConfig quantization() {
    return storage.layers();
  }

  /** Whether products with frozen weights are in FP8 where their shapes have such products. */
  public boolean fp8() {
    return storage.fp8();
  }

  public Parameters parameters() {
    return parameters;
  }

  /** Bytes of the device's memory that filling the weights takes for a while; see {@link Weights}. */
  public long loadingBytes() {
    long largest = 0;
    for (Parameters.Tensor t : parameters.tensors()) {
      if (t.nf4() != null && !storage.layers().stored()) {
        largest = Math.max(largest, t.elements());
      }
    }
    long in4Bits = largest == 0 ? 0 : Nf4Loader.scratchBytes(largest);
    long quantizing = Math.max(in4Bits, Fp8Loader.scratchBytes(parameters));
    return head.int8() == null ? quantizing : Math.max(quantizing, Int8Loader.scratchBytes(head.int8()));
  }

  /** The same model with fewer layers, to be measured; nothing of it is shared. */
  public Decoder withLayers(int count) {
    return new Decoder(
        config.withLayers(Math.min(count, layers.size())), parameters.type(), training, storage, maxPositions);
  }

  /** True if the embedding's table is frozen and used for nothing else, so that it may lie in the host's memory. */
  public boolean embeddingIsAlone() {
    return !embed.trainable() && head != embed && embed.frozen() == null;
  }

  /** Decides where the embedding's table lies: its rows can be read from the host's memory too. */
  public void placeEmbedding(boolean onHost) {
    if (embeddingIsAlone()) {
      embed.value().buffer().lie(onHost ? Lifetime.HOST_WEIGHT : Lifetime.WEIGHT);
    }
  }

  /** Columns of a tensor of a layer; 0 where no layer has one of this name. */
  public long cols(Saving.Tensor t) {
    return layers.stream().mapToLong(l -> l.cols(t)).max().orElse(0);
  }

  /** Tokens of the longest sequence that can be run. */
  public int maxPositions() {
    return maxPositions;
  }

  public List<DecoderLayer> layers() {
    return Collections.unmodifiableList(layers);
  }

  /** The tables that its layers read, by what they hold. */
  public Map<RopeConfig, RopeTable> ropeTables() {
    return Collections.unmodifiableMap(tables);
  }

  /** Room for the largest run of {@code s}. */
  public Inputs inputs(Emit.Sizes s) {
    return Inputs.of(s, places());
  }

  // -------------------------------------------------------------------------------------------------------- programs

  /**
   * Forward and backward of one micro-batch: losses, their sum, and gradients added to those there are.
   *
   * @param savings for each layer, what becomes of the tensors that its backward pass reads
   * @param logitsBudget most bytes of logits at once; {@link dev.oribi.program.EmitLoss#LOGITS_BUDGET} where nothing else is asked
   */
  public void emitTrain(Emit e, Inputs in, List<Saving> savings, long logitsBudget) {
    Packing packing = new Packing(in.positions, in.cuSeqlens, null);
    List<Saved> saved = new ArrayList<>();
    Buffer r = emitLayers(e, in, packing, savings, saved, List.of());
    Buffer rows = targetRows(e, "target.r", r);
    e.gather("model.norm", rows, r, in.targetRows);
    Buffer x = targetRows(e, "target.x", r);
    Buffer rstd = e.activation("target.rstd", DType.F32, Rows.TARGETS, 1);
    norm.emit(e, x, rstd, rows);

    Buffer dx = targetRows(e, "target.dx", r);
    e.loss().crossEntropy("lm_head", dx, head.grad(), x, headWeight(), in.loss, logitsBudget);

    Buffer dRows = targetRows(e, "target.dr", r);
    norm.emitBackward(e, dRows, rstd, dx, rows, false);
    Buffer dr = e.activation("dr", r.cols());
    e.fill("dr", dr, 0);
    e.scatter("model.norm", View.of(dr), View.of(dRows), in.targetRows);
    emitFetch(e, saved, layers.size() - 1);
    for (int i = layers.size() - 1; i >= lowestThatLearns(); i--) {
      emitFetch(e, saved, i - 1); // one layer ahead of its use
      layers.get(i).emitBackward(e, dr, saved.get(i), packing, lowestThatLearns() < i || embed.trainable());
    }
    if (embed.trainable()) {
      if (embeddingScale() != 1) {
        e.scale("model.embed_tokens.scale", dr, dr, embeddingScale(), 0);
      }
      e.embeddingBackward("model.embed_tokens", embed.grad(), dr, in.ids);
    }
  }

  private void emitFetch(Emit e, List<Saved> saved, int layer) {
    if (layer >= lowestThatLearns()) {
      saved.get(layer).emitFetch(e);
    }
  }

  /**
   * Losses and their sum, no gradient.
   *
   * @param tileRows most tokens whose part of an MLP exists at once; 0: all
   */
  public void emitEvaluate(Emit e, Inputs in, long tileRows, long logitsBudget) {
    List<Saving> nothing = Collections.nCopies(layers.size(), Saving.REBUILD.withTileRows(tileRows));
    Buffer r = emitLayers(e, in, new Packing(in.positions, in.cuSeqlens, null), nothing, new ArrayList<>(), List.of());
    Buffer x = emitLastNorm(e, in, r);
    e.loss().crossEntropy("lm_head", null, null, x, headWeight(), in.loss, logitsBudget);
  }

  /** Logits [targets, V] in fp32 of the rows in {@code targetRows}; with a cache, its keys and values are added to. */
  public void emitLogits(Emit e, Inputs in, List<KvCache> caches, Buffer logits) {
    List<Saving> nothing = Collections.nCopies(layers.size(), Saving.REBUILD);
    Buffer r = emitLayers(e, in, new Packing(in.positions, in.cuSeqlens, null), nothing, new ArrayList<>(), caches);
    Buffer x = emitLastNorm(e, in, r);
    e.loss().logits("lm_head", logits, x, headWeight());
  }

  /** Bytes of weights that generating a token reads, if it reads all experts: everything but an embedding that is not the head. */
  public long bytesOfToken() {
    List<Buffer> table = head == embed ? List.of() : embed.frozen() != null ? embed.frozen().buffers() : List.of(embed.value().buffer());
    return parameters.buffers().stream().filter(b -> !table.contains(b)).mapToLong(Buffer::bytes).sum();
  }

  private Head headWeight() {
    return new Head(
        head.value(), head.int8(), head.frozen() == null ? null : head.frozen().ggml(), (float) architecture.logitScale(),
        (float) architecture.logitSoftcap());
  }

  private Buffer emitLastNorm(Emit e, Inputs in, Buffer r) {
    Buffer rows = targetRows(e, "target.r", r);
    e.gather("model.norm", rows, r, in.targetRows);
    Buffer x = targetRows(e, "target.x", r);
    Buffer rstd = e.activation("target.rstd", DType.F32, Rows.TARGETS, 1);
    norm.emit(e, x, rstd, rows);
    return x;
  }

  /** Rounded to the storage type first, as the published implementations do. */
  private float embeddingScale() {
    float scale = (float) architecture.embeddingScale();
    return switch (parameters.type()) {
      case BF16 -> Half.fromBf16(Half.toBf16(scale));
      case F16 -> Half.fromF16(Half.toF16(scale));
      default -> scale;
    };
  }

  private static Buffer targetRows(Emit e, String name, Buffer like) {
    return e.activation(name, like.type(), Rows.TARGETS, like.cols());
  }

  /** Embedding and all layers; returns the residual stream after the last. */
  private Buffer emitLayers(
      Emit e, Inputs in, Packing packing, List<Saving> savings, List<Saved> saved, List<KvCache> caches) {
    Buffer r = e.activation("model.embed_tokens.r", config.hiddenSize());
    if (embed.frozen() != null) {
      e.embedding("model.embed_tokens", r, embed.frozen().ggml(), in.ids);
    } else {
      e.embedding("model.embed_tokens", r, embed.value(), in.ids);
    }
    if (embeddingScale() != 1) {
      e.scale("model.embed_tokens.scale", r, r, embeddingScale(), 0);
    }
    Stream stream = new Stream(r, null);
    for (int i = 0; i < layers.size(); i++) {
      Packing here =
          caches.isEmpty() ? packing : new Packing(packing.positions(), packing.cuSeqlens(), caches.get(i));
      saved.add(new Saved(i < lowestThatLearns() ? Saving.REBUILD.withTileRows(savings.get(i).tileRows()) : savings.get(i)));
      stream = layers.get(i).emitForward(e, stream, here, saved.get(i));
      if (i > 0) {
        saved.get(i - 1).emitArrived(e); // a layer later, so that nothing waits for the copy
      }
    }
    saved.get(layers.size() - 1).emitArrived(e);
    Buffer last = e.activation("model.r", config.hiddenSize());
    e.add("model.r", last, stream.r(), stream.delta());
    return last;
  }

  /** The backward pass ends here: no layer below learns. */
  private int lowestThatLearns() {
    if (embed.trainable()) {
      return 0;
    }
    for (int i = 0; i < layers.size(); i++) {
      if (layers.get(i).trainable()) {
        return i;
      }
    }
    return layers.size();
  }

  /** Keys and values of every layer for {@code slots} tokens in all. */
  public List<KvCache> caches(long slots, Buffer slotOfRow, Buffer start, Buffer length) {
    List<KvCache> caches = new ArrayList<>();
    for (int i = 0; i < layers.size(); i++) {
      caches.add(
          new KvCache(cache("k_cache." + i, i, slots), cache("v_cache." + i, i, slots), slotOfRow, start, length));
    }
    return caches;
  }

  /** The last layers' weights in 4 bits once more as products read them: in 16 bits, or in FP8 where that is asked for. */
  public Copies emitCopies(Emit e, int count) {
    Copies copies = new Copies();
    for (DecoderLayer layer : layers.subList(layers.size() - count, layers.size())) {
      for (Projection p : layer.linears()) {
        if (p.in4Bits() != null) {
          e.lora().copy(p.name(), p.in4Bits(), storage.fp8() && p instanceof Linear, copies); // experts multiply in 16 bits
        }
      }
    }
    return copies;
  }

  private Buffer cache(String name, int layer, long slots) {
    return new Buffer(name, Lifetime.CACHE, parameters.type(), Rows.FIXED, slots, layers.get(layer).keyCols());
  }
}
