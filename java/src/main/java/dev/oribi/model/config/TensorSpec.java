package dev.oribi.model.config;

import java.util.Arrays;

/**
 * Name and shape of a weight that a model needs.
 *
 * @param name name in the checkpoint
 * @param shape dimensions, outermost first; a projection is [out, in]
 */
public record TensorSpec(String name, long... shape) {
  public TensorSpec {
    shape = shape.clone();
  }

  @Override
  public long[] shape() {
    return shape.clone();
  }

  @Override
  public String toString() {
    return name + Arrays.toString(shape);
  }
}
