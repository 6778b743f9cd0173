package dev.oribi.gguf;

import dev.oribi.io.Half;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.stream.IntStream;

/**
 * Values to blocks and back, for every {@link GgmlType}.
 *
 * <p>Where ggml rounds (the types with 32 elements a block) the bytes are ggml's. Where it searches (the K types) the search is
 * the one that ggml does without an importance matrix. Arithmetic is fp32 throughout, as there. A value that is not finite
 * makes no meaningful block; callers refuse such weights before.
 */
public final class GgmlBlocks {
  /** Blocks that one task of a parallel encoding takes: some tens of microseconds of work. */
  private static final int TASK = 32;

  private GgmlBlocks() {}

  /** The blocks of {@code n} values, which fill whole blocks; little-endian, ready to be read. Uses all cores. */
  public static ByteBuffer encode(GgmlType type, float[] values, int n) {
    byte[] bytes = new byte[Math.toIntExact(type.bytes(n))];
    int per = TASK * type.blockElements();
    IntStream.range(0, (n + per - 1) / per).parallel().forEach(task -> {
      int from = task * per;
      int end = Math.min(n, from + per);
      ByteBuffer out = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).position((int) type.bytes(from));
      for (int at = from; at < end; at += type.blockElements()) {
        encodeBlock(type, values, at, out);
      }
    });
    return ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
  }

  private static void encodeBlock(GgmlType type, float[] x, int at, ByteBuffer out) {
    switch (type) {
      case F32 -> out.putFloat(x[at]);
      case F16 -> out.putShort(Half.toF16(x[at]));
      case BF16 -> out.putShort(Half.toBf16(x[at]));
      case Q4_0 -> SmallBlocks.encodeSigned(x, at, 4, out);
      case Q5_0 -> SmallBlocks.encodeSigned(x, at, 5, out);
      case Q4_1 -> SmallBlocks.encodeWithMin(x, at, 4, out);
      case Q5_1 -> SmallBlocks.encodeWithMin(x, at, 5, out);
      case Q8_0 -> SmallBlocks.encodeQ8(x, at, out);
      case Q4_K -> KBlocks.encodeWithMins(x, at, 4, out);
      case Q5_K -> KBlocks.encodeWithMins(x, at, 5, out);
      case Q6_K -> KBlocks.encodeQ6(x, at, out);
    }
  }

  /** {@code n} values, which fill whole blocks, from the blocks at the position of {@code in}, which moves on. */
  public static void decode(GgmlType type, ByteBuffer in, float[] values, int at, int n) {
    if (n % type.blockElements() != 0) {
      throw new IllegalArgumentException(n + " values fill no whole blocks of " + type);
    }
    ByteBuffer from = in.order(ByteOrder.LITTLE_ENDIAN);
    for (int end = at + n; at < end; at += type.blockElements()) {
      switch (type) {
        case F32 -> values[at] = from.getFloat();
        case F16 -> values[at] = Half.fromF16(from.getShort());
        case BF16 -> values[at] = Half.fromBf16(from.getShort());
        case Q4_0 -> SmallBlocks.decodeSigned(from, 4, values, at);
        case Q5_0 -> SmallBlocks.decodeSigned(from, 5, values, at);
        case Q4_1 -> SmallBlocks.decodeWithMin(from, 4, values, at);
        case Q5_1 -> SmallBlocks.decodeWithMin(from, 5, values, at);
        case Q8_0 -> SmallBlocks.decodeQ8(from, values, at);
        case Q4_K -> KBlocks.decodeWithMins(from, 4, values, at);
        case Q5_K -> KBlocks.decodeWithMins(from, 5, values, at);
        case Q6_K -> KBlocks.decodeQ6(from, values, at);
      }
    }
  }
}
