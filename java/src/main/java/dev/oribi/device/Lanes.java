package dev.oribi.device;

/**
 * Work beside the main stream of a device: copies between its memory and the host's, and kernels that prepare what the main
 * stream will need. A lane keeps its own order. What it does begins once all that the main stream was given before {@link
 * #fork} is done, and what the main stream is given after {@link #join} begins once the lane has come to the mark.
 *
 * <p>On a device without streams everything happens in the order in which it is asked for, which is one of the allowed orders.
 */
public interface Lanes extends AutoCloseable {
  /** The lanes there are. {@code MAIN} is the stream of everything else. */
  enum Lane {
    MAIN,
    /** Kernels that run ahead of the main stream. */
    AHEAD,
    /** Copies from the device to the host. */
    OUT,
    /** Copies from the host to the device. */
    IN
  }

  /** One stream for everything. */
  Lanes NONE = new Lanes() {};

  /** A new round of marks: those given so far are worth nothing. To be called only when every lane was joined. */
  default void begin() {}

  /** The lane waits for what the main stream was given so far. */
  default void fork(Lane lane) {}

  /** A mark at what the lane was given so far, for {@link #join}. */
  default int mark(Lane lane) {
    return 0;
  }

  /** The main stream waits for the mark. */
  default void join(int mark) {}

  /** Copies all of {@code from}, on the lane. Either side may be pinned host memory. */
  default void copy(Lane lane, Mem to, Mem from) {
    org.bytedeco.javacpp.Pointer.memcpy(to.pointer(), from.pointer(), from.bytes());
  }

  @Override
  default void close() {}
}
