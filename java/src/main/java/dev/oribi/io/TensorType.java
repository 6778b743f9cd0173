package dev.oribi.io;

/**
 * Element types of a safetensors file, under the names the file uses.
 *
 * <p>The order is part of the format: the canonical layout of a file puts later types of this list first (larger ones
 * before smaller ones), so that every tensor begins at a multiple of its element size.
 */
public enum TensorType {
  BOOL(8),
  F4(4),
  F6_E2M3(6),
  F6_E3M2(6),
  U8(8),
  I8(8),
  F8_E5M2(8),
  F8_E4M3(8),
  F8_E8M0(8),
  F8_E4M3FNUZ(8),
  F8_E5M2FNUZ(8),
  I16(16),
  U16(16),
  F16(16),
  BF16(16),
  I32(32),
  U32(32),
  F32(32),
  C64(64),
  F64(64),
  I64(64),
  U64(64);

  private final int bits;

  TensorType(int bits) {
    this.bits = bits;
  }

  /** Bits of one element; types below 8 bits are packed without padding between elements. */
  public int bits() {
    return bits;
  }

  /** Bytes of {@code elements} elements. Throws {@link ArithmeticException} on overflow or if they do not fill whole bytes. */
  long bytes(long elements) {
    long allBits = Math.multiplyExact(elements, (long) bits);
    if (allBits % 8 != 0) {
      throw new ArithmeticException("not a whole number of bytes");
    }
    return allBits / 8;
  }

  /** Product of the dimensions; 1 for a scalar. Throws {@link ArithmeticException} on overflow. */
  static long elements(long[] shape) {
    long n = 1;
    for (long dim : shape) {
      n = Math.multiplyExact(n, dim);
    }
    return n;
  }
}
