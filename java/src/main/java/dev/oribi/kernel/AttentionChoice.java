package dev.oribi.kernel;

import dev.oribi.OribiException;
import dev.oribi.device.Mem;
import dev.oribi.kernel.cudnn.CudnnLibrary;

/**
 * Which library computes attention on a GPU. Oribi's own kernels cover all cases and are the default ({@code AUTO}); cuDNN's,
 * compiled for the card at hand, are taken where they are asked for: not all of {@code CudnnAttentionTest} has passed on a card
 * yet, and what is not tested is not chosen unasked.
 *
 * <p>Both save the same sums, so that one's backward pass can follow the other's forward pass. A cache, as in generation, is
 * read by the own kernels always.
 */
public final class AttentionChoice implements Attention {
  private final Kernels kernels;
  private final boolean wantsCudnn;
  private final boolean deterministic;
  private final Attention own;
  private CudnnAttention cudnn;

  /**
   * @param deterministic with cuDNN: the graph that gives the same bits, for workspace of the size of the scores; the own kernels
   *     always do
   * @throws OribiException if cuDNN is asked for and missing
   */
  public AttentionChoice(Kernels kernels, AttentionLibrary wanted, boolean deterministic) {
    this.kernels = kernels;
    this.wantsCudnn = wanted == AttentionLibrary.CUDNN;
    this.deterministic = deterministic;
    own = new KernelAttention(kernels);
    if (wantsCudnn && CudnnLibrary.unusable() != null) {
      throw new OribiException("--attention cudnn: " + CudnnLibrary.unusable());
    }
  }

  private Attention of(AttentionShape shape) {
    if (!wantsCudnn || shape.cached()) {
      return own;
    }
    String reason = CudnnAttention.unsupported(shape, kernels.architecture());
    if (reason == null && !CudnnAttention.addressable(shape)) {
      reason = "was tested up to 2^30 elements, and " + shape.sequences() + " sequences of up to " + shape.maxSeqlen()
          + " tokens are more";
    }
    if (reason != null) {
      throw refused(reason);
    }
    return cudnn();
  }

  private static OribiException refused(String reason) {
    return new OribiException("--attention cudnn: cuDNN's attention " + reason + "; leave --attention at auto");
  }

  private CudnnAttention cudnn() {
    if (cudnn == null) {
      cudnn = new CudnnAttention(kernels, deterministic);
    }
    return cudnn;
  }

  @Override
  public void forward(Mem o, Mem lse, Mem q, Mem k, Mem v, Mem workspace, AttentionShape shape) {
    of(shape).forward(o, lse, q, k, v, workspace, shape);
  }

  @Override
  public void backward(
      Mem dq, Mem dk, Mem dv, Mem o, Mem lse, Mem dOut, Mem q, Mem k, Mem v, Mem workspace, AttentionShape shape) {
    of(shape).backward(dq, dk, dv, o, lse, dOut, q, k, v, workspace, shape);
  }

  @Override
  public long workspace(AttentionShape largest, boolean backward) {
    return of(largest).workspace(largest, backward);
  }

  /** The library in use; before the first shape is seen, the one that would be tried first. */
  @Override
  public String describe() {
    return cudnn != null ? cudnn.describe() : own.describe();
  }

  @Override
  public void close() {
    if (cudnn != null) {
      cudnn.close();
    }
    own.close();
  }
}
