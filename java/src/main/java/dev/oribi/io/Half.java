package dev.oribi.io;

import java.nio.FloatBuffer;
import java.nio.ShortBuffer;

/**
 * Conversions between float and the two 16-bit floating-point formats of checkpoints, bf16 and IEEE half (f16).
 *
 * <p>Widening is exact. Narrowing rounds to nearest, ties to even; what exceeds the largest f16 becomes infinite; a NaN
 * stays a NaN.
 */
public final class Half {
  private static final float F16_SUBNORMAL_STEP = 0x1p-24f;

  private Half() {}

  public static float fromBf16(short bits) {
    return Float.intBitsToFloat(bits << 16);
  }

  public static short toBf16(float value) {
    int bits = Float.floatToRawIntBits(value);
    if (Float.isNaN(value)) {
      return (short) (bits >>> 16 | 0x40); // keep it a NaN even if its payload sat in the lower half
    }
    int half = 0x7fff + (bits >>> 16 & 1);
    return (short) (bits + half >>> 16);
  }

  public static float fromF16(short bits) {
    int sign = (bits & 0x8000) << 16;
    int exponent = bits >>> 10 & 0x1f;
    int mantissa = bits & 0x3ff;
    if (exponent == 0) {
      float magnitude = mantissa * F16_SUBNORMAL_STEP;
      return sign == 0 ? magnitude : -magnitude;
    }
    int wide = exponent == 0x1f ? 0xff : exponent - 15 + 127;
    return Float.intBitsToFloat(sign | wide << 23 | mantissa << 13);
  }

  public static short toF16(float value) {
    int bits = Float.floatToRawIntBits(value);
    int sign = bits >>> 16 & 0x8000;
    int magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) {
      return (short) (sign | 0x7e00 | magnitude >>> 13 & 0x1ff);
    }
    if (magnitude >= 0x477ff000) { // 65520 and more round to infinity
      return (short) (sign | 0x7c00);
    }
    if (magnitude < 0x38800000) { // below 2^-14: the multiple of 2^-24 nearest to it
      return (short) (sign | (int) Math.rint(Float.intBitsToFloat(magnitude) / (double) F16_SUBNORMAL_STEP));
    }
    int rebiased = magnitude - (112 << 23);
    int half = 0xfff + (rebiased >>> 13 & 1);
    return (short) (sign | rebiased + half >>> 13);
  }

  /** Widens as many values as {@code into} has room for. */
  static void widenBf16(ShortBuffer from, FloatBuffer into) {
    while (into.hasRemaining()) {
      into.put(fromBf16(from.get()));
    }
  }

  /** Widens as many values as {@code into} has room for. */
  static void widenF16(ShortBuffer from, FloatBuffer into) {
    while (into.hasRemaining()) {
      into.put(fromF16(from.get()));
    }
  }
}
