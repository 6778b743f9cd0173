package dev.oribi.train;

import dev.oribi.device.Device;
import dev.oribi.io.TensorType;
import dev.oribi.kernel.DType;
import dev.oribi.layer.Parameters.Group;
import dev.oribi.optim.OptimizerType;
import dev.oribi.program.Buffer;
import dev.oribi.program.Buffer.Lifetime;
import dev.oribi.program.Buffer.Rows;
import dev.oribi.program.Emit;
import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.List;

/** Where AdamW's moments of one group lie, and the op that uses them. */
interface Moments {
  static Moments of(Group group, OptimizerType type) {
    return switch (type) {
      case ADAMW_TORCH -> new InFloat32(group);
      case ADAMW_8BIT -> new In8Bits(group);
    };
  }

  void emitUpdate(Emit e, Buffer clip, Buffer hyper);

  /** Makes them zero in memory that was cleared. */
  void begin(Device device);

  /** What a checkpoint stores; none where the moments are parts of the tensors ({@link TrainableTensor.Part}). */
  List<StateColumn> columns(Device device);

  /** The group's own columns, which a tensor has its part of. */
  record InFloat32(Group group) implements Moments {
    @Override
    public void emitUpdate(Emit e, Buffer clip, Buffer hyper) {
      e.adamw(group.name(), group.value(), group.value16(), group.m(), group.v(), group.grad(), clip, hyper);
    }

    @Override
    public void begin(Device device) {}

    @Override
    public List<StateColumn> columns(Device device) {
      return List.of();
    }
  }

  /**
   * Codes of 8 bits and the largest magnitude of every 256 of them. A block begins at a multiple of 256 elements of the
   * group, so one may reach from a tensor into the next.
   */
  final class In8Bits implements Moments {
    private static final int BLOCK = 256;

    /** The code of zero for the mean, which has a sign; for the mean of the squares it is 0. */
    private static final byte SIGNED_ZERO = 127;

    private static final int CHUNK = 4 << 20;

    private final Group group;
    private final Buffer m;
    private final Buffer v;
    private final Buffer mMax;
    private final Buffer vMax;

    In8Bits(Group group) {
      this.group = group;
      long blocks = (group.count() + BLOCK - 1) / BLOCK;
      this.m = column("state1", DType.U8, group.count());
      this.v = column("state2", DType.U8, group.count());
      this.mMax = column("absmax1", DType.F32, blocks);
      this.vMax = column("absmax2", DType.F32, blocks);
    }

    /** The last words are those of bitsandbytes. */
    private Buffer column(String name, DType type, long rows) {
      return new Buffer("adamw." + group.name() + "." + name, Lifetime.OPTIMIZER, type, Rows.FIXED, rows, 1);
    }

    @Override
    public void emitUpdate(Emit e, Buffer clip, Buffer hyper) {
      e.adamw8(group.name(), group.value(), group.value16(), m, v, mMax, vMax, group.grad(), clip, hyper);
    }

    @Override
    public void begin(Device device) {
      byte[] zeros = new byte[(int) Math.min(CHUNK, m.bytes())];
      Arrays.fill(zeros, SIGNED_ZERO);
      for (long at = 0; at < m.bytes(); at += zeros.length) {
        int n = (int) Math.min(zeros.length, m.bytes() - at);
        device.write(m.mem().slice(at, n), ByteBuffer.wrap(zeros, 0, n));
      }
    }

    @Override
    public List<StateColumn> columns(Device device) {
      return List.of(new Column(device, m), new Column(device, v), new Column(device, mMax), new Column(device, vMax));
    }
  }

  /** A column of the device's memory. */
  record Column(Device device, Buffer buffer) implements StateColumn {
    @Override
    public String name() {
      return buffer.name();
    }

    @Override
    public TensorType type() {
      return buffer.type() == DType.U8 ? TensorType.U8 : TensorType.F32;
    }

    @Override
    public long elements() {
      return buffer.rows();
    }

    @Override
    public void read(long at, ByteBuffer into) {
      device.read(buffer.mem().slice(at, into.remaining()), into);
    }

    @Override
    public void write(long at, ByteBuffer from) {
      device.write(buffer.mem().slice(at, from.remaining()), from);
    }
  }
}
