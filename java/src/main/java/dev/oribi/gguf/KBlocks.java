package dev.oribi.gguf;

import dev.oribi.io.Half;
import java.nio.ByteBuffer;
import java.util.Arrays;

/**
 * ggml's blocks of 256 elements, whose groups have scales of 6 or 8 bits that are themselves scaled by one fp16 number.
 *
 * <pre>
 * Q4_K, Q5_K  8 groups of 32   x = d sc q - dmin m     d  dmin  12 B of sc and m, 6 bits each  [32 B of fifth bits]  128 B
 * Q6_K        16 groups of 16  x = d sc (q - 32)       128 B low 4 bits  64 B high 2 bits  16 x int8 sc  d
 * </pre>
 *
 * A group's scale (and smallest value) is found by {@link KSearch}; then the scales are rounded to their bits, and last the
 * elements are rounded against what the scales became.
 */
final class KBlocks {
  private static final int N = 256;
  private static final int GROUPS = 8;
  private static final int GROUP = 32;
  private static final int SMALL_GROUPS = 16;
  private static final int SMALL_GROUP = 16;
  private static final int SCALES_BYTES = 12;

  private KBlocks() {}

  // ------------------------------------------------------------------------------------------------------ Q4_K, Q5_K

  static void encodeWithMins(float[] x, int at, int bits, ByteBuffer out) {
    float[] scales = new float[GROUPS];
    float[] mins = new float[GROUPS];
    byte[] q = new byte[N];
    KSearch.Trials trials = bits == 4 ? KSearch.Trials.FOUR_BITS : KSearch.Trials.FIVE_BITS;
    for (int g = 0; g < GROUPS; g++) {
      KSearch.Found found = KSearch.withMin(trials, x, at + g * GROUP, q, g * GROUP);
      scales[g] = found.scale();
      mins[g] = found.min();
    }
    float maxScale = largest(scales);
    float maxMin = largest(mins);
    short d = Half.toF16(maxScale / 63);
    short dmin = Half.toF16(maxMin / 63);
    int[] sc = toSixBits(scales, maxScale);
    int[] m = toSixBits(mins, maxMin);
    for (int g = 0; g < GROUPS; g++) {
      float step = Half.fromF16(d) * sc[g];
      if (step != 0) { // otherwise what the search found stays
        roundGroup(x, at + g * GROUP, q, g * GROUP, step, Half.fromF16(dmin) * m[g], (1 << bits) - 1);
      }
    }
    out.putShort(d).putShort(dmin).put(packScales(sc, m));
    packWithMins(q, bits, out);
  }

  private static float largest(float[] values) {
    float largest = 0;
    for (float v : values) {
      largest = Math.max(largest, v);
    }
    return largest;
  }

  private static int[] toSixBits(float[] values, float largest) {
    float inverse = largest > 0 ? 63 / largest : 0;
    int[] q = new int[values.length];
    for (int i = 0; i < q.length; i++) {
      q[i] = Math.min(63, KSearch.nearest(inverse * values[i]));
    }
    return q;
  }

  private static void roundGroup(float[] x, int at, byte[] q, int into, float step, float min, int largest) {
    for (int i = 0; i < GROUP; i++) {
      q[into + i] = (byte) Math.max(0, Math.min(largest, KSearch.nearest((x[at + i] + min) / step)));
    }
  }

  /** Bytes 0-3 and 4-7: the first four scales and mins; bytes 8-11: low halves of the others, whose top bits fill the first eight. */
  private static byte[] packScales(int[] sc, int[] m) {
    byte[] packed = new byte[SCALES_BYTES];
    for (int g = 0; g < 4; g++) {
      packed[g] = (byte) (sc[g] | sc[g + 4] >> 4 << 6);
      packed[g + 4] = (byte) (m[g] | m[g + 4] >> 4 << 6);
      packed[g + 8] = (byte) (sc[g + 4] & 15 | (m[g + 4] & 15) << 4);
    }
    return packed;
  }

  private static void packWithMins(byte[] q, int bits, ByteBuffer out) {
    if (bits == 5) {
      for (int l = 0; l < GROUP; l++) {
        int high = 0;
        for (int g = 0; g < GROUPS; g++) {
          high |= (q[g * GROUP + l] >> 4) << g;
        }
        out.put((byte) high);
      }
    }
    for (int pair = 0; pair < N; pair += 2 * GROUP) {
      for (int l = 0; l < GROUP; l++) {
        out.put((byte) (q[pair + l] & 15 | q[pair + GROUP + l] << 4));
      }
    }
  }

  static void decodeWithMins(ByteBuffer in, int bits, float[] x, int at) {
    float d = Half.fromF16(in.getShort());
    float dmin = Half.fromF16(in.getShort());
    byte[] scales = new byte[SCALES_BYTES];
    in.get(scales);
    byte[] high = new byte[GROUP];
    if (bits == 5) {
      in.get(high);
    }
    for (int pair = 0; pair < GROUPS; pair += 2) {
      float step = d * scaleOf(scales, pair);
      float min = dmin * minOf(scales, pair);
      float nextStep = d * scaleOf(scales, pair + 1);
      float nextMin = dmin * minOf(scales, pair + 1);
      for (int l = 0; l < GROUP; l++) {
        int packed = in.get();
        int into = at + pair * GROUP + l;
        x[into] = step * (packed & 15 | (high[l] >> pair & 1) << 4) - min;
        x[into + GROUP] = nextStep * (packed >>> 4 & 15 | (high[l] >> pair + 1 & 1) << 4) - nextMin;
      }
    }
  }

  private static int scaleOf(byte[] packed, int g) {
    return g < 4 ? packed[g] & 63 : packed[g + 4] & 15 | (packed[g - 4] >> 6 & 3) << 4;
  }

  private static int minOf(byte[] packed, int g) {
    return g < 4 ? packed[g + 4] & 63 : packed[g + 4] >> 4 & 15 | (packed[g] >> 6 & 3) << 4;
  }

  // ------------------------------------------------------------------------------------------------------------ Q6_K

  static void encodeQ6(float[] x, int at, ByteBuffer out) {
    float[] scales = new float[SMALL_GROUPS];
    byte[] q = new byte[N];
    float extreme = 0;
    for (int g = 0; g < SMALL_GROUPS; g++) {
      scales[g] = KSearch.signedSixBits(x, at + g * SMALL_GROUP, q, g * SMALL_GROUP);
      if (Math.abs(scales[g]) > Math.abs(extreme)) {
        extreme = scales[g];
      }
    }
    byte[] sc = new byte[SMALL_GROUPS];
    short d = 0;
    if (Math.abs(extreme) < KSearch.NOTHING) {
      Arrays.fill(q, (byte) 0); // ggml leaves such a block all zero bytes
    } else {
      float inverse = -128 / extreme;
      d = Half.toF16(1 / inverse);
      for (int g = 0; g < SMALL_GROUPS; g++) {
        sc[g] = (byte) Math.min(127, KSearch.nearest(inverse * scales[g]));
        roundSmallGroup(x, at + g * SMALL_GROUP, q, g * SMALL_GROUP, Half.fromF16(d) * sc[g]);
      }
    }
    packQ6(q, out);
    out.put(sc).putShort(d);
  }

  private static void roundSmallGroup(float[] x, int at, byte[] q, int into, float step) {
    for (int i = 0; i < SMALL_GROUP && step != 0; i++) {
      q[into + i] = (byte) (Math.max(-32, Math.min(31, KSearch.nearest(x[at + i] / step))) + 32);
    }
  }

  private static void packQ6(byte[] q, ByteBuffer out) {
    for (int half = 0; half < N; half += 128) {
      for (int l = 0; l < 64; l++) {
        out.put((byte) (q[half + l] & 15 | (q[half + l + 64] & 15) << 4));
      }
    }
    for (int half = 0; half < N; half += 128) {
      for (int l = 0; l < 32; l++) {
        out.put((byte) (q[half + l] >> 4 | q[half + l + 32] >> 4 << 2 | q[half + l + 64] >> 4 << 4 | q[half + l + 96] >> 4 << 6));
      }
    }
  }

  static void decodeQ6(ByteBuffer in, float[] x, int at) {
    byte[] low = new byte[N / 2];
    byte[] high = new byte[N / 4];
    byte[] sc = new byte[SMALL_GROUPS];
    in.get(low).get(high).get(sc);
    float d = Half.fromF16(in.getShort());
    for (int i = 0; i < N; i++) {
      int half = i / 128;
      int quarter = i % 128 / 32; // which fourth of its half, and so which two bits of the high byte
      int l = i % 32;
      int nibbles = low[half * 64 + quarter % 2 * 32 + l];
      int lowBits = quarter < 2 ? nibbles & 15 : nibbles >> 4 & 15;
      int q = lowBits | (high[half * 32 + l] >> 2 * quarter & 3) << 4;
      x[at + i] = d * sc[i / SMALL_GROUP] * (q - 32);
    }
  }
}
