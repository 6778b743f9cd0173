package dev.oribi.gguf.family;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.gguf.GgufKeys;
import dev.oribi.gguf.GgufValue;
import dev.oribi.kernel.LatentShape;
import dev.oribi.kernel.RouterShape;
import dev.oribi.kernel.RouterShape.Score;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.family.Architecture;
import dev.oribi.model.family.Architecture.ExpertsSpec;
import dev.oribi.model.family.Architecture.LatentAttentionSpec;
import dev.oribi.model.family.Architecture.Layer;
import java.util.Set;
import java.util.regex.Pattern;

/**
 * DeepSeek V2 and V3: one architecture, told apart by the score of the router.
 *
 * <p>Keys and values are made from a short vector; what makes them is split into {@code attn_k_b} and {@code attn_v_b} ({@link
 * dev.oribi.gguf.GgufNames}), so that llama.cpp can attend to the short vectors themselves. {@code attention.key_length} is then
 * the size of such a vector, and the sizes of the heads have keys of their own, which end in {@code _mla}.
 */
final class DeepseekGguf extends GgufFamily {
  private static final int SOFTMAX = 1;
  private static final int SIGMOID = 2;

  /** Numbers of layers by which llama.cpp knows the models whose queries are made in one step, whatever the file says. */
  private static final Set<Integer> LITE = Set.of(26, 27);
  private static final int LITE_BY_VOCABULARY = 48;
  private static final int LITE_VOCABULARY = 128_256;

  private static final String LOG_MULTIPLIER = "rope.scaling.yarn_log_multiplier";
  private static final String ATTENTION_FACTOR = "rope.scaling.attn_factor";

  /** Of YaRN's logarithm, and what files hold of mscale_all_dim. */
  private static final double TENTH = 0.1;

  private static final Pattern NOT_ADAPTED = Pattern.compile("blk\\.\\d+\\.attn_(q|q_a|q_b|kv_a_mqa|kv_b)\\.weight");

  private final boolean sigmoid;

  DeepseekGguf(String modelType, boolean sigmoid) {
    super(modelType, "deepseek2");
    this.sigmoid = sigmoid;
  }

  /** Its graph of latent attention, and the head, multiply with the weights alone. */
  @Override
  public boolean adapts(String tensor) {
    return !tensor.equals("output.weight") && !NOT_ADAPTED.matcher(tensor).matches();
  }

  @Override
  protected boolean holds(GgufKeys keys) {
    return keys.integer("expert_gating_func", 0, SOFTMAX) == SIGMOID == sigmoid;
  }

  // ----------------------------------------------------------------------------------------------------------- write

  @Override
  protected void put(ModelConfig config, Architecture a, GgufKeys keys) {
    LatentAttentionSpec attention = (LatentAttentionSpec) a.layers().get(0).attention();
    LatentShape heads = attention.shape();
    keys.put("attention.head_count_kv", 1).put("attention.key_length", attention.kvRank() + heads.rope())
        .put("attention.value_length", attention.kvRank()).put("attention.key_length_mla", heads.headDim())
        .put("attention.value_length_mla", heads.v()).put("attention.kv_lora_rank", attention.kvRank())
        .put("attention.q_lora_rank", attention.qRank());
    if (config.rope().type().equals("yarn")) {
      keys.putNumber(ATTENTION_FACTOR, config.rope().attentionFactor()).putNumber(LOG_MULTIPLIER, TENTH * mscale(config, attention));
    }
    long dense = a.layers().stream().takeWhile(l -> !(l.mlp() instanceof ExpertsSpec)).count();
    keys.put("leading_dense_block_count", dense);
    a.layers().stream().map(Layer::mlp).filter(ExpertsSpec.class::isInstance).findFirst()
        .ifPresent(x -> putExperts((ExpertsSpec) x, keys));
  }

  private static void putExperts(ExpertsSpec x, GgufKeys keys) {
    RouterShape router = x.shape();
    keys.put("expert_count", router.experts()).put("expert_used_count", router.chosen()).put("expert_feed_forward_length", x.size())
        .put("expert_shared_count", x.sharedSize() / x.size()).putNumber("expert_weights_scale", router.scale())
        .put("expert_weights_norm", GgufValue.bool(router.normalize()))
        .put("expert_gating_func", router.score() == Score.SIGMOID ? SIGMOID : SOFTMAX);
    if (router.topGroups() < router.groups()) { // llama.cpp ends the process where all groups are taken
      keys.put("expert_group_count", router.groups()).put("expert_group_used_count", router.topGroups());
    }
  }

  /** config.json's mscale_all_dim, by what it does to q.k: the scale of a head's size times (1 + 0.1·mscale·ln(factor))². */
  private static double mscale(ModelConfig config, LatentAttentionSpec a) {
    double factor = config.rope().factor();
    return factor <= 1 ? 0 : (Math.sqrt(a.scale() * Math.sqrt(a.shape().headDim())) - 1) / (TENTH * Math.log(factor));
  }

  // ------------------------------------------------------------------------------------------------------------ read

  @Override
  protected void read(GgufKeys keys, ObjectNode config) {
    boolean split = keys.has("attention.key_length_mla");
    int rope = keys.integer("rope.dimension_count", 2);
    int head = split ? keys.integer("attention.key_length_mla", 2) : config.get("head_dim").asInt();
    String values = split ? "attention.value_length_mla" : "attention.value_length";
    config.remove("head_dim");
    config.remove("partial_rotary_factor"); // of heads that are not of one kind, the part that turns is a size of its own
    config.put("num_key_value_heads", config.get("num_attention_heads").asInt()).put("kv_lora_rank", keys.integer("attention.kv_lora_rank", 1))
        .put("qk_rope_head_dim", rope).put("qk_nope_head_dim", head - rope).put("v_head_dim", keys.integer(values, 1))
        .put("first_k_dense_replace", keys.integer("leading_dense_block_count", 0, 0)).put("attention_bias", false);
    int queries = isLite(config) ? 0 : keys.integer("attention.q_lora_rank", 0, 0);
    config.put("q_lora_rank", queries == 0 ? null : (Integer) queries);
    if (config.get("rms_norm_eps").asDouble() != LatentAttentionSpec.EPS) {
      throw keys.refuse("attention.layer_norm_rms_epsilon", "is not supported: the norms of latent attention have "
          + LatentAttentionSpec.EPS + " whatever the others have, and llama.cpp has one number for all.");
    }
    readYarn(keys, config);
    readExperts(keys, config);
  }

  private static boolean isLite(ObjectNode config) {
    int layers = config.get("num_hidden_layers").asInt();
    return LITE.contains(layers) || layers == LITE_BY_VOCABULARY && config.get("vocab_size").asInt() == LITE_VOCABULARY;
  }

  /** Cosines and sines are as they are, and the scale of q.k has mscale squared: what DeepSeek's two equal mscales come to. */
  private static void readYarn(GgufKeys keys, ObjectNode config) {
    if (!(config.get("rope_scaling") instanceof ObjectNode scaling) || !scaling.path("rope_type").asText().equals("yarn")) {
      return;
    }
    double mscale = keys.number(LOG_MULTIPLIER, 0) / TENTH;
    if (mscale == 0 || keys.number(ATTENTION_FACTOR, 1) != 1) {
      throw keys.refuse(LOG_MULTIPLIER, "is missing or beside " + ATTENTION_FACTOR + ": YaRN without mscale_all_dim, or with another"
          + " mscale than that, has no keys that llama.cpp reads as such.");
    }
    scaling.remove("attention_factor");
    scaling.put("mscale", mscale).put("mscale_all_dim", mscale);
  }

  private void readExperts(GgufKeys keys, ObjectNode config) {
    int groups = keys.integer("expert_group_count", 0, 1);
    config.put("n_routed_experts", keys.integer("expert_count", 1)).put("num_experts_per_tok", keys.integer("expert_used_count", 1))
        .put("moe_intermediate_size", keys.integer("expert_feed_forward_length", 1))
        .put("n_shared_experts", keys.integer("expert_shared_count", 1)).put("norm_topk_prob", keys.flag("expert_weights_norm", false));
    double scale = keys.number("expert_weights_scale", 0);
    config.put("routed_scaling_factor", scale == 0 ? 1 : scale);
    if (groups > 1 && config.get("n_routed_experts").asInt() < 2 * groups) {
      throw keys.refuse("expert_group_count", "is not supported: llama.cpp takes the best two experts of a group, and there are fewer.");
    }
    if (sigmoid) {
      config.put("topk_method", "noaux_tc").put("scoring_func", "sigmoid").put("n_group", Math.max(1, groups))
          .put("topk_group", groups > 1 ? keys.integer("expert_group_used_count", 1) : 1).put("rope_interleave", true);
    } else if (groups > 1) {
      throw keys.refuse("expert_group_count", "is not supported with softmax scores: V2 takes the groups of the best single expert, and"
          + " llama.cpp those of the best two.");
    } else {
      config.put("topk_method", "greedy").put("scoring_func", "softmax");
    }
  }
}
