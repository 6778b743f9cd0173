package dev.oribi.kernel;

/**
 * The heads of multi-head latent attention: {@code oribi_latent_shape} but for rows and strides.
 *
 * @param heads of q, k and v
 * @param nope channels of a head of q and k that are not rotated
 * @param rope channels that are, the same in k for all heads
 * @param v channels of a head of v
 * @param interleaved whether neighbouring channels are rotated together, or those half a head apart
 */
public record LatentShape(int heads, int nope, int rope, int v, boolean interleaved) {
  /** Channels of a head of q and k, and of v with its padding. */
  public int headDim() {
    return nope + rope;
  }

  /** Columns of q, of k, and of v with its padding. */
  public long q() {
    return (long) heads * headDim();
  }

  /** Columns of what kv_b_proj makes: each head's nope and v. */
  public long kv() {
    return (long) heads * (nope + v);
  }

  /** Columns of the heads' outputs without padding. */
  public long out() {
    return (long) heads * v;
  }
}
