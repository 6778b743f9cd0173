package dev.oribi.gguf.family;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import dev.oribi.gguf.GgufKeys;
import dev.oribi.gguf.GgufNames;
import dev.oribi.io.Json;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.config.ModelTensors;
import dev.oribi.model.family.Architecture;
import dev.oribi.model.family.Architecture.Layer;
import dev.oribi.model.family.Architecture.SelfAttentionSpec;
import dev.oribi.model.family.Families;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;

/**
 * How a family of models is written in GGUF and read from it: the name of its architecture and, where it differs from others,
 * the keys. Names of tensors follow from the model's {@link Architecture} ({@link GgufNames}).
 *
 * <p>A descriptor has two methods that mirror each other: {@link #put} writes what its layers have that others have not, {@link
 * #read} makes config.json from it. {@link #keys} reads back what it wrote and refuses, by name, a model that would come out
 * as another one: what llama.cpp cannot say of a model is thus refused without a list of such things.
 */
public abstract class GgufFamily {
  private static final String CONTEXT = "context_length";

  private final String modelType;
  private final String architecture;

  /**
   * @param modelType {@code model_type} of config.json
   * @param architecture {@code general.architecture}
   */
  protected GgufFamily(String modelType, String architecture) {
    this.modelType = modelType;
    this.architecture = architecture;
  }

  public final String modelType() {
    return modelType;
  }

  public final String architecture() {
    return architecture;
  }

  // -------------------------------------------------------------------------------------------- what a family may say

  /** Whether llama.cpp turns neighbouring channels instead of halves: the rows of q and k then lie in another order. */
  protected boolean interleaved() {
    return false;
  }

  /** Whether a file of this architecture holds a model of this family, where several share the architecture. */
  protected boolean holds(GgufKeys keys) {
    return true;
  }

  /** Whether windows of attention have keys; without, the file's context ends where the first window would begin to matter. */
  protected boolean hasWindows() {
    return false;
  }

  /** The scalings of rotary positions that llama.cpp computes for this architecture. */
  protected Set<String> ropeTypes() {
    return GgufRope.USUAL;
  }

  /** Whether llama.cpp applies an adapter of this tensor, by its name there; where it does not it says nothing. */
  public boolean adapts(String tensor) {
    return true;
  }

  /** Writes the keys that this family has beyond those of all. */
  protected void put(ModelConfig config, Architecture a, GgufKeys keys) {}

  /** Puts into config.json what those keys say. */
  protected void read(GgufKeys keys, ObjectNode config) {}

  // ----------------------------------------------------------------------------------------------------- for all alike

  public final GgufNames names(ModelConfig config) {
    return GgufNames.of(config, architecture, interleaved());
  }

  /**
   * The keys and tables of a model's file.
   *
   * @throws OribiException if llama.cpp would compute something else from them
   */
  public final GgufKeys keys(ModelConfig config) {
    GgufNames names = names(config);
    Set<String> tensors = new TreeSet<>();
    ModelTensors.of(config).forEach(t -> tensors.add(names.place(t.name()).tensor()));
    GgufKeys keys = GgufKeys.empty("GGUF", architecture, tensors);
    Architecture a = config.architecture();
    keys.put("block_count", config.numHiddenLayers()).put(CONTEXT, context(config)).put("embedding_length", config.hiddenSize())
        .put("feed_forward_length", config.intermediateSize()).put("attention.head_count", config.numAttentionHeads())
        .put("attention.head_count_kv", config.numKeyValueHeads()).put("attention.key_length", config.headDim())
        .put("attention.value_length", config.headDim()).putNumber("attention.layer_norm_rms_epsilon", config.rmsNormEps());
    GgufRope.put(config, ropeTypes(), modelType, keys);
    keys.put("vocab_size", config.vocabSize());
    put(config, a, keys);
    ModelConfig again = ModelConfig.parse(config(keys, config.vocabSize(), config.tieWordEmbeddings()), "the GGUF file");
    SameModel.difference(config, again, context(config)).ifPresent(difference -> {
      throw new OribiException("a GGUF file of architecture " + architecture + " cannot say what this " + modelType + " model is: "
          + difference);
    });
    return keys;
  }

  /** Tokens up to which the file's model is the trained one. */
  public final int context(ModelConfig config) {
    int context = config.rope().dependsOnLength() && !ropeTypes().contains(config.rope().type())
        ? config.rope().originalMaxPositionEmbeddings() : config.contextLength();
    if (!hasWindows()) {
      for (Layer layer : config.architecture().layers()) {
        if (layer.attention() instanceof SelfAttentionSpec s && s.window() > 0) {
          context = Math.min(context, s.window());
        }
      }
    }
    return context;
  }

  /** A sentence for the user where the file's model ends before the trained one does. */
  public final Optional<String> limit(ModelConfig config) {
    int context = context(config);
    return context >= config.contextLength() ? Optional.empty() : Optional.of("GGUF has no key for what this model does beyond "
        + context + " tokens: the file's context_length is " + context + " instead of " + config.contextLength() + ".");
  }

  /**
   * A config.json in Hugging Face's words.
   *
   * @param vocabulary rows of the embedding
   * @param tied whether the head is the embedding
   */
  public final ObjectNode config(GgufKeys keys, int vocabulary, boolean tied) {
    ObjectNode json = Json.object();
    json.putArray("architectures").add(Families.of(modelType).architecture());
    int hidden = keys.integer("embedding_length", 1);
    int heads = keys.integer("attention.head_count", 1);
    if (!keys.has("attention.key_length") && hidden % heads != 0) {
      throw keys.refuse("attention.head_count", "must divide the embedding_length " + hidden + ".");
    }
    int headDim = keys.integer("attention.key_length", 2, hidden / heads);
    json.put("model_type", modelType).put("hidden_size", hidden).put("intermediate_size", keys.integer("feed_forward_length", 1))
        .put("num_hidden_layers", keys.integer("block_count", 1)).put("num_attention_heads", heads)
        .put("num_key_value_heads", keys.integer("attention.head_count_kv", 1, heads)).put("head_dim", headDim)
        .put("vocab_size", vocabulary).put("max_position_embeddings", keys.integer(CONTEXT, 1, 2048))
        .put("rms_norm_eps", keys.number("attention.layer_norm_rms_epsilon", 1e-5)).put("hidden_act", "silu")
        .put("tie_word_embeddings", tied);
    GgufRope.read(keys, headDim, json);
    read(keys, json);
    return json;
  }

  /** Refuses heads whose keys and values, or whose turning channels, differ in number. */
  protected static void requireWholeHeads(GgufKeys keys, ObjectNode config) {
    int headDim = config.get("head_dim").asInt();
    for (String key : new String[] {"attention.value_length", "rope.dimension_count"}) {
      if (keys.integer(key, 1, headDim) != headDim) {
        throw keys.refuse(key, "differs from the size of a head, " + headDim + ", which is not supported.");
      }
    }
  }
}
