package dev.oribi.testing;

import dev.oribi.device.Arena;
import dev.oribi.device.Device;
import dev.oribi.device.Mem;
import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.function.DoubleSupplier;

/** Another device, with a page of known bytes before and after each arena: what writes outside of it is seen. */
public final class GuardedDevice extends ForwardingDevice {
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
  Device inner() {
    return inner;
  }
}
