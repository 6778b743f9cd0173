package dev.oribi.gguf;

import java.util.Arrays;

/**
 * Where one tensor lies in a GGUF file.
 *
 * @param name by llama.cpp's names, such as {@code blk.0.attn_q.weight}
 * @param type type of the elements
 * @param shape dimensions, outermost first as everywhere in Oribi; the file lists them the other way round
 * @param begin first byte in the file
 * @param bytes its length
 */
public record GgufTensor(String name, GgmlType type, long[] shape, long begin, long bytes) {
  public GgufTensor {
    shape = shape.clone();
  }

  @Override
  public long[] shape() {
    return shape.clone();
  }

  /** Product of the dimensions. */
  public long elements() {
    return Arrays.stream(shape).reduce(1, Math::multiplyExact);
  }

  /** Elements of a row: the dimension along which blocks lie. */
  public long cols() {
    return shape[shape.length - 1];
  }

  public long rows() {
    return elements() / cols();
  }

  @Override
  public String toString() {
    return name + " " + type + Arrays.toString(shape);
  }
}
