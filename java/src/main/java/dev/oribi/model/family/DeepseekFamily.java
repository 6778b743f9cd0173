package dev.oribi.model.family;

import com.fasterxml.jackson.databind.JsonNode;
import dev.oribi.kernel.LatentShape;
import dev.oribi.kernel.RouterShape;
import dev.oribi.model.config.Fields;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.family.Architecture.ExpertsSpec;
import dev.oribi.model.family.Architecture.GatedMlpSpec;
import dev.oribi.model.family.Architecture.LatentAttentionSpec;
import java.util.List;

/** What the descriptors of DeepSeek V2 and V3 have in common. */
abstract class DeepseekFamily extends Family {
  private static final double MOST = 1e6;

  DeepseekFamily(String modelType, String architecture) {
    super(modelType, architecture);
  }

  @Override
  public int headDim(Fields config, int most, int usual) {
    config.has("head_dim"); // the part that turns, in files that have it
    return config.integer("qk_rope_head_dim", 2, most, 64);
  }

  static void expect(Fields config, String key, String only) {
    if (!config.text(key, only).equals(only)) {
      throw config.refuse(key, "is not supported, only " + only + " is");
    }
  }

  static float scaling(Fields config, double usual) {
    return (float) config.number("routed_scaling_factor", 1e-6, MOST, usual);
  }

  /**
   * @param choiceBias the tensor that is added to scores for the choice; null: none
   * @param interleaved whether neighbouring channels turn together
   */
  static Architecture describe(Fields config, ModelConfig n, RouterShape router, String choiceBias, boolean interleaved) {
    if (config.integer("moe_layer_freq", 1, Integer.MAX_VALUE, 1) != 1) {
      throw config.refuse("moe_layer_freq", "is not supported, only 1 is");
    }
    int nope = config.integer("qk_nope_head_dim", 0, MOST_CHANNELS, 128);
    LatentShape heads =
        new LatentShape(
            n.numAttentionHeads(), nope, n.headDim(), config.integer("v_head_dim", 1, nope + n.headDim(), 128), interleaved);
    int qRank = config.integer("q_lora_rank", 1, MOST_CHANNELS, 0);
    int kvRank = config.integer("kv_lora_rank", 1, MOST_CHANNELS, 512);
    LatentAttentionSpec attention =
        new LatentAttentionSpec(qRank, kvRank, heads, config.flag("attention_bias", false), 0, scale(config, heads));
    int size = config.integer("moe_intermediate_size", 1, MOST_CHANNELS, 1408);
    int shared = config.integer("n_shared_experts", 0, MOST_CHANNELS, 0);
    GatedMlpSpec dense = GatedMlpSpec.plain(act(n));
    GatedMlpSpec beside =
        new GatedMlpSpec(
            List.of("mlp.shared_experts.gate_proj", "mlp.shared_experts.up_proj"), "mlp.shared_experts.down_proj", false, act(n), null);
    ExpertsSpec sparse =
        new ExpertsSpec(
            "mlp.gate", choiceBias, "mlp.experts", EXPERT_MODULES, size, shared == 0 ? null : beside, shared * size, router, act(n));
    int firstSparse = config.integer("first_k_dense_replace", 0, Integer.MAX_VALUE, 0);
    return Architecture.plain(
        n.rope(), layers(n, i -> Architecture.layer(attention, i < firstSparse ? dense : sparse)));
  }

  /** One over the root of a head's size, and with YaRN its mscale for all channels, squared. */
  private static double scale(Fields config, LatentShape heads) {
    double plain = 1 / Math.sqrt(heads.headDim());
    for (String key : List.of("rope_parameters", "rope_scaling")) {
      JsonNode rope = config.node().get(key);
      if (rope != null && rope.isObject() && rope.path("mscale_all_dim").asDouble(0) != 0) {
        double factor = rope.path("factor").asDouble(1);
        double mscale = factor <= 1 ? 1 : 0.1 * rope.path("mscale_all_dim").asDouble() * Math.log(factor) + 1;
        return plain * mscale * mscale;
      }
    }
    return plain;
  }
}
