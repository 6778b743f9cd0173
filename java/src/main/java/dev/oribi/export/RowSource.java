package dev.oribi.export;

import java.io.IOException;

/** Hands a weight on in pieces of whole rows, so that none is ever held as a whole. */
final class RowSource {
  /** Values of a piece: 16 MiB of fp32, and at least a row. */
  private static final int PIECE = 1 << 22;

  private RowSource() {}

  /** Takes the next rows, which lie at the beginning of {@code values}. */
  interface Taker {
    void take(float[] values, int n, long row, int rows) throws IOException;
  }

  static void copy(MergedModel model, String name, Taker taker) throws IOException {
    long[] shape = model.shape(name);
    int cols = Math.toIntExact(shape[shape.length - 1]);
    long rows = shape.length == 1 ? 1 : shape[0];
    int step = (int) Math.min(rows, Math.max(1, PIECE / cols));
    float[] values = new float[Math.multiplyExact(step, cols)];
    for (long row = 0; row < rows; row += step) {
      int n = (int) Math.min(step, rows - row);
      model.read(name, row, n, values);
      taker.take(values, n * cols, row, n);
    }
  }
}
