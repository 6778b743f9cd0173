package dev.oribi.model;

import dev.oribi.OribiException;
import dev.oribi.device.Mem;
import dev.oribi.io.Checkpoint;
import dev.oribi.io.SafetensorsFile;
import dev.oribi.io.TensorInfo;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.LoraKernels;
import dev.oribi.layer.Parameters.Tensor;
import dev.oribi.program.Nf4Matrix;
import dev.oribi.quant.Nf4Format;
import java.util.function.Consumer;

/**
 * Fills weights in 4 bits: with the codes that a checkpoint holds, or by quantizing plain values one tensor after the other.
 *
 * <p>Quantizing needs the whole tensor beside its codes, because the offset of the scales is a mean over it. That
 * memory is part of the plan: it is what activations take later.
 */
final class Nf4Loader {
  private static final long CHUNK = 64L << 20;
  private static final long ALIGNMENT = 64;

  private final Machine machine;
  private final Mem scratch;

  /** {@code scratch}: {@link #scratchBytes} of the largest tensor that will be quantized; null if none will be. */
  Nf4Loader(Machine machine, Mem scratch) {
    this.machine = machine;
    this.scratch = scratch;
  }

  /** Bytes that quantizing a tensor takes. */
  static long scratchBytes(long elements) {
    return align(4 * elements) + LoraKernels.nf4Workspace(elements);
  }

  private static long align(long bytes) {
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  }

  /** The codes and scales of {@code name} as they are in the checkpoint. */
  void copy(Checkpoint files, String name, Tensor t) {
    Nf4Matrix q = t.nf4();
    float offset = Nf4Format.check(files, name, t.shape());
    copy(files, name, q.codes().mem());
    copy(files, name + Nf4Format.ABSMAX, q.absmax().mem());
    copy(files, name + Nf4Format.NESTED_ABSMAX, q.absmax2().mem());
    machine.device().write(q.offset().mem(), new float[] {offset}, 0, 1);
  }

  private void copy(Checkpoint files, String name, Mem to) {
    TensorInfo info = files.tensor(name);
    SafetensorsFile file = files.fileOf(info);
    for (long at = 0; at < info.bytes(); at += CHUNK) {
      int length = (int) Math.min(CHUNK, info.bytes() - at);
      machine.device().write(to.slice(at, length), file.slice(info, at, length));
    }
  }

  /** Quantizes a plain tensor of the checkpoint from its own type: it goes to the device as its bytes lie in the file. */
  void quantize(Checkpoint files, TensorInfo info, Tensor t) {
    DType type = switch (info.type()) {
      case F32 -> DType.F32;
      case BF16 -> DType.BF16;
      case F16 -> DType.F16;
      default -> throw new OribiException(
          info.file() + ": tensor " + info.name() + " has type " + info.type() + "; F32, BF16 and F16 can be quantized.");
    };
    quantize(t, type, values -> copy(files, info.name(), values));
  }

  /** Quantizes what {@code fill} puts into memory for the tensor's elements of a type. */
  void quantize(Tensor t, DType type, Consumer<Mem> fill) {
    if (scratch == null || scratch.bytes() < scratchBytes(t.elements())) {
      throw new IllegalStateException(t.name() + " cannot be quantized: its plan holds no memory for that");
    }
    Mem values = scratch.slice(0, type.bytes() * t.elements());
    long begin = align(values.bytes());
    fill.accept(values);
    Mem workspace = scratch.slice(begin, LoraKernels.nf4Workspace(t.elements()));
    machine.kernels().lora().nf4Quantize(t.nf4().place(), values, workspace, t.elements(), type);
    // The next tensor's values go to the same place.
    machine.kernels().synchronize();
  }
}
