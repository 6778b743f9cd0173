package dev.oribi.gguf;

import java.io.IOException;

/**
 * The matrix that makes keys and values of latent attention, which files hold as two stacks with one matrix a head.
 *
 * <pre>
 * kv_b_proj  [heads * (nope + value), rank]   of each head first the rows for its key, then those for its value
 * keys       [heads, rank, nope]              turned: llama.cpp multiplies queries with it, and attends to the short vectors
 * values     [heads, value, rank]
 * </pre>
 *
 * @param keys name of the one tensor
 * @param values name of the other
 */
public record LatentSplit(String keys, String values, int heads, int nope, int value, int rank) {
  public long[] keysShape() {
    return new long[] {heads, rank, nope};
  }

  public long[] valuesShape() {
    return new long[] {heads, value, rank};
  }

  /** Rows of a head in the whole matrix. */
  public int headRows() {
    return nope + value;
  }

  /** Takes numbers of a tensor, in its order. */
  public interface Taker {
    void take(float[] values, int n) throws IOException;
  }

  /** Numbers of one of the two tensors, from a head's rows of the whole matrix. */
  public void split(float[] rows, boolean ofKeys, Taker taker) throws IOException {
    float[] part = new float[rank * (ofKeys ? nope : value)];
    if (ofKeys) {
      turn(rows, nope, rank, part);
    } else {
      System.arraycopy(rows, nope * rank, part, 0, part.length);
    }
    taker.take(part, part.length);
  }

  /** A head's rows of the whole matrix, from its part of both tensors. */
  float[] join(float[] ofKeys, float[] ofValues) {
    float[] rows = new float[headRows() * rank];
    turn(ofKeys, rank, nope, rows);
    System.arraycopy(ofValues, 0, rows, nope * rank, ofValues.length);
    return rows;
  }

  /** [rows, cols] into [cols, rows] */
  private static void turn(float[] from, int rows, int cols, float[] into) {
    for (int r = 0; r < rows; r++) {
      for (int c = 0; c < cols; c++) {
        into[c * rows + r] = from[r * cols + c];
      }
    }
  }
}
