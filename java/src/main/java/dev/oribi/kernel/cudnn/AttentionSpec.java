package dev.oribi.kernel.cudnn;

import dev.oribi.kernel.DType;

/**
 * What a plan depends on: any batch of at most {@code slots} sequences of at most {@code length} rows runs by the same plan.
 * Strides are in elements from one row to the next.
 *
 * @param packed false: all sequences have exactly {@code length} rows, and there are exactly {@code slots} of them
 * @param window 0: none
 * @param softcap 0: none
 * @param deterministic the backward pass gives the same bits each time
 */
public record AttentionSpec(
    long slots,
    long length,
    boolean packed,
    long heads,
    long kvHeads,
    long headDim,
    long ldQ,
    long ldK,
    long ldV,
    long ldO,
    float scale,
    long window,
    float softcap,
    DType type,
    boolean deterministic) {
  /**
   * On an H100 with cuDNN 9.19 slots * length * row stride of 2^31 ran right and 3.2e9 gave an illegal access in the backward
   * pass. Where in between the border lies was not measured: this is half of what ran.
   */
  private static final long MOST_ELEMENTS = 1L << 30;

  long group() {
    return heads / kvHeads;
  }

  /**
   * Elements from one row to the next of dK and dV as cuDNN writes them. For packed sequences they lie alone, heads side by
   * side: the gradients of each query head take the offsets of their sum, times the group, and inside of wide fused rows
   * they would need several times the room.
   */
  public long keyGradientRow() {
    return kvHeads * headDim;
  }

  /** Whether dK and dV must be copied to where the caller wants them. */
  public boolean stagesKeyGradients() {
    return packed && (ldK != keyGradientRow() || ldV != keyGradientRow());
  }

  /** Whether a plan for this one can run batches that {@code wanted} describes. */
  public boolean serves(AttentionSpec wanted) {
    boolean large = packed ? slots >= wanted.slots && length >= wanted.length : slots == wanted.slots && length == wanted.length;
    return large && sized(0, 0).equals(wanted.sized(0, 0));
  }

  /** Whether cuDNN can address it: what it counts is all slots, as if each had the whole length. */
  public boolean addressable() {
    long row = Math.max(Math.max(ldQ, ldO), Math.max(ldK, ldV));
    return slots <= MOST_ELEMENTS / (length * row);
  }

  /**
   * With room for other batches of about this size: the next powers of two, at no cost in memory but for the offsets, as far as
   * they are addressable.
   */
  public AttentionSpec roomy() {
    // The workspace of a deterministic backward pass is as large as the scores.
    if (!packed || deterministic) {
      return this;
    }
    AttentionSpec large = sized(roundUp(slots), roundUp(length));
    return large.addressable() ? large : this;
  }

  /** As many slots, and only as long as can be addressed: for the size of a workspace, which depends on the slots alone. */
  public AttentionSpec narrowed() {
    long row = Math.max(Math.max(ldQ, ldO), Math.max(ldK, ldV));
    long many = roundUp(slots);
    return sized(many, Math.max(1, Math.min(length, MOST_ELEMENTS / (many * row))));
  }

  private static long roundUp(long size) {
    return size <= 1 ? 1 : Long.highestOneBit(size - 1) << 1;
  }

  private AttentionSpec sized(long otherSlots, long otherLength) {
    return new AttentionSpec(
        otherSlots, otherLength, packed, heads, kvHeads, headDim, ldQ, ldK, ldV, ldO, scale, window, softcap, type,
        deterministic);
  }
}
