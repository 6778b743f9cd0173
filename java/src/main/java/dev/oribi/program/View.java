package dev.oribi.program;

import dev.oribi.device.Mem;
import dev.oribi.kernel.DType;

/** A block of rows and columns of a buffer: where one weight lies in a stack, or one projection's columns in a row. */
public final class View {
  private final Buffer buffer;
  private final long offset;
  private final long rows;
  private final long cols;
  private final long ld;
  private final long firstRow;
  private Mem mem;

  private View(Buffer buffer, long offset, long rows, long cols, long ld, long firstRow) {
    this.buffer = buffer;
    this.offset = offset;
    this.rows = rows;
    this.cols = cols;
    this.ld = ld;
    this.firstRow = firstRow;
  }

  /** The whole of a buffer. */
  public static View of(Buffer buffer) {
    return new View(buffer, 0, buffer.rows(), buffer.cols(), buffer.cols(), 0);
  }

  /** A contiguous matrix [rows, cols] that begins {@code offset} elements into a buffer. */
  public static View matrix(Buffer buffer, long offset, long rows, long cols) {
    return new View(buffer, offset, rows, cols, cols, 0);
  }

  public View rows(long begin, long count) {
    return new View(buffer, offset + begin * ld, count, cols, ld, firstRow + begin);
  }

  public View cols(long begin, long count) {
    return new View(buffer, offset + begin, rows, count, ld, firstRow);
  }

  /** The same rows, of which the first stands for row {@code row} of what they count: a tile of a longer matrix. */
  public View from(long row) {
    return new View(buffer, offset, rows, cols, ld, row);
  }

  /** Which row of what its rows count the first one is. */
  public long firstRow() {
    return firstRow;
  }

  public Buffer buffer() {
    return buffer;
  }

  public DType type() {
    return buffer.type();
  }

  /** Largest number of rows. */
  public long rows() {
    return rows;
  }

  public long cols() {
    return cols;
  }

  /** Elements from one row to the next. */
  public long ld() {
    return ld;
  }

  /** Elements from the beginning of the buffer to the first of this view. */
  public long offset() {
    return offset;
  }

  public long elements() {
    return rows * cols;
  }

  public Mem mem() {
    if (mem == null) {
      long last = rows == 0 || cols == 0 ? 0 : (rows - 1) * ld + cols;
      mem = buffer.mem().slice(offset * type().bytes(), last * type().bytes());
    }
    return mem;
  }
}
