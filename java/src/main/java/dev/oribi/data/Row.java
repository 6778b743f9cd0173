package dev.oribi.data;

/**
 * One training example, tokenized.
 *
 * @param inputIds the tokens
 * @param labels as Hugging Face has them: as long as {@code inputIds} and not shifted; the token itself where the model
 *     shall learn to produce it, {@link MicroBatch#IGNORE} elsewhere; null: every token is learned
 * @param source where it came from: {@code file:line}, or {@code file#index} for an element of a JSON array
 * @param truncated whether tokens beyond the maximum length were cut off
 */
public record Row(int[] inputIds, int[] labels, String source, boolean truncated) {
  public Row {
    // Rows in which everything is learned share one array, in memory and in files.
    labels = labels == null ? inputIds : labels;
    if (inputIds.length != labels.length) {
      throw new IllegalArgumentException(
          source + ": " + inputIds.length + " tokens but " + labels.length + " labels");
    }
  }

  public int length() {
    return inputIds.length;
  }

  /** Tokens that are predicted from those before them; the first token of a row never is. */
  public int targetTokens() {
    int n = 0;
    for (int i = 1; i < labels.length; i++) {
      n += labels[i] == MicroBatch.IGNORE ? 0 : 1;
    }
    return n;
  }
}
