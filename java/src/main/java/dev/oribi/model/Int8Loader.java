package dev.oribi.model;

import dev.oribi.OribiException;
import dev.oribi.device.Mem;
import dev.oribi.io.Checkpoint;
import dev.oribi.io.SafetensorsFile;
import dev.oribi.io.TensorInfo;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.Int8;
import dev.oribi.kernel.Kernels;
import dev.oribi.layer.Parameters.Tensor;
import dev.oribi.program.Int8Matrix;

/**
 * Fills weights in 8 bits by quantizing plain values, some rows after the others, and measures what that lost. The memory for
 * it is part of the plan: it is what activations take later.
 */
final class Int8Loader {
  /** Elements that are quantized at once: 32 MiB of fp32. */
  private static final long ELEMENTS = 8L << 20;

  private static final long ALIGNMENT = 64;

  private final Machine machine;
  private final Mem scratch;
  private double relativeError = Double.NaN;

  /** {@code scratch}: {@link #scratchBytes} of the largest matrix; null if none will be quantized. */
  Int8Loader(Machine machine, Mem scratch) {
    this.machine = machine;
    this.scratch = scratch;
  }

  /** Bytes that quantizing a matrix takes. */
  static long scratchBytes(Int8Matrix q) {
    return new Parts(Mem.NOWHERE, q).bytes;
  }

  /** The pieces of the scratch memory: values of some rows, sums of their blocks, sums of those. */
  private static final class Parts {
    final long rows;
    final long bytes;
    final Mem values;
    final Mem lost;
    final Mem all;
    final Mem sums;
    final Mem workspace;
    private final Mem from;
    private long end;

    Parts(Mem from, Int8Matrix q) {
      this.from = from;
      rows = Math.max(1, Math.min(q.rows(), ELEMENTS / q.cols()));
      long blocks = rows * q.cols() / Int8.BLOCK;
      values = next(4 * rows * q.cols());
      lost = next(4 * blocks);
      all = next(4 * blocks);
      sums = next(2 * ALIGNMENT);
      workspace = next(Kernels.sumWorkspace(blocks));
      bytes = end;
    }

    private Mem next(long size) {
      long begin = end;
      end = begin + (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
      return from == Mem.NOWHERE ? from : from.slice(begin, size);
    }
  }

  /** Puts the values of {@code count} rows from {@code begin} on into {@code to}. */
  interface Rows {
    void fill(Mem to, long begin, long count);
  }

  /** Quantizes a plain tensor of the checkpoint from its own type. */
  void quantize(Checkpoint files, TensorInfo info, Tensor t) {
    DType type = switch (info.type()) {
      case F32 -> DType.F32;
      case BF16 -> DType.BF16;
      case F16 -> DType.F16;
      default -> throw new OribiException(
          info.file() + ": tensor " + info.name() + " has type " + info.type() + "; F32, BF16 and F16 can be quantized.");
    };
    SafetensorsFile file = files.fileOf(info);
    long row = t.int8().cols() * type.bytes();
    quantize(t, type, (to, begin, count) -> machine.device().write(to, file.slice(info, begin * row, (int) (count * row))));
  }

  /** Quantizes what {@code source} gives, in values of a type. */
  void quantize(Tensor t, DType type, Rows source) {
    Int8Matrix q = t.int8();
    if (scratch == null || scratch.bytes() < scratchBytes(q)) {
      throw new IllegalStateException(t.name() + " cannot be quantized: its plan holds no memory for that");
    }
    Parts parts = new Parts(scratch, q);
    Mem lost = parts.sums.slice(0, Double.BYTES);
    Mem all = parts.sums.slice(ALIGNMENT, Double.BYTES);
    for (long begin = 0; begin < q.rows(); begin += parts.rows) {
      long count = Math.min(parts.rows, q.rows() - begin);
      long blocks = count * q.cols() / Int8.BLOCK;
      Mem values = parts.values.slice(0, type.bytes() * count * q.cols());
      source.fill(values, begin, count);
      machine.kernels().int8().quantize(q.place(begin, count), parts.lost, parts.all, values, count, q.cols(), type);
      machine.kernels().sum(lost, parts.lost, parts.workspace, blocks, begin > 0);
      machine.kernels().sum(all, parts.all, parts.workspace, blocks, begin > 0);
      // The next rows' values go to the same place.
      machine.kernels().synchronize();
    }
    double squares = machine.device().readDouble(all);
    relativeError = squares == 0 ? 0 : Math.sqrt(machine.device().readDouble(lost) / squares);
    if (Double.isNaN(relativeError)) {
      throw new OribiException(t.name() + " holds numbers that are not finite: the checkpoint is damaged");
    }
  }

  /** Root of the mean square of what the last quantization changed, over that of the weights; NaN before there was one. */
  double relativeError() {
    return relativeError;
  }
}
