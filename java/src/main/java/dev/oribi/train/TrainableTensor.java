package dev.oribi.train;

import java.nio.FloatBuffer;

/**
 * One tensor that training changes, with its two moments of AdamW and its gradient; all of the same shape, in fp32.
 *
 * <p>A checkpoint reads and writes the parts through this interface, whatever device they are on, without rounding.
 */
public interface TrainableTensor {
  /** What belongs to a trainable tensor. */
  enum Part {
    /** The fp32 value itself, not the rounded copy that the products use. */
    VALUE,
    /** AdamW's running mean of the gradient. */
    MOMENT1,
    /** AdamW's running mean of the squared gradient. */
    MOMENT2,
    /** Sum over the micro-batches since the last update. */
    GRADIENT
  }

  /** PEFT's name for a tensor of an adapter, Hugging Face's for one of the model. */
  String name();

  /** Sizes, slowest first. */
  long[] shape();

  /** Number of elements: the product of {@link #shape()}. */
  default long elements() {
    long count = 1;
    for (long size : shape()) {
      count = Math.multiplyExact(count, size);
    }
    return count;
  }

  /** Copies the whole part to {@code into}, from its position on; it must have {@link #elements()} floats left. */
  void read(Part part, FloatBuffer into);

  /** Replaces the whole part by the next {@link #elements()} floats of {@code from}. */
  void write(Part part, FloatBuffer from);
}
