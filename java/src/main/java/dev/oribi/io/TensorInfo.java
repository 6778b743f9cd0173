package dev.oribi.io;

import java.nio.file.Path;
import java.util.Arrays;

/**
 * Where one tensor lies in a safetensors file. Elements are little-endian, row-major, without gaps.
 *
 * @param name name of the tensor, as Hugging Face writes it
 * @param type type of the elements
 * @param shape dimensions, outermost first; empty for a scalar
 * @param begin first byte, counted from the start of the file's data section
 * @param end one past the last byte, counted likewise
 * @param file the file that holds it
 */
public record TensorInfo(String name, TensorType type, long[] shape, long begin, long end, Path file) {
  public TensorInfo {
    shape = shape.clone();
  }

  @Override
  public long[] shape() {
    return shape.clone();
  }

  public long elements() {
    return TensorType.elements(shape);
  }

  public long bytes() {
    return end - begin;
  }

  @Override
  public String toString() {
    return name + " " + type + Arrays.toString(shape) + " in " + file;
  }
}
