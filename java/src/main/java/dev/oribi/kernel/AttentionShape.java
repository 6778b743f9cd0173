package dev.oribi.kernel;

import dev.oribi.device.Mem;

/**
 * Rows, heads and strides (in elements) of an attention call, as {@code oribi_attention_shape} states them.
 *
 * @param n query rows in all
 * @param sequences S
 * @param maxSeqlen no sequence has more queries; 0: not known
 * @param cuSeqlens [S+1] in the device's memory; null where only sizes are asked for
 * @param kvStart null: the keys and values of a sequence are the rows of its queries
 * @param kvLen null with {@code kvStart}
 * @param scale of q.k
 * @param window a query sees its last {@code window} keys; 0: all
 * @param softcap 0: none
 */
public record AttentionShape(
    long n,
    long sequences,
    long maxSeqlen,
    int heads,
    int kvHeads,
    int headDim,
    long ldQ,
    long ldK,
    long ldV,
    long ldO,
    Mem cuSeqlens,
    Mem kvStart,
    Mem kvLen,
    float scale,
    long window,
    float softcap,
    DType type) {
  /** Whether keys and values lie in a cache, as in generation, and not in the rows of the queries. */
  public boolean cached() {
    return kvStart != null;
  }
}
