package dev.oribi.kernel;

import dev.oribi.device.Mem;

/**
 * A matrix W[out,in] in bitsandbytes' NF4 with double quantization, {@code oribi_nf4}: {@code count} = out*in elements in
 * blocks of 64, and blocks of 256 of those.
 *
 * @param codes [count/2] bytes, two elements each
 * @param absmax [count/64] bytes
 * @param absmax2 [ceil(count/64/256)] fp32
 * @param offset one fp32
 */
public record Nf4(Mem codes, Mem absmax, Mem absmax2, Mem offset) {
  /** Elements that share one scale. */
  public static final int BLOCK = 64;

  /** Scales that share one scale of their own. */
  public static final int BLOCK2 = 256;

  public static long codesBytes(long count) {
    return count / 2;
  }

  public static long absmaxBytes(long count) {
    return count / BLOCK;
  }

  /** fp32 elements of {@code absmax2}. */
  public static long absmax2Count(long count) {
    return (count / BLOCK + BLOCK2 - 1) / BLOCK2;
  }
}
