package dev.oribi.kernel;

import dev.oribi.OribiException;
import dev.oribi.device.Mem;
import dev.oribi.kernel.cudnn.CudnnLibrary;

/**
 * Which library computes attention on a GPU. cuDNN's was faster than Oribi's own kernels wherever both were measured, so by
 * default ({@code AUTO}) it is taken on the cards and for the shapes on which it was measured and tested; the own kernels take
 * all others, everything under {@code --deterministic}, and everything where cuDNN is not installed.
 *
 * <p>Both save the same sums, so that one's backward pass can follow the other's forward pass. A cache, as in generation, is
 * read by the own kernels always.
 */
public final class AttentionChoice implements Attention {
  /** Where the two were measured: docs/results/attention.md, docs/results/cudnn-attention.md. */
  private static final int MEASURED = 90;

  /** Of a step of Llama-3.1-8B, NF4, 4 x 2048 and 2 x 2048 on an H100: docs/results/attention.md. */
  private static final String COST = "which takes 6 % more of a step's time than cuDNN's";

  private final Kernels kernels;
  private final AttentionLibrary wanted;
  private final boolean deterministic;
  private final Attention own;
  private final String missing;
  private final boolean slower;
  private CudnnAttention cudnn;
  private boolean planned;

  /**
   * @param deterministic with cuDNN: the graph that gives the same bits, for workspace of the size of the scores; the own kernels
   *     always do
   * @throws OribiException if cuDNN is asked for and missing
   */
  public AttentionChoice(Kernels kernels, AttentionLibrary wanted, boolean deterministic) {
    this.kernels = kernels;
    this.wanted = wanted;
    this.deterministic = deterministic;
    own = new KernelAttention(kernels);
    boolean tries = wanted == AttentionLibrary.CUDNN || prefers(wanted, kernels.architecture(), deterministic);
    missing = tries ? CudnnLibrary.unusable() : null;
    if (wanted == AttentionLibrary.CUDNN && missing != null) {
      throw new OribiException("--attention cudnn: " + missing);
    }
    planned = tries && missing == null;
    slower = deterministic && prefers(wanted, kernels.architecture(), false) && CudnnLibrary.unusable() == null;
  }

  /** Whether cuDNN is taken unasked. */
  static boolean prefers(AttentionLibrary wanted, int architecture, boolean deterministic) {
    return wanted == AttentionLibrary.AUTO && architecture == MEASURED && !deterministic;
  }

  private Attention of(AttentionShape shape) {
    return planned && !shape.cached() && refusal(shape) == null ? cudnn() : own;
  }

  /** Why cuDNN is not given the shape; null: it is. */
  private String refusal(AttentionShape shape) {
    String reason = CudnnAttention.unsupported(shape, kernels.architecture());
    if (reason == null && !CudnnAttention.addressable(shape)) {
      reason = "was tested up to 2^30 elements, and " + shape.sequences() + " sequences of up to " + shape.maxSeqlen()
          + " tokens are more";
    }
    return reason;
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

  /** What is planned for the own kernels is never run by cuDNN, also not where a run is smaller than what was planned. */
  @Override
  public long workspace(AttentionShape largest, boolean backward) {
    if (planned && !largest.cached()) {
      String reason = refusal(largest);
      if (reason != null && wanted == AttentionLibrary.CUDNN) {
        throw new OribiException("--attention cudnn: cuDNN's attention " + reason + "; leave --attention at auto");
      }
      planned = reason == null;
    }
    return of(largest).workspace(largest, backward);
  }

  /** The library in use; the own kernels until the first shape is planned for another. */
  @Override
  public String describe() {
    return cudnn != null ? cudnn.describe() : own.describe();
  }

  /** Why the faster library is not used and what that costs, in one line; empty where there is nothing to tell. */
  @Override
  public String note() {
    if (slower) {
      return "attention by Oribi's own kernels for --deterministic, " + COST;
    }
    return missing == null ? "" : "attention by Oribi's own kernels, since " + missing;
  }

  @Override
  public void close() {
    if (cudnn != null) {
      cudnn.close();
    }
    own.close();
  }
}
