package dev.oribi.program;

/**
 * Numbers of rows to which the batches of real data are rounded up, so that few different ones occur and recordings of runs
 * ({@link Recordings}) come back. At most a 32nd of the tokens is added, a 64th on average.
 *
 * <p>The rows that are added are sequences of their own without a target. They repeat the beginning of the batch's longest
 * sequence; so they are numbers that the batch has anyway, and none is longer than it. All their gradients are zeros, and no
 * other row reads them. Where more sequences are counted than there are, the last ones have no tokens.
 *
 * @param tokens most tokens of a batch: nothing is rounded up beyond them
 * @param longest most tokens of a sequence
 */
public record RowBuckets(long tokens, long longest) {
  /** Steps of tokens between one power of two and the next. */
  private static final long TOKEN_STEPS = 32;

  /** Empty sequences cost next to nothing: the library of attention counts in powers of two anyway. */
  private static final long SEQUENCE_STEPS = 4;

  /** Kernels of attention work on tiles of so many rows; an equally long batch of whole tiles has a faster plan of its own. */
  private static final long TILE = 128;

  /** Whether a batch is left as it is: all sequences have one length of whole tiles, and so the few shapes come back anyway. */
  static boolean even(long tokens, long sequences, long longest) {
    return sequences * longest == tokens && longest % TILE == 0;
  }

  /** The numbers of a run for a batch with these, without library and targets. */
  public Counts of(long n, long sequences, long length) {
    if (even(n, sequences, length)) {
      return new Counts(n, sequences, Run.lengthBound(length, n));
    }
    long rounded = Math.min(tokens, roundUp(n, highest(n) / TOKEN_STEPS));
    return new Counts(rounded, sequences(sequences), bound(length, rounded));
  }

  /** What a run counts, padding included; {@code longest} is a bound. */
  public record Counts(long tokens, long sequences, long longest) {}

  /**
   * Sequences of a run for a batch of so many, and by that what has to be planned for it. There is room for the padding: it
   * is less than a 32nd of the tokens, these are at most {@code sequences} times the longest, and no piece but the last is shorter
   * than that.
   */
  public static long sequences(long sequences) {
    long rounded = roundUp(sequences, highest(sequences) / SEQUENCE_STEPS);
    return rounded + rounded / TOKEN_STEPS + 1;
  }

  /** A power of two, at least a tile. Blocks of a kernel beyond a sequence's end return at once. */
  private long bound(long length, long n) {
    long power = Math.max(TILE, length <= 1 ? 1 : highest(length - 1) << 1);
    return Math.min(power, Run.lengthBound(longest, n));
  }

  private static long highest(long n) {
    return Long.highestOneBit(n);
  }

  private static long roundUp(long n, long step) {
    return step <= 1 ? n : (n + step - 1) / step * step;
  }
}
