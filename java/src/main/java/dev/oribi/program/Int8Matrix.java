package dev.oribi.program;

import dev.oribi.kernel.DType;
import dev.oribi.kernel.Int8;
import dev.oribi.program.Buffer.Lifetime;
import dev.oribi.program.Buffer.Rows;
import java.util.List;

/**
 * A frozen matrix [rows, cols] in 8 bits, in blocks of 64 along each row: where its codes and its scales lie. The arithmetic is
 * that of {@code oribi_int8} in {@code oribi.h}; some of the rows are a matrix of their own.
 *
 * @param codes [rows, cols] bytes
 * @param scale [rows, cols/64] fp32
 */
public record Int8Matrix(Buffer codes, Buffer scale) {
  /** {@code cols} is a multiple of {@link Int8#BLOCK}. */
  public static Int8Matrix of(String label, long rows, long cols) {
    return new Int8Matrix(
        new Buffer(label + ".codes", Lifetime.WEIGHT_8BIT, DType.U8, Rows.FIXED, rows, cols),
        new Buffer(label + ".scale", Lifetime.WEIGHT_8BIT, DType.F32, Rows.FIXED, rows, cols / Int8.BLOCK));
  }

  public long rows() {
    return codes.rows();
  }

  public long cols() {
    return codes.cols();
  }

  public List<Buffer> buffers() {
    return List.of(codes, scale);
  }

  public long bytes() {
    return codes.bytes() + scale.bytes();
  }

  /** Where {@code count} rows from {@code begin} on lie, for the kernels; its plan must have been taken. */
  public Int8 place(long begin, long count) {
    return new Int8(View.of(codes).rows(begin, count).mem(), View.of(scale).rows(begin, count).mem());
  }
}
