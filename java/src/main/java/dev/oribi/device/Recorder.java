package dev.oribi.device;

/** Records work of a device without doing it, so that it can be issued again as one: a CUDA graph. */
public interface Recorder {
  /** Recorded work; the memory that it touches must outlive it. */
  interface Recording extends AutoCloseable {
    /** Issues all of it. */
    void replay();

    @Override
    void close();
  }

  /**
   * Records what {@code work} issues; nothing of it is done. Arguments are recorded as they are now: what may change between
   * replays must lie in the device's memory. The work must have run before, so that nothing in it has to be loaded, chosen or
   * allocated, and it must not wait for the device.
   */
  Recording record(Runnable work);
}
