package dev.oribi.model;

import dev.oribi.OribiException;
import dev.oribi.gguf.GgmlType;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.Fp8;
import dev.oribi.kernel.Kernels.Activation;
import dev.oribi.layer.DecoderLayer;
import dev.oribi.layer.DecoderLayer.Packing;
import dev.oribi.layer.DecoderLayer.Stream;
import dev.oribi.layer.Linear;
import dev.oribi.layer.Parameters;
import dev.oribi.layer.Parameters.Param;
import dev.oribi.layer.Saved;
import dev.oribi.layer.Saving;
import dev.oribi.model.config.LoraConfig;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.config.QuantizationConfig;
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
import java.util.List;

/**
 * The Llama architecture: embedding, decoder layers, a last norm, a vocabulary projection that may share the embedding's
 * weight. Making one declares its tensors; it holds no memory. The {@code emit} methods write the model into programs.
 */
public final class Llama {
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
   * @param ids token ids [N]
   * @param positions [N], from 0 in each sequence
   * @param cuSeqlens [S+1]
   * @param targetRows rows of the tokens that have a target; in generation, the last row of each sequence
   * @param loss labels of those rows, their losses and the sum
   */
  public record Inputs(Buffer ids, Buffer positions, Buffer cuSeqlens, Buffer targetRows, Emit.Loss loss) {
    /** Room for the largest run of {@code s}. */
    public static Inputs of(Emit.Sizes s) {
      return new Inputs(
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

  private static final String EMBED = "model.embed_tokens";
  private static final String HEAD = "lm_head";

  private final ModelConfig config;
  private final Parameters parameters;
  private final Training training;
  private final FrozenStorage storage;
  private final Heads heads;
  private final RopeTable table;
  private final Param embed;
  private final List<DecoderLayer> layers = new ArrayList<>();
  private final Param norm;
  private final Param head;
  private int dropoutStreams;

  /** A model whose linear layers are held as its checkpoint holds them. */
  public Llama(ModelConfig config, DType type, Training training, int maxPositions) {
    this(config, type, training, FrozenStorage.of(config, false, false), maxPositions);
  }

  /**
   * @param type storage of activations and frozen weights
   * @param quantization which weights are in 4 bits; null: none
   * @param maxPositions longest sequence that will be run
   */
  public Llama(
      ModelConfig config, DType type, Training training, QuantizationConfig quantization, int maxPositions) {
    this(config, type, training, new FrozenStorage(quantization, false), maxPositions);
  }

  /**
   * @param type storage of activations and of frozen weights that {@code storage} leaves as they are
   * @param maxPositions longest sequence that will be run
   */
  public Llama(ModelConfig config, DType type, Training training, FrozenStorage storage, int maxPositions) {
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
    this.heads = new Heads(config.numAttentionHeads(), config.numKeyValueHeads(), config.headDim());
    this.table = new RopeTable(angles("rope.cos", maxPositions), angles("rope.sin", maxPositions));
    boolean ownHead = !config.tieWordEmbeddings() || saved(EMBED) || saved(HEAD);
    this.embed = whole(EMBED, config.vocabSize());
    for (int i = 0; i < config.numHiddenLayers(); i++) {
      layers.add(layer("model.layers." + i));
    }
    this.norm = norm("model.norm");
    this.head = storage.headIn8bit() ? headIn8Bits(ownHead) : ownHead ? whole(HEAD, config.vocabSize()) : embed;
    checkTargets();
  }

  private Buffer angles(String name, int positions) {
    return new Buffer(name, Lifetime.WEIGHT, DType.F32, Rows.FIXED, positions, config.headDim() / 2);
  }

  private DecoderLayer layer(String name) {
    String attn = name + ".self_attn.";
    String mlp = name + ".mlp.";
    long c = config.hiddenSize();
    long f = config.intermediateSize();
    Param inputNorm = norm(name + ".input_layernorm");
    Linear qkv =
        linear(
            name + ".self_attn.qkv_proj",
            List.of(attn + "q_proj", attn + "k_proj", attn + "v_proj"),
            new long[] {heads.q(), heads.kv(), heads.kv()},
            c);
    Linear o = linear(attn + "o_proj", List.of(attn + "o_proj"), new long[] {c}, heads.q());
    Param postNorm = norm(name + ".post_attention_layernorm");
    Linear gateUp = linear(mlp + "gate_up_proj", List.of(mlp + "gate_proj", mlp + "up_proj"), new long[] {f, f}, c);
    Linear down = linear(mlp + "down_proj", List.of(mlp + "down_proj"), new long[] {c}, f);
    return new DecoderLayer(
        name, heads, (float) config.rmsNormEps(), activation(), inputNorm, qkv, o, postNorm, gateUp, down);
  }

  private Activation activation() {
    return switch (config.hiddenAct()) {
      case "silu", "swish" -> Activation.SILU;
      case "gelu_pytorch_tanh", "gelu_new" -> Activation.GELU_TANH;
      case "gelu" -> Activation.GELU_ERF;
      default -> throw new OribiException("config.json: hidden_act \"" + config.hiddenAct() + "\" is not supported");
    };
  }

  /** Norms learn in full training only, without weight decay, as in Hugging Face's trainer. */
  private Param norm(String module) {
    return parameters.add(module + ".weight", 1, config.hiddenSize(), true, training.full, false);
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

  private Linear linear(String name, List<String> modules, long[] out, long in) {
    return new Linear(name, weight(modules, out, in), training.lora == null ? null : lora(modules, out, in));
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
    return !training.full && blocks(names).stream().anyMatch(GgmlType::packed);
  }

  /** How a GGUF file holds these weights; a head that is not in the file is its embedding. */
  private List<GgmlType> blocks(List<String> names) {
    return names.stream()
        .map(n -> storage.blocks().getOrDefault(n, n.startsWith(HEAD) ? storage.blocks().getOrDefault(EMBED + ".weight", GgmlType.F32) : GgmlType.F32))
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
    for (String module : lora.modulesToSave()) {
      if (!EMBED.endsWith(module) && !HEAD.equals(module)) {
        throw new OribiException(
            "modules_to_save names " + module + ": embed_tokens and lm_head can be trained whole beside an adapter");
      }
    }
    if (parameters.trainable().isEmpty()) {
      throw new OribiException(
          "target_modules " + lora.targetModules() + " names no layer of this model: use names such as q_proj, v_proj,"
              + " down_proj, or all-linear");
    }
  }

  public ModelConfig config() {
    return config;
  }

  public Training training() {
    return training;
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
  public Llama withLayers(int count) {
    return new Llama(
        config.withLayers(Math.min(count, layers.size())), parameters.type(), training, storage,
        Math.toIntExact(maxPositions()));
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

  /** Columns of a tensor of a layer. */
  public long cols(Saving.Tensor t) {
    return switch (t) {
      case R0, X1, R1, X2 -> config.hiddenSize();
      case QKV -> heads.all();
      case O -> heads.q();
      case GU -> 2L * config.intermediateSize();
      case F -> config.intermediateSize();
    };
  }

  /** Tokens of the longest sequence that can be run. */
  public long maxPositions() {
    return table.cos().rows();
  }

  public List<DecoderLayer> layers() {
    return Collections.unmodifiableList(layers);
  }

  public RopeTable ropeTable() {
    return table;
  }

  // -------------------------------------------------------------------------------------------------------- programs

  /**
   * Forward and backward of one micro-batch: losses, their sum, and gradients added to those there are.
   *
   * @param savings for each layer, what becomes of the tensors that its backward pass reads
   * @param logitsBudget most bytes of logits at once; {@link dev.oribi.program.EmitLoss#LOGITS_BUDGET} where nothing else is asked
   */
  public void emitTrain(Emit e, Inputs in, List<Saving> savings, long logitsBudget) {
    Packing packing = new Packing(in.positions, in.cuSeqlens, table, null);
    List<Saved> saved = new ArrayList<>();
    Buffer r = emitLayers(e, in, packing, savings, saved, List.of());
    Buffer rows = targetRows(e, "target.r", r);
    e.gather("model.norm", rows, r, in.targetRows);
    Buffer x = targetRows(e, "target.x", r);
    Buffer rstd = e.activation("target.rstd", DType.F32, Rows.TARGETS, 1);
    e.rmsNorm("model.norm", x, rstd, rows, norm.value(), (float) config.rmsNormEps());

    Buffer dx = targetRows(e, "target.dx", r);
    e.loss().crossEntropy("lm_head", dx, head.grad(), x, headWeight(), in.loss, logitsBudget);

    Buffer dRows = targetRows(e, "target.dr", r);
    e.rmsNormBackward("model.norm", dRows, norm.grad(), rstd, dx, rows, norm.value(), false);
    Buffer dr = e.activation("dr", r.cols());
    e.fill("dr", dr, 0);
    e.scatter("model.norm", View.of(dr), View.of(dRows), in.targetRows);
    emitFetch(e, saved, layers.size() - 1);
    for (int i = layers.size() - 1; i >= lowestThatLearns(); i--) {
      emitFetch(e, saved, i - 1); // one layer ahead of its use
      layers.get(i).emitBackward(e, dr, saved.get(i), packing, lowestThatLearns() < i || embed.trainable());
    }
    if (embed.trainable()) {
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
    Buffer r = emitLayers(e, in, new Packing(in.positions, in.cuSeqlens, table, null), nothing, new ArrayList<>(), List.of());
    Buffer x = emitLastNorm(e, in, r);
    e.loss().crossEntropy("lm_head", null, null, x, headWeight(), in.loss, logitsBudget);
  }

  /** Logits [targets, V] in fp32 of the rows in {@code targetRows}; with a cache, its keys and values are added to. */
  public void emitLogits(Emit e, Inputs in, List<KvCache> caches, Buffer logits) {
    List<Saving> nothing = Collections.nCopies(layers.size(), Saving.REBUILD);
    Buffer r = emitLayers(e, in, new Packing(in.positions, in.cuSeqlens, table, null), nothing, new ArrayList<>(), caches);
    Buffer x = emitLastNorm(e, in, r);
    e.loss().logits("lm_head", logits, x, headWeight());
  }

  private Head headWeight() {
    return new Head(head.value(), head.int8(), head.frozen() == null ? null : head.frozen().ggml());
  }

  private Buffer emitLastNorm(Emit e, Inputs in, Buffer r) {
    Buffer rows = targetRows(e, "target.r", r);
    e.gather("model.norm", rows, r, in.targetRows);
    Buffer x = targetRows(e, "target.x", r);
    Buffer rstd = e.activation("target.rstd", DType.F32, Rows.TARGETS, 1);
    e.rmsNorm("model.norm", x, rstd, rows, norm.value(), (float) config.rmsNormEps());
    return x;
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
    Stream stream = new Stream(r, null);
    for (int i = 0; i < layers.size(); i++) {
      Packing here =
          caches.isEmpty() ? packing : new Packing(packing.positions(), packing.cuSeqlens(), table, caches.get(i));
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
          new KvCache(cache("k_cache." + i, slots), cache("v_cache." + i, slots), slotOfRow, start, length));
    }
    return caches;
  }

  /** The last layers' weights in 4 bits once more as products read them: in 16 bits, or in FP8 where that is asked for. */
  public Copies emitCopies(Emit e, int count) {
    Copies copies = new Copies();
    for (DecoderLayer layer : layers.subList(layers.size() - count, layers.size())) {
      layer.in4Bits().forEach((name, stack) -> e.lora().copy(name, stack, storage.fp8(), copies));
    }
    return copies;
  }

  private Buffer cache(String name, long slots) {
    return new Buffer(name, Lifetime.CACHE, parameters.type(), Rows.FIXED, slots, heads.kv());
  }
}
