package dev.oribi.kernel;

/**
 * How each token chooses among experts: {@code oribi_router_shape} but for the number of tokens.
 *
 * @param chosen k, experts of a token
 * @param groups of neighbouring experts; 1: none
 * @param topGroups a token chooses among the experts of so many groups
 * @param groupBest so many of a group's choices add up to what it is worth
 * @param normalize a token's weights add up to {@code scale}
 * @param type of the logits
 */
public record RouterShape(
    int experts, int chosen, int groups, int topGroups, int groupBest, Score score, boolean normalize, float scale, DType type) {
  /** What is made of logits, in the order of {@code oribi_router_score}. */
  public enum Score {
    SOFTMAX,
    SIGMOID
  }

  /** Softmax scores, no groups: Mixtral, Qwen3-MoE. */
  public static RouterShape softmax(int experts, int chosen, boolean normalize) {
    return new RouterShape(experts, chosen, 1, 1, 1, Score.SOFTMAX, normalize, 1, DType.F32);
  }
}
