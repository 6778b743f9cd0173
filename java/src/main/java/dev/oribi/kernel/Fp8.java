package dev.oribi.kernel;

import dev.oribi.device.Mem;

/**
 * A matrix [rows,cols] in e4m3, {@code oribi_fp8}: x = code * scale, with one scale a row.
 *
 * @param codes [rows*cols] bytes
 * @param scale [rows] fp32
 */
public record Fp8(Mem codes, Mem scale) {
  /** cublasLt's products in FP8 want rows of multiples of 16 bytes, of both operands and of the result. */
  public static final int MULTIPLE = 16;

  /** Whether a weight [rows, cols] has products in FP8, with its rows and with its columns as what is summed over. */
  public static boolean fits(long rows, long cols) {
    return rows % MULTIPLE == 0 && cols % MULTIPLE == 0;
  }
}
