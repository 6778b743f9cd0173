package dev.oribi.model;

import dev.oribi.device.Mem;
import dev.oribi.kernel.DType;
import dev.oribi.layer.Parameters;
import dev.oribi.layer.Parameters.Fp8Rows;
import dev.oribi.layer.Parameters.Tensor;
import dev.oribi.program.Fp8Matrix;

/**
 * Fills weights in FP8. The tensors of a stack come one after the other, in the storage type of activations, into memory that
 * activations take later; with the last of them the stack is rounded as a whole, by rows and by columns.
 */
final class Fp8Loader {
  private final Machine machine;
  private final Mem scratch;
  private final DType type;

  /** {@code scratch}: {@link #scratchBytes} at least; null if nothing is in FP8. */
  Fp8Loader(Machine machine, Mem scratch, DType type) {
    this.machine = machine;
    this.scratch = scratch;
    this.type = type;
  }

  /** Bytes of the largest stack in FP8 in the storage type of activations; 0 if there is none. */
  static long scratchBytes(Parameters parameters) {
    return parameters.tensors().stream()
        .filter(t -> t.fp8() != null)
        .mapToLong(t -> t.fp8().stack().rows() * t.fp8().stack().cols() * parameters.type().bytes())
        .max()
        .orElse(0);
  }

  /** Where the tensor's values go first. */
  Mem place(Tensor t) {
    Fp8Rows rows = t.fp8();
    long row = rows.stack().cols() * type.bytes();
    if (scratch == null || scratch.bytes() < rows.stack().rows() * row) {
      throw new IllegalStateException(t.name() + " cannot be rounded to FP8: its plan holds no memory for that");
    }
    return scratch.slice(rows.first() * row, rows.rows() * row);
  }

  /** The tensor's values are in their place. */
  void filled(Tensor t) {
    if (!t.fp8().last()) {
      return;
    }
    Fp8Matrix q = t.fp8().stack();
    machine.kernels().fp8().quantize(q.place(), scratch, q.rows(), q.cols(), q.cols(), type);
    machine.kernels().fp8().quantizeTransposed(q.turned(), scratch, q.rows(), q.cols(), q.cols(), type);
    // The next stack's values go to the same place.
    machine.kernels().synchronize();
  }
}
