package dev.oribi.kernel;

import dev.oribi.device.Mem;

/**
 * Causal attention over packed sequences, forward and backward, by one library. Everything is issued on the stream of the
 * context's kernels; nothing is allocated and nothing waits, so that calls can be captured in a CUDA graph once each shape
 * has run.
 *
 * <p>What {@code lse} holds between the two passes, and how it is laid out in its N*H fp32 numbers, is the implementation's
 * own matter: the backward pass must be that of the same object as the forward pass.
 */
public interface Attention extends AutoCloseable {
  /**
   * o =, lse =
   *
   * @param lse what the backward pass needs, N*H fp32; null: not wanted
   * @param workspace at least {@link #workspace} bytes
   */
  void forward(Mem o, Mem lse, Mem q, Mem k, Mem v, Mem workspace, AttentionShape shape);

  /** dq, dk, dv =. For shapes that are not {@link AttentionShape#cached} only. {@code dOut} has the shape of o. */
  void backward(
      Mem dq, Mem dk, Mem dv, Mem o, Mem lse, Mem dOut, Mem q, Mem k, Mem v, Mem workspace, AttentionShape shape);

  /**
   * Bytes of workspace for any run of at most this size: no more rows, no more sequences, no longer sequence. The ranges of
   * the shape are null, except that a non-null {@code kvStart} tells that there will be a cache.
   */
  long workspace(AttentionShape largest, boolean backward);

  /** The library, for the lines that say what runs: such as "own kernels". */
  String describe();

  /** What the user should know about the choice of the library; empty where there is nothing. */
  default String note() {
    return "";
  }

  @Override
  void close();
}
