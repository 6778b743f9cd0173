package dev.oribi.gguf;

import dev.oribi.io.Half;
import java.nio.ByteBuffer;

/**
 * ggml's blocks of 32 elements: one scale in fp16, for some types a smallest value too, and rounded integers.
 *
 * <pre>
 * Q8_0        d  32 x int8                      x = d q            d = max|x| / 127
 * Q4_0, Q5_0  d  [4 bytes of fifth bits]  16 B  x = d (q - 2^(b-1))  d = (the x of largest size) / -2^(b-1)
 * Q4_1, Q5_1  d  m  [fifth bits]  16 B          x = d q + m        d = (max - min) / (2^b - 1), m = min
 * </pre>
 *
 * Byte j holds element j in its low half and element j + 16 in its high half. The integers are computed with the scale before
 * it is rounded to fp16, as ggml does.
 */
final class SmallBlocks {
  private static final int N = 32;
  private static final int HALF = 16;

  private SmallBlocks() {}

  static void encodeQ8(float[] x, int at, ByteBuffer out) {
    float largest = 0;
    for (int j = 0; j < N; j++) {
      largest = Math.max(largest, Math.abs(x[at + j]));
    }
    float d = largest / 127;
    float inverse = d == 0 ? 0 : 1 / d;
    out.putShort(Half.toF16(d));
    for (int j = 0; j < N; j++) {
      float v = x[at + j] * inverse;
      // Half away from zero, as C's roundf; the sum is exact, because |v| is small against 2^23.
      out.put((byte) (v < 0 ? -(int) (0.5 - v) : (int) (v + 0.5)));
    }
  }

  static void decodeQ8(ByteBuffer in, float[] x, int at) {
    float d = Half.fromF16(in.getShort());
    for (int j = 0; j < N; j++) {
      x[at + j] = in.get() * d;
    }
  }

  /** Q4_0 and Q5_0: the element of largest size becomes the most negative integer. */
  static void encodeSigned(float[] x, int at, int bits, ByteBuffer out) {
    float size = 0;
    float extreme = 0;
    for (int j = 0; j < N; j++) {
      if (size < Math.abs(x[at + j])) {
        size = Math.abs(x[at + j]);
        extreme = x[at + j];
      }
    }
    int half = 1 << bits - 1;
    float d = extreme / -half;
    float inverse = d == 0 ? 0 : 1 / d;
    int[] q = new int[N];
    for (int j = 0; j < N; j++) {
      q[j] = Math.min(2 * half - 1, (int) (x[at + j] * inverse + (half + 0.5f)));
    }
    out.putShort(Half.toF16(d));
    pack(q, bits, out);
  }

  static void decodeSigned(ByteBuffer in, int bits, float[] x, int at) {
    float d = Half.fromF16(in.getShort());
    int half = 1 << bits - 1;
    int high = bits == 5 ? in.getInt() : 0;
    for (int j = 0; j < HALF; j++) {
      int packed = in.get();
      x[at + j] = ((packed & 15 | (high >>> j & 1) << 4) - half) * d;
      x[at + j + HALF] = ((packed >>> 4 & 15 | (high >>> j + HALF & 1) << 4) - half) * d;
    }
  }

  /** Q4_1 and Q5_1: the integers cover the range of the block. */
  static void encodeWithMin(float[] x, int at, int bits, ByteBuffer out) {
    float min = x[at];
    float max = x[at];
    for (int j = 1; j < N; j++) {
      min = Math.min(min, x[at + j]);
      max = Math.max(max, x[at + j]);
    }
    int largest = (1 << bits) - 1;
    float d = (max - min) / largest;
    float inverse = d == 0 ? 0 : 1 / d;
    int[] q = new int[N];
    for (int j = 0; j < N; j++) {
      q[j] = Math.min(largest, (int) ((x[at + j] - min) * inverse + 0.5f));
    }
    out.putShort(Half.toF16(d));
    out.putShort(Half.toF16(min));
    pack(q, bits, out);
  }

  static void decodeWithMin(ByteBuffer in, int bits, float[] x, int at) {
    float d = Half.fromF16(in.getShort());
    float min = Half.fromF16(in.getShort());
    int high = bits == 5 ? in.getInt() : 0;
    for (int j = 0; j < HALF; j++) {
      int packed = in.get();
      x[at + j] = (packed & 15 | (high >>> j & 1) << 4) * d + min;
      x[at + j + HALF] = (packed >>> 4 & 15 | (high >>> j + HALF & 1) << 4) * d + min;
    }
  }

  private static void pack(int[] q, int bits, ByteBuffer out) {
    if (bits == 5) {
      int high = 0;
      for (int j = 0; j < N; j++) {
        high |= (q[j] >>> 4 & 1) << j;
      }
      out.putInt(high);
    }
    for (int j = 0; j < HALF; j++) {
      out.put((byte) (q[j] & 15 | q[j + HALF] << 4));
    }
  }
}
