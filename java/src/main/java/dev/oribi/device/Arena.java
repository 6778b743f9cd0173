package dev.oribi.device;

/** One allocation on a device. Closing it gives the memory back; what was sliced from it must not be used after. */
public interface Arena extends AutoCloseable {
  Mem all();

  long bytes();

  @Override
  void close();
}
