package dev.oribi.model.family;

import dev.oribi.kernel.DType;
import dev.oribi.kernel.RouterShape;
import dev.oribi.kernel.RouterShape.Score;
import dev.oribi.model.config.Fields;
import dev.oribi.model.config.ModelConfig;

/**
 * DeepSeek V2 and V2-Lite: latent attention, experts with shared ones beside them, weights that are not normalised, and, in the
 * large one, a choice limited to the groups with the best single expert.
 */
final class DeepseekV2Family extends DeepseekFamily {
  DeepseekV2Family() {
    super("deepseek_v2", "DeepseekV2ForCausalLM");
  }

  @Override
  public Architecture describe(Fields config, ModelConfig n) {
    String method = config.text("topk_method", "greedy");
    if (!method.equals("greedy") && !method.equals("group_limited_greedy")) {
      throw config.refuse("topk_method", "is not supported; greedy and group_limited_greedy are");
    }
    expect(config, "scoring_func", "softmax");
    if (config.flag("norm_topk_prob", false)) {
      throw config.refuse("norm_topk_prob", "is not supported: the published implementation does not read it");
    }
    int experts = expertCount(config, "n_routed_experts", 64);
    boolean grouped = method.equals("group_limited_greedy");
    int groups = grouped ? config.integer("n_group", 1, experts, 1) : 1;
    int top = grouped ? config.integer("topk_group", 1, groups, 1) : 1;
    RouterShape router =
        new RouterShape(experts, chosenCount(config, experts, 6), groups, top, 1, Score.SOFTMAX, false, scaling(config, 1), DType.F32);
    return describe(config, n, router, null, true);
  }
}
