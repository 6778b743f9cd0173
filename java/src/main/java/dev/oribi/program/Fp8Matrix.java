package dev.oribi.program;

import dev.oribi.kernel.DType;
import dev.oribi.kernel.Fp8;
import dev.oribi.program.Buffer.Lifetime;
import dev.oribi.program.Buffer.Rows;
import java.util.List;

/**
 * A frozen weight [rows, cols] in FP8, twice: its rows, which y = x·Wᵀ reads, and its columns as rows, which dx = dy·W reads.
 * A tensor core sums over the contiguous dimension of both operands, and a scale belongs to what is not summed over, so that
 * neither serves for the other. Together they take the bytes of one copy in 16 bits, and 4 for each row and each column.
 *
 * @param codes [rows, cols]
 * @param scale [rows]
 * @param turnedCodes [cols, rows]
 * @param turnedScale [cols]
 */
public record Fp8Matrix(Buffer codes, Buffer scale, Buffer turnedCodes, Buffer turnedScale) {
  /** {@code rows} and {@code cols} are such that {@link Fp8#fits}. */
  public static Fp8Matrix of(String label, Lifetime lifetime, long rows, long cols) {
    if (!Fp8.fits(rows, cols)) {
      throw new IllegalArgumentException(label + " [" + rows + ", " + cols + "] has no products in FP8");
    }
    return new Fp8Matrix(
        new Buffer(label + ".fp8", lifetime, DType.E4M3, Rows.FIXED, rows, cols),
        new Buffer(label + ".fp8_scale", lifetime, DType.F32, Rows.FIXED, rows, 1),
        new Buffer(label + ".fp8_turned", lifetime, DType.E4M3, Rows.FIXED, cols, rows),
        new Buffer(label + ".fp8_turned_scale", lifetime, DType.F32, Rows.FIXED, cols, 1));
  }

  public long rows() {
    return codes.rows();
  }

  public long cols() {
    return codes.cols();
  }

  public List<Buffer> buffers() {
    return List.of(codes, scale, turnedCodes, turnedScale);
  }

  public long bytes() {
    return buffers().stream().mapToLong(Buffer::bytes).sum();
  }

  /** The rows, for the kernels; its plan must have been taken. */
  public Fp8 place() {
    return new Fp8(codes.mem(), scale.mem());
  }

  /** The columns as rows. */
  public Fp8 turned() {
    return new Fp8(turnedCodes.mem(), turnedScale.mem());
  }
}
