package dev.oribi.device;

import java.nio.ByteBuffer;
import java.util.function.DoubleSupplier;

/** A processor with memory of its own. Not safe for use by several threads at once. */
public interface Device extends AutoCloseable {
  /** "cpu" or "cuda". */
  String name();

  /** Bytes that could be allocated now without pushing other programs out. */
  long freeBytes();

  /**
   * Takes {@code bytes} of memory, zeroed, aligned to 4096.
   *
   * @throws dev.oribi.OribiException if the device has less than that free
   */
  Arena allocate(String what, long bytes);

  /**
   * Takes {@code bytes} of the host's memory, zeroed, that the device can copy from and to, and whose kernels can read it.
   *
   * @throws dev.oribi.OribiException if the host has less than that free
   */
  Arena allocateHost(String what, long bytes);

  /** Bytes that {@link #allocateHost} could take without pushing other programs out. */
  long freeHostBytes();

  /**
   * Streams beside the main one.
   *
   * @param ahead address of the stream of the kernels that run ahead
   */
  default Lanes lanes(long ahead) {
    return Lanes.NONE;
  }

  /** Copies all remaining bytes of {@code source}, a direct buffer or one with an array, to the beginning of {@code to}. */
  void write(Mem to, ByteBuffer source);

  void write(Mem to, float[] source, int offset, int length);

  void write(Mem to, int[] source, int length);

  /** Fills all of {@code into} from the beginning of {@code from}. Waits for the device first. */
  void read(Mem from, ByteBuffer into);

  void read(Mem from, float[] into, int offset, int length);

  double readDouble(Mem from);

  /** The double that {@code from} holds once all that was issued so far is done. Only asking the supplier waits. */
  default DoubleSupplier readDoubleLater(Mem from) {
    double value = readDouble(from);
    return () -> value;
  }

  int readInt(Mem from);

  /** Measures the time between points of this device's work. */
  default Clock clock() {
    return new HostClock();
  }

  /** Records what is issued to this device, to issue it again as one; null where a device cannot. */
  default Recorder recorder() {
    return null;
  }

  @Override
  void close();
}
