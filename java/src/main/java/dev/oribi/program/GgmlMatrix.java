package dev.oribi.program;

import dev.oribi.device.Mem;
import dev.oribi.gguf.GgmlType;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.Kernels;
import dev.oribi.program.Buffer.Lifetime;
import dev.oribi.program.Buffer.Rows;

/**
 * A frozen matrix [rows, cols] in ggml's blocks, byte for byte as a GGUF file holds it; some of the rows are a matrix of their
 * own.
 *
 * @param blocks [rows, bytes of a row]
 */
public record GgmlMatrix(GgmlType type, long cols, Buffer blocks) {
  /** {@code cols} are whole blocks. */
  public static GgmlMatrix of(String label, GgmlType type, long rows, long cols) {
    return new GgmlMatrix(type, cols, new Buffer(label + ".blocks", Lifetime.WEIGHT_GGML, DType.U8, Rows.FIXED, rows, type.bytes(cols)));
  }

  public long rows() {
    return blocks.rows();
  }

  public long count() {
    return rows() * cols;
  }

  /** Where {@code count} rows from {@code begin} on lie; its plan must have been taken. */
  public Mem place(long begin, long count) {
    return View.of(blocks).rows(begin, count).mem();
  }

  /**
   * y[n, rows] = x[n, cols]·Wᵀ in fp32 for few rows, on a CPU alone.
   *
   * @param roundsX whether x may be rounded to 8 bits; see {@link Emit#forText}
   */
  void multiply(Kernels kernels, Mem y, Mem x, long n, long ldX, long ldY, boolean roundsX) {
    Mem w = place(0, rows());
    if (roundsX) {
      kernels.ggml().matmulQ8(y, x, w, n, cols, rows(), ldX, ldY, type.id());
    } else {
      kernels.ggml().matmul(y, x, w, n, cols, rows(), ldX, ldY, type.id());
    }
  }
}
