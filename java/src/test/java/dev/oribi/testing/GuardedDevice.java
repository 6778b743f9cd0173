package dev.oribi.testing;

import dev.oribi.device.Arena;
import dev.oribi.device.Clock;
import dev.oribi.device.Device;
import dev.oribi.device.Mem;
import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.function.DoubleSupplier;

/** Another device, with a page of known bytes before and after each arena: what writes outside of it is seen. */
public final class GuardedDevice implements Device {
  private static final int GUARD = 4096;
  private static final byte PATTERN = (byte) 0xA5;

  private Device inner;
  private Arena block;
  private long bytes;

  /** Stands around {@code device} from now on. */
  GuardedDevice around(Device device) {
    inner = device;
    return this;
  }

  @Override
  public Arena allocate(String what, long size) {
    if (block != null) {
      throw new IllegalStateException("this device gives one arena");
    }
    bytes = size;
    block = inner.allocate(what, size + 2 * GUARD);
    byte[] guard = new byte[GUARD];
    Arrays.fill(guard, PATTERN);
    inner.write(block.all(), ByteBuffer.wrap(guard));
    inner.write(block.all().slice(GUARD + size, GUARD), ByteBuffer.wrap(guard));
    Mem middle = block.all().slice(GUARD, size);
    return new Arena() {
      @Override
      public Mem all() {
        return middle;
      }

      @Override
      public long bytes() {
        return middle.bytes();
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
    inner.read(block.all().slice(at, GUARD), ByteBuffer.wrap(guard));
    for (byte b : guard) {
      if (b != PATTERN) {
        return false;
      }
    }
    return true;
  }

  @Override
  public String name() {
    return inner.name();
  }

  @Override
  public long freeBytes() {
    return inner.freeBytes();
  }

  @Override
  public Arena allocateHost(String what, long size) {
    return inner.allocateHost(what, size);
  }

  @Override
  public long freeHostBytes() {
    return inner.freeHostBytes();
  }

  @Override
  public void write(Mem to, ByteBuffer source) {
    inner.write(to, source);
  }

  @Override
  public void write(Mem to, float[] source, int offset, int length) {
    inner.write(to, source, offset, length);
  }

  @Override
  public void write(Mem to, int[] source, int length) {
    inner.write(to, source, length);
  }

  @Override
  public void read(Mem from, ByteBuffer into) {
    inner.read(from, into);
  }

  @Override
  public void read(Mem from, float[] into, int offset, int length) {
    inner.read(from, into, offset, length);
  }

  @Override
  public double readDouble(Mem from) {
    return inner.readDouble(from);
  }

  @Override
  public DoubleSupplier readDoubleLater(Mem from) {
    return inner.readDoubleLater(from);
  }

  @Override
  public int readInt(Mem from) {
    return inner.readInt(from);
  }

  @Override
  public Clock clock() {
    return inner.clock();
  }

  @Override
  public void close() {
    inner.close();
  }
}
