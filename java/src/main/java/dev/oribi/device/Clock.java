package dev.oribi.device;

/** Marks points in the order of a device's work and tells the time between them. */
public interface Clock extends AutoCloseable {
  /** Marks the point behind all that was issued so far; returns its number, from 0 on. */
  int mark();

  /** Nanoseconds between two marks. Waits until the second is reached. */
  long nanos(int from, int to);

  /** Forgets all marks. */
  void reset();

  @Override
  void close();
}
