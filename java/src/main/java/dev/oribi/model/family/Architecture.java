package dev.oribi.model.family;

import dev.oribi.kernel.Kernels.Activation;
import dev.oribi.kernel.Kernels.NormWeight;
import dev.oribi.kernel.LatentShape;
import dev.oribi.kernel.RouterShape;
import dev.oribi.model.config.RopeConfig;
import java.util.List;

/**
 * What a decoder computes, layer by layer, and what its tensors are called in a checkpoint.
 *
 * @param norm how the weights of all its norms are applied
 * @param embeddingScale the embedding's rows are multiplied by it, once it is rounded to the storage type; 1: they are not
 * @param logitScale 1: none
 * @param logitSoftcap logits become softcap * tanh(logit / softcap); 0: they do not
 * @param ropes rotary positions that layers choose from
 * @param layers from the first to the last
 */
public record Architecture(
    NormWeight norm, double embeddingScale, double logitScale, double logitSoftcap, List<RopeConfig> ropes, List<Layer> layers) {
  /** Names that all families have in common. */
  public static final String EMBEDDING = "model.embed_tokens";
  public static final String LAST_NORM = "model.norm";
  public static final String HEAD = "lm_head";
  public static final String LAYER = "model.layers.";

  /**
   * One layer. Names are relative to the layer.
   *
   * @param inputNorm before attention
   * @param midNorm before the feed-forward part
   */
  public record Layer(String inputNorm, AttentionSpec attention, String midNorm, MlpSpec mlp) {}

  /** A layer's attention: {@link SelfAttentionSpec} or {@link LatentAttentionSpec}; another kind is another record here and another class in package layer. */
  public sealed interface AttentionSpec permits SelfAttentionSpec, LatentAttentionSpec {}

  /** A layer's feed-forward part: {@link GatedMlpSpec} or {@link ExpertsSpec}; another kind is another record here and another class in package layer. */
  public sealed interface MlpSpec permits GatedMlpSpec, ExpertsSpec {}

  /**
   * Causal attention with grouped heads and rotary positions.
   *
   * @param qkv the modules of the projection: q, k and v, or one that holds all three one after the other
   * @param qkvBias whether they have biases
   * @param o module of the output projection
   * @param oBias whether it has biases
   * @param qNorm norm of each query head, {@code kNorm} of each key head; null: none
   * @param outputNorm norm of what is added to the stream; null: none
   * @param rope which of {@link Architecture#ropes}; {@link #NO_ROPE}: q and k do not turn
   * @param window a query sees its last {@code window} keys; 0: all
   * @param scale of q.k
   * @param softcap scores become softcap * tanh(score / softcap); 0: they do not
   */
  public record SelfAttentionSpec(
      List<String> qkv, boolean qkvBias, String o, boolean oBias, String qNorm, String kNorm, String outputNorm, int rope,
      int window, double scale, double softcap)
      implements AttentionSpec {
    /** A layer that knows no positions but by what its causal mask hides. */
    public static final int NO_ROPE = -1;

    /** Projections of their own, no biases, no norms within, the whole context, nothing capped. */
    public static SelfAttentionSpec plain(int headDim) {
      return new SelfAttentionSpec(
          List.of("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), false, "self_attn.o_proj", false, null, null,
          null, 0, 0, 1 / Math.sqrt(headDim), 0);
    }

    public SelfAttentionSpec withFused(String module) {
      return new SelfAttentionSpec(
          List.of(module), qkvBias, o, oBias, qNorm, kNorm, outputNorm, rope, window, scale, softcap);
    }

    public SelfAttentionSpec withBiases(boolean ofQkv, boolean ofO) {
      return new SelfAttentionSpec(qkv, ofQkv, o, ofO, qNorm, kNorm, outputNorm, rope, window, scale, softcap);
    }

    public SelfAttentionSpec withHeadNorms(String q, String k) {
      return new SelfAttentionSpec(qkv, qkvBias, o, oBias, q, k, outputNorm, rope, window, scale, softcap);
    }

    public SelfAttentionSpec withOutputNorm(String norm) {
      return new SelfAttentionSpec(qkv, qkvBias, o, oBias, qNorm, kNorm, norm, rope, window, scale, softcap);
    }

    public SelfAttentionSpec withRope(int index) {
      return new SelfAttentionSpec(qkv, qkvBias, o, oBias, qNorm, kNorm, outputNorm, index, window, scale, softcap);
    }

    public SelfAttentionSpec withWindow(int keys) {
      return new SelfAttentionSpec(qkv, qkvBias, o, oBias, qNorm, kNorm, outputNorm, rope, keys, scale, softcap);
    }

    public SelfAttentionSpec withScores(double scaled, double cap) {
      return new SelfAttentionSpec(qkv, qkvBias, o, oBias, qNorm, kNorm, outputNorm, rope, window, scaled, cap);
    }
  }

  /**
   * A gated MLP.
   *
   * @param gateUp the modules of the projection: gate and up, or one that holds both one after the other
   * @param down module of the output projection
   * @param biases whether all of them have biases
   * @param outputNorm norm of what is added to the stream; null: none
   */
  public record GatedMlpSpec(List<String> gateUp, String down, boolean biases, Activation activation, String outputNorm)
      implements MlpSpec {
    /** Projections of their own, no biases, no norm. */
    public static GatedMlpSpec plain(Activation activation) {
      return new GatedMlpSpec(List.of("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj", false, activation, null);
    }

    public GatedMlpSpec withFused(String module) {
      return new GatedMlpSpec(List.of(module), down, biases, activation, outputNorm);
    }

    public GatedMlpSpec withBiases(boolean on) {
      return new GatedMlpSpec(gateUp, down, on, activation, outputNorm);
    }

    public GatedMlpSpec withOutputNorm(String norm) {
      return new GatedMlpSpec(gateUp, down, biases, activation, norm);
    }
  }

  /**
   * Multi-head latent attention, with DeepSeek's names of its modules.
   *
   * @param qRank channels that queries are made from; 0: from all, by q_proj
   * @param kvRank channels that keys and values are made from
   * @param shape of the heads
   * @param biases whether q_a_proj, kv_a_proj_with_mqa and o_proj have biases
   * @param rope which of {@link Architecture#ropes}
   * @param scale of q.k
   */
  public record LatentAttentionSpec(int qRank, int kvRank, LatentShape shape, boolean biases, int rope, double scale)
      implements AttentionSpec {
    /** Of the norms of the two vectors that q, and k and v, are made from: the published implementation's, not the file's. */
    public static final double EPS = 1e-6;

    private static final String PREFIX = "self_attn.";
    public static final String Q_NORM = PREFIX + "q_a_layernorm";
    public static final String KV_NORM = PREFIX + "kv_a_layernorm";
    public static final String KV = PREFIX + "kv_b_proj";
    public static final String O = PREFIX + "o_proj";

    /** The modules that read the layer's input to make what is short, and their rows. */
    public List<String> down() {
      String kv = PREFIX + "kv_a_proj_with_mqa";
      return qRank == 0 ? List.of(kv) : List.of(PREFIX + "q_a_proj", kv);
    }

    public long[] downRows() {
      long kv = kvRank + shape.rope();
      return qRank == 0 ? new long[] {kv} : new long[] {qRank, kv};
    }

    public String q() {
      return PREFIX + (qRank == 0 ? "q_proj" : "q_b_proj");
    }
  }

  /**
   * Routed experts. Each is a gated MLP without biases, whose modules are called {@code prefix.NUMBER.gate} and so on.
   *
   * @param router module of the router, a weight without bias
   * @param choiceBias name of the tensor that is added to scores for the choice alone; null: none
   * @param prefix module of the experts
   * @param modules names of gate, up and down within an expert
   * @param size channels F of an expert
   * @param shared an MLP beside them that all tokens pass, of {@code sharedSize} channels; null: none
   * @param shape of the router; its type is that of the logits
   */
  public record ExpertsSpec(
      String router, String choiceBias, String prefix, List<String> modules, int size, GatedMlpSpec shared, int sharedSize,
      RouterShape shape, Activation activation)
      implements MlpSpec {
    /** The name of a module of an expert. */
    public String module(int expert, int which) {
      return prefix + "." + expert + "." + modules.get(which);
    }
  }

  public Architecture {
    ropes = List.copyOf(ropes);
    layers = List.copyOf(layers);
  }

  /** A decoder as Llama's: plain norms, nothing scaled or capped, one kind of rotary positions. */
  public static Architecture plain(RopeConfig rope, List<Layer> layers) {
    return new Architecture(NormWeight.PLAIN, 1, 1, 0, List.of(rope), layers);
  }

  /** A layer with Llama's names of its two norms. */
  public static Layer layer(AttentionSpec attention, MlpSpec mlp) {
    return new Layer("input_layernorm", attention, "post_attention_layernorm", mlp);
  }
}
