package dev.oribi.model.config;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import dev.oribi.io.Json;
import dev.oribi.model.family.Architecture;
import dev.oribi.model.family.Families;
import dev.oribi.model.family.Family;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.OptionalInt;
import java.util.Set;

/**
 * The numbers of a model: what {@code config.json} of a Hugging Face folder says. What its layers are follows from them and from
 * the rest of the file: {@link #architecture}.
 *
 * <p>Both spellings are read: {@code rope_theta}/{@code rope_scaling} and {@code torch_dtype} of transformers 4, {@code
 * rope_parameters} and {@code dtype} of transformers 5. A setting that Oribi does not implement is refused by name, never
 * ignored.
 *
 * @param modelType {@code llama}, or another of {@link Families}
 * @param hiddenSize channels C of the residual stream
 * @param intermediateSize channels F of the feed-forward part
 * @param numAttentionHeads query heads H
 * @param numKeyValueHeads key and value heads Hkv; divides H
 * @param headDim channels D of a head; even; H * D need not be C
 * @param vocabSize rows V of the embedding
 * @param maxPositionEmbeddings longest context the model was made for
 * @param hiddenAct {@code silu}, {@code gelu} (with erf) or {@code gelu_pytorch_tanh}
 * @param rope rotary positions of the layers, or of most of them
 * @param tieWordEmbeddings whether the output projection is the embedding
 * @param dtype {@code float32}, {@code float16} or {@code bfloat16}; null if the file does not say
 * @param eosTokenIds ids that end a text; may be empty
 * @param raw the whole file, kept so that saving a model loses nothing; null for a model made from numbers alone
 */
public record ModelConfig(String modelType, int hiddenSize, int intermediateSize, int numHiddenLayers, int numAttentionHeads,
    int numKeyValueHeads, int headDim, int vocabSize, int maxPositionEmbeddings, double rmsNormEps, String hiddenAct,
    RopeConfig rope, boolean tieWordEmbeddings, String dtype, OptionalInt bosTokenId, List<Integer> eosTokenIds,
    OptionalInt padTokenId, JsonNode raw) {
  public static final String FILE = "config.json";

  private static final Set<String> DTYPES = Set.of("float32", "float16", "bfloat16");
  private static final int MAX_SIZE = 1 << 24;
  private static final int MAX_LAYERS = 4096;
  private static final String GGUF_TYPES = "gguf_types";

  /**
   * Settings that change the arithmetic when they are on, of this family or of another. One that is on is either read by the
   * family's descriptor, which implements it, or refused.
   */
  private static final List<String> SWITCHES = List.of(
      "attention_bias", "mlp_bias", "qkv_bias", "use_bias", "bias", "sliding_window", "use_sliding_window", "layer_types",
      "sliding_window_pattern", "attention_chunk_size", "no_rope_layers", "no_rope_layer_interval", "partial_rotary_factor",
      "rotary_pct", "rope_local_base_freq", "rope_interleaved", "attention_dropout", "attn_pdrop", "resid_pdrop", "embd_pdrop",
      "hidden_dropout", "add_cross_attention", "is_encoder_decoder", "use_bidirectional_attention",
      "attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar", "use_qk_norm", "qk_norm", "clip_qkv",
      "attn_temperature_tuning", "logit_scale", "logits_scaling", "embedding_multiplier", "attention_multiplier",
      "residual_multiplier", "scale_emb", "scale_depth", "dim_model_base", "parallel_attn", "use_parallel_residual",
      "num_local_experts", "num_experts", "n_routed_experts", "kv_lora_rank", "q_lora_rank", "num_kv_shared_layers",
      "hidden_size_per_layer_input", "vision_config", "audio_config", "text_config");

  public ModelConfig {
    Families.of(modelType); // refuses what there is not
    check(headDim % 2 == 0, "head_dim must be even for rotary positions, found " + headDim);
    check(numAttentionHeads % numKeyValueHeads == 0, "num_attention_heads (" + numAttentionHeads
        + ") must be a multiple of num_key_value_heads (" + numKeyValueHeads + ")");
    check((long) numAttentionHeads * headDim <= MAX_SIZE, "num_attention_heads * head_dim is too large");
    eosTokenIds = List.copyOf(eosTokenIds);
  }

  /** The same model with another number of layers. */
  public ModelConfig withLayers(int count) {
    return new ModelConfig(modelType, hiddenSize, intermediateSize, count, numAttentionHeads, numKeyValueHeads, headDim,
        vocabSize, maxPositionEmbeddings, rmsNormEps, hiddenAct, rope, tieWordEmbeddings, dtype, bosTokenId, eosTokenIds,
        padTokenId, raw);
  }

  private static void check(boolean holds, String message) {
    if (!holds) {
      throw new OribiException(message + ".");
    }
  }

  /** Reads {@code config.json} of a model folder. */
  public static ModelConfig read(Path folder) {
    Path file = folder.resolve(FILE);
    if (!Files.exists(file)) {
      String what = Files.isDirectory(folder) ? "has no " + FILE + "; is it a model folder?"
          : Files.exists(folder) ? "is a file, and here a model folder is needed." : "there is no such folder or file.";
      throw new OribiException(folder + ": " + what);
    }
    return parse(Json.readObject(file), file.toString());
  }

  /** The same from JSON at hand; {@code where} names it in errors. */
  public static ModelConfig parse(JsonNode json, String where) {
    Fields config = Fields.of(json, where);
    Family family = family(config);
    QuantizationConfig.read(config); // refuses what quantization() could not tell
    int hidden = config.integer("hidden_size", 1, MAX_SIZE);
    int heads = config.integer("num_attention_heads", 1, MAX_SIZE);
    if (!config.has("head_dim") && hidden % heads != 0) {
      throw new OribiException(where + ": hidden_size (" + hidden + ") must be a multiple of num_attention_heads (" + heads
          + ") when head_dim is not given.");
    }
    try {
      ModelConfig numbers = new ModelConfig(family.modelType(), hidden,
          config.integer("intermediate_size", 1, MAX_SIZE),
          config.integer("num_hidden_layers", 1, MAX_LAYERS),
          heads,
          config.integer("num_key_value_heads", 1, heads, heads),
          family.headDim(config, MAX_SIZE, hidden / heads),
          config.integer("vocab_size", 1, MAX_SIZE),
          config.integer("max_position_embeddings", 1, Integer.MAX_VALUE, 2048),
          config.number("rms_norm_eps", 1e-15, 0.1, 1e-6),
          activation(family, config),
          family.rope(config),
          config.flag("tie_word_embeddings", family.tied()),
          dtype(config),
          config.id("bos_token_id"), config.ids("eos_token_id"), padId(config),
          config.node().deepCopy());
      family.describe(config, numbers);
      refuseUnread(config);
      return numbers;
    } catch (OribiException e) {
      throw e.getMessage().startsWith(where) ? e : new OribiException(where + ": " + e.getMessage(), e);
    }
  }

  private static Family family(Fields config) {
    String type = config.text("model_type", null);
    if (type == null) {
      throw new OribiException(config.where() + ": model_type is missing; supported: " + String.join(", ", Families.modelTypes()) + ".");
    }
    if (!Families.modelTypes().contains(type)) {
      throw config.refuse("model_type", "is not supported; supported: " + String.join(", ", Families.modelTypes()));
    }
    Family family = Families.of(type);
    List<String> architectures = config.texts("architectures");
    if (!architectures.isEmpty() && !architectures.equals(List.of(family.architecture()))) {
      throw new OribiException(config.where() + ": architectures " + architectures + " is not supported for " + type + "; supported: "
          + family.architecture() + ".");
    }
    return family;
  }

  private static void refuseUnread(Fields config) {
    for (String key : SWITCHES) {
      if (!config.read().contains(key) && config.truthy(key)) {
        throw config.refuse(key, "is not supported for model_type " + config.text("model_type", null));
      }
    }
    if (!config.read().contains("pretraining_tp") && config.integer("pretraining_tp", 0, Integer.MAX_VALUE, 1) > 1) {
      throw config.refuse("pretraining_tp", "is not supported, only 1 is");
    }
  }

  /** What its layers compute, and the names of their tensors. */
  public Architecture architecture() {
    return Families.of(modelType).describe(raw == null ? Fields.none(FILE) : Fields.of(raw, FILE), this);
  }

  private static String activation(Family family, Fields config) {
    String name = family.activation(config);
    return switch (name) {
      case "silu", "swish" -> "silu";
      case "gelu" -> "gelu";
      case "gelu_pytorch_tanh", "gelu_new" -> "gelu_pytorch_tanh";
      default -> throw new OribiException(config.where() + ": the activation function \"" + name
          + "\" is not supported; silu, gelu, gelu_new and gelu_pytorch_tanh are.");
    };
  }

  private static String dtype(Fields config) {
    String key = config.has("dtype") ? "dtype" : "torch_dtype";
    String name = config.text(key, null);
    if (name != null && !DTYPES.contains(name)) {
      throw config.refuse(key, "is not supported; float32, float16 and bfloat16 are");
    }
    return name;
  }

  /** Some published files say -1 where they mean none. */
  private static OptionalInt padId(Fields config) {
    boolean none = config.has("pad_token_id") && config.integer("pad_token_id", -1, Integer.MAX_VALUE) == -1;
    return none ? OptionalInt.empty() : config.id("pad_token_id");
  }

  /** How the checkpoint's weights are quantized; null if they are not. */
  public QuantizationConfig quantization() {
    return raw == null ? null : QuantizationConfig.read(Fields.of(raw, FILE));
  }

  /** Longest sequence that makes sense: as the file says, or longer where its rotary positions reach further. */
  public int contextLength() {
    return Math.max(maxPositionEmbeddings, rope.reach());
  }

  /** Query heads that share one key and value head. */
  public int groupSize() {
    return numAttentionHeads / numKeyValueHeads;
  }

  /** A config.json: the file this came from, with today's numbers in it. */
  public ObjectNode toJson() {
    ObjectNode json = raw instanceof ObjectNode object ? object.deepCopy() : Json.object();
    if (!json.hasNonNull("architectures")) {
      json.putArray("architectures").add(Families.of(modelType).architecture());
    }
    json.put("model_type", modelType).put("hidden_size", hiddenSize).put("intermediate_size", intermediateSize)
        .put("num_hidden_layers", numHiddenLayers).put("num_attention_heads", numAttentionHeads)
        .put("num_key_value_heads", numKeyValueHeads).put("head_dim", headDim).put("vocab_size", vocabSize)
        .put("max_position_embeddings", maxPositionEmbeddings).put("rms_norm_eps", rmsNormEps)
        .put("tie_word_embeddings", tieWordEmbeddings);
    if (raw == null) {
      json.put("hidden_act", hiddenAct).put("attention_bias", false).put("mlp_bias", false);
    }
    json.put(json.hasNonNull("dtype") ? "dtype" : "torch_dtype", dtype);
    json.remove(GGUF_TYPES); // says how the weights of a GGUF file lie, which whatever is written is not
    putId(json, "bos_token_id", bosTokenId);
    putId(json, "pad_token_id", padTokenId);
    putIds(json, "eos_token_id", eosTokenIds);
    if (raw == null) {
      rope.writeTo(json);
    }
    return json;
  }

  static void putId(ObjectNode json, String key, OptionalInt id) {
    if (id.isPresent()) {
      json.put(key, id.getAsInt());
    } else {
      json.putNull(key);
    }
  }

  /** One id as a number, several as a list, as transformers writes them. */
  static void putIds(ObjectNode json, String key, List<Integer> ids) {
    if (ids.size() < 2) {
      putId(json, key, ids.stream().mapToInt(Integer::intValue).findFirst());
    } else {
      ArrayNode list = json.putArray(key);
      ids.forEach(list::add);
    }
  }
}
