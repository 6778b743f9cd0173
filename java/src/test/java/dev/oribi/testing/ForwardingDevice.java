package dev.oribi.testing;

import dev.oribi.device.Arena;
import dev.oribi.device.Clock;
import dev.oribi.device.Device;
import dev.oribi.device.Mem;
import java.nio.ByteBuffer;

/** Does what another device does, until a subclass does something else. */
abstract class ForwardingDevice implements Device {
  /** The other device. */
  abstract Device inner();

  @Override
  public Arena allocate(String what, long size) {
    return inner().allocate(what, size);
  }

  @Override
  public String name() {
    return inner().name();
  }

  @Override
  public long freeBytes() {
    return inner().freeBytes();
  }

  @Override
  public Arena allocateHost(String what, long size) {
    return inner().allocateHost(what, size);
  }

  @Override
  public long freeHostBytes() {
    return inner().freeHostBytes();
  }

  @Override
  public void write(Mem to, ByteBuffer source) {
    inner().write(to, source);
  }

  @Override
  public void write(Mem to, float[] source, int offset, int length) {
    inner().write(to, source, offset, length);
  }

  @Override
  public void write(Mem to, int[] source, int length) {
    inner().write(to, source, length);
  }

  @Override
  public void read(Mem from, ByteBuffer into) {
    inner().read(from, into);
  }

  @Override
  public void read(Mem from, float[] into, int offset, int length) {
    inner().read(from, into, offset, length);
  }

  @Override
  public double readDouble(Mem from) {
    return inner().readDouble(from);
  }

  @Override
  public int readInt(Mem from) {
    return inner().readInt(from);
  }

  @Override
  public Clock clock() {
    return inner().clock();
  }

  @Override
  public void close() {
    inner().close();
  }
}
