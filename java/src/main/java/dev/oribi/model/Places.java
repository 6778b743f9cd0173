package dev.oribi.model;

import java.util.Arrays;

/**
 * Which row of the rotary tables a token reads: that of its position, and in a sequence longer than the original context one of
 * a second set of rows, where the model turns such sequences by other angles.
 *
 * @param originalContext tokens of the longest sequence that reads the first set
 * @param rows of a set; both sets lie one after the other
 */
public record Places(int originalContext, int rows) {
  /** One set for all. */
  public static final Places ONE_SET = new Places(Integer.MAX_VALUE, 0);

  /**
   * The rows for tokens of packed sequences.
   *
   * @param positions within the sequences
   * @param cuSeqlens beginnings of the sequences, and the number of tokens
   */
  public int[] of(int[] positions, int[] cuSeqlens) {
    int[] rowsOf = positions;
    for (int s = 0; s + 1 < cuSeqlens.length; s++) {
      if (cuSeqlens[s + 1] - cuSeqlens[s] > originalContext) {
        rowsOf = rowsOf == positions ? positions.clone() : rowsOf;
        for (int i = cuSeqlens[s]; i < cuSeqlens[s + 1]; i++) {
          rowsOf[i] = positions[i] + rows;
        }
      }
    }
    return rowsOf;
  }

  /** The rows for a part of one sequence that may become {@code longest} tokens long. */
  public int[] of(int[] positions, int longest) {
    return longest > originalContext ? Arrays.stream(positions).map(p -> p + rows).toArray() : positions;
  }
}
