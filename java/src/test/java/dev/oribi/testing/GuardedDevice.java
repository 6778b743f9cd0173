package dev.oribi.testing;

import dev.oribi.device.Arena;
import dev.oribi.device.CpuDevice;
import dev.oribi.device.Device;
import dev.oribi.device.Mem;
import java.nio.ByteBuffer;
import java.util.Arrays;

/** The CPU, with a page of known bytes before and after each arena: what writes outside of it is seen. */
public final class GuardedDevice implements Device {
  private static final int GUARD = 4096;
  private static final byte PATTERN = (byte) 0xA5;

  private final CpuDevice cpu = new CpuDevice();
  private Arena block;
  private long bytes;

  @Override
  public Arena allocate(String what, long size) {
    if (block != null) {
      throw new IllegalStateException("this device gives one arena");
    }
    bytes = size;
    block = cpu.allocate(what, size + 2 * GUARD);
    byte[] guard = new byte[GUARD];
    Arrays.fill(guard, PATTERN);
    cpu.write(block.all(), ByteBuffer.wrap(guard));
    cpu.write(block.all().slice(GUARD + size, GUARD), ByteBuffer.wrap(guard));
    Mem inner = block.all().slice(GUARD, size);
    return new Arena() {
      @Override
      public Mem all() {
        return inner;
      }

      @Override
      public long bytes() {
        return inner.bytes();
      }

      @Override
      public void close() {
        block.close();
      }
    };
  }

  /** True if nothing was written around the arena. */
  public boolean intact() {
    return intact(0) && intact(GUARD + bytes);
  }

  private boolean intact(long at) {
    byte[] guard = new byte[GUARD];
    cpu.read(block.all().slice(at, GUARD), ByteBuffer.wrap(guard));
    for (byte b : guard) {
      if (b != PATTERN) {
        return false;
      }
    }
    return true;
  }

  @Override
  public String name() {
    return cpu.name();
  }

  @Override
  public long freeBytes() {
    return cpu.freeBytes();
  }

  @Override
  public void write(Mem to, ByteBuffer source) {
    cpu.write(to, source);
  }

  @Override
  public void write(Mem to, float[] source, int offset, int length) {
    cpu.write(to, source, offset, length);
  }

  @Override
  public void write(Mem to, int[] source, int length) {
    cpu.write(to, source, length);
  }

  @Override
  public void read(Mem from, ByteBuffer into) {
    cpu.read(from, into);
  }

  @Override
  public void read(Mem from, float[] into, int offset, int length) {
    cpu.read(from, into, offset, length);
  }

  @Override
  public double readDouble(Mem from) {
    return cpu.readDouble(from);
  }

  @Override
  public int readInt(Mem from) {
    return cpu.readInt(from);
  }

  @Override
  public void close() {
    cpu.close();
  }
}
