package dev.oribi.data;

/**
 * The sequences of one forward and backward pass, laid end to end without padding. N tokens, S sequences.
 *
 * @param inputIds the tokens, N
 * @param targets the token that follows each within its sequence if it is a target, else {@link #IGNORE}, N; the last
 *     token of a sequence never has one
 * @param positions place of each token in its sequence, from 0, N
 * @param cuSeqlens where each sequence begins, and N at the end, S+1
 * @param rowOfSequence the dataset row of each sequence, S
 */
public record MicroBatch(int[] inputIds, int[] targets, int[] positions, int[] cuSeqlens, int[] rowOfSequence) {
  /** Label of a token that is not learned. */
  public static final int IGNORE = -100;

  /** The rows of a dataset with the given indices, in that order. */
  static MicroBatch of(Dataset data, int[] rows) {
    int tokens = 0;
    for (int row : rows) {
      tokens += data.length(row);
    }
    MicroBatch batch = new MicroBatch(new int[tokens], new int[tokens], new int[tokens], new int[rows.length + 1], rows.clone());
    for (int s = 0; s < rows.length; s++) {
      batch.put(s, data.row(rows[s]));
    }
    return batch;
  }

  private void put(int s, Row row) {
    int begin = cuSeqlens[s];
    int length = row.length();
    System.arraycopy(row.inputIds(), 0, inputIds, begin, length);
    for (int i = 0; i < length; i++) {
      positions[begin + i] = i;
      targets[begin + i] = i + 1 < length ? row.labels()[i + 1] : IGNORE;
    }
    cuSeqlens[s + 1] = begin + length;
  }

  /** Number of tokens, N. */
  public int tokens() {
    return inputIds.length;
  }

  /** Number of sequences, S. */
  public int sequences() {
    return rowOfSequence.length;
  }

  /** Number of tokens that have a target. */
  public int targetTokens() {
    int n = 0;
    for (int target : targets) {
      n += target == IGNORE ? 0 : 1;
    }
    return n;
  }
}
