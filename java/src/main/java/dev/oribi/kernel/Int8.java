package dev.oribi.kernel;

import dev.oribi.device.Mem;

/**
 * A matrix W[rows,cols] in 8 bits, {@code oribi_int8}: w = code * scale, in blocks of 64 along each row.
 *
 * @param codes [rows*cols] bytes
 * @param scale [rows*cols/64] fp32
 */
public record Int8(Mem codes, Mem scale) {
  /** Elements that share one scale. */
  public static final int BLOCK = 64;
}
