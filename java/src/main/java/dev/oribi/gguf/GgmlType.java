package dev.oribi.gguf;

import java.util.HashMap;
import java.util.Map;

/**
 * The element types of a GGUF file that Oribi reads and writes, by ggml's names.
 *
 * <p>All but the first three pack a block of consecutive elements of a row into a few bytes: a scale, perhaps a smallest
 * value, and the small integers. A row therefore holds a whole number of blocks, and rows can be moved without touching their
 * blocks.
 */
public enum GgmlType {
  F32(0, 1, 4),
  F16(1, 1, 2),
  BF16(30, 1, 2),
  Q4_0(2, 32, 18),
  Q4_1(3, 32, 20),
  Q5_0(6, 32, 22),
  Q5_1(7, 32, 24),
  Q8_0(8, 32, 34),
  Q4_K(12, 256, 144),
  Q5_K(13, 256, 176),
  Q6_K(14, 256, 210);

  private static final Map<Integer, GgmlType> BY_ID = new HashMap<>();

  static {
    for (GgmlType type : values()) {
      BY_ID.put(type.id, type);
    }
  }

  private final int id;
  private final int blockElements;
  private final int blockBytes;

  GgmlType(int id, int blockElements, int blockBytes) {
    this.id = id;
    this.blockElements = blockElements;
    this.blockBytes = blockBytes;
  }

  /** The type of a number in a file; null if Oribi does not know it. */
  static GgmlType of(int id) {
    return BY_ID.get(id);
  }

  /** The number that stands for it in a file and in {@code oribi.h}. */
  public int id() {
    return id;
  }

  public int blockElements() {
    return blockElements;
  }

  public int blockBytes() {
    return blockBytes;
  }

  /** Whether elements are packed in blocks, so that a product needs them expanded first. */
  public boolean packed() {
    return blockElements > 1;
  }

  /** Whether rows of {@code cols} elements consist of whole blocks. */
  public boolean fits(long cols) {
    return cols % blockElements == 0;
  }

  /** Bytes of a number of elements that fill whole blocks. Throws {@link ArithmeticException} otherwise. */
  public long bytes(long elements) {
    if (elements % blockElements != 0) {
      throw new ArithmeticException(elements + " elements fill no whole blocks of " + this);
    }
    return Math.multiplyExact(elements / blockElements, (long) blockBytes);
  }
}
