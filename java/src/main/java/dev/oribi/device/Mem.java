package dev.oribi.device;

import org.bytedeco.javacpp.DoublePointer;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.IntPointer;
import org.bytedeco.javacpp.Pointer;

/**
 * A range of a device's memory. It owns nothing: its arena does. The pointers are for {@code device} and {@code kernel}
 * only; they are made once, because a step passes each of them thousands of times.
 */
public final class Mem {
  /** A range of no bytes, for where it matters only that there is a range. */
  public static final Mem NOWHERE = new Mem(0, 0);

  private final long address;
  private final long bytes;
  private final Pointer pointer;
  private final FloatPointer floats;
  private final IntPointer ints;
  private final DoublePointer doubles;

  Mem(long address, long bytes) {
    this.address = address;
    this.bytes = bytes;
    this.pointer = new Address(address);
    this.floats = new FloatPointer(pointer);
    this.ints = new IntPointer(pointer);
    this.doubles = new DoublePointer(pointer);
  }

  public long address() {
    return address;
  }

  public long bytes() {
    return bytes;
  }

  /** The range of {@code length} bytes that begins {@code offset} bytes after this one. */
  public Mem slice(long offset, long length) {
    if (offset < 0 || length < 0 || offset > bytes - length) {
      throw new IllegalArgumentException(
          "slice [" + offset + ", +" + length + ") leaves a range of " + bytes + " bytes");
    }
    return new Mem(address + offset, length);
  }

  public Pointer pointer() {
    return pointer;
  }

  public FloatPointer floats() {
    return floats;
  }

  public IntPointer ints() {
    return ints;
  }

  public DoublePointer doubles() {
    return doubles;
  }

  /** A pointer that points and does nothing else. */
  private static final class Address extends Pointer {
    Address(long address) {
      this.address = address;
    }
  }
}
