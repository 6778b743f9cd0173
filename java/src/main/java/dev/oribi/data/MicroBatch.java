package dev.oribi.data;

/**
 * One micro-batch: whole sequences one after the other, without padding.
 *
 * <p>All arrays but the last two have one element a token, N in all.
 *
 * @param inputIds token ids
 * @param targets label of the next token within the same sequence, -100 where there is none to learn; the last token of
 *     a sequence always has -100
 * @param positions 0, 1, 2, … restarting at each sequence
 * @param cuSeqlens where each sequence begins, and N at the end: one element more than there are sequences
 * @param rowOfSequence for each sequence its row in the dataset
 */
public record MicroBatch(int[] inputIds, int[] targets, int[] positions, int[] cuSeqlens, int[] rowOfSequence) {
  /** Label of a token that is not learned. */
  public static final int IGNORE = -100;

  /** Number of tokens, N. */
  public int tokens() {
    return inputIds.length;
  }

  /** Number of tokens that have a target. */
  public int targetTokens() {
    int count = 0;
    for (int target : targets) {
      if (target != IGNORE) {
        count++;
      }
    }
    return count;
  }
}
