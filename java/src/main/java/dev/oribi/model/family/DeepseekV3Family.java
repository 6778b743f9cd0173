package dev.oribi.model.family;

import dev.oribi.kernel.DType;
import dev.oribi.kernel.RouterShape;
import dev.oribi.kernel.RouterShape.Score;
import dev.oribi.model.config.Fields;
import dev.oribi.model.config.ModelConfig;

/**
 * DeepSeek V3 and R1: as V2, with sigmoid scores, a bias for the choice alone, groups by the sum of their two best choices, and
 * weights that add up to one before they are scaled. The layers beyond the last, for the prediction of several tokens, are left
 * out, as the published implementation does.
 */
final class DeepseekV3Family extends DeepseekFamily {
  DeepseekV3Family() {
    super("deepseek_v3", "DeepseekV3ForCausalLM");
  }

  @Override
  public boolean leavesOut(String tensor, ModelConfig n) {
    if (!tensor.startsWith(Architecture.LAYER)) {
      return false;
    }
    String number = tensor.substring(Architecture.LAYER.length()).split("\\.")[0];
    return number.matches("[0-9]{1,6}") && Integer.parseInt(number) >= n.numHiddenLayers();
  }

  @Override
  public Architecture describe(Fields config, ModelConfig n) {
    expect(config, "topk_method", "noaux_tc");
    expect(config, "scoring_func", "sigmoid");
    int experts = expertCount(config, "n_routed_experts", 256);
    int groups = config.integer("n_group", 1, experts, 8);
    int top = config.integer("topk_group", 1, groups, Math.min(4, groups));
    int best = Math.min(2, experts / groups);
    RouterShape router =
        new RouterShape(
            experts, chosenCount(config, experts, 8), groups, top, best, Score.SIGMOID, config.flag("norm_topk_prob", true),
            scaling(config, 2.5), DType.F32);
    return describe(config, n, router, "mlp.gate.e_score_correction_bias", config.flag("rope_interleave", true));
  }
}
