package dev.oribi.kernel;

import dev.oribi.OribiException;
import dev.oribi.device.Mem;
import dev.oribi.kernel.cudnn.CudnnLibrary;

/**
 * Which library computes attention on a GPU. By default ({@code AUTO}) that is the faster one of those measured and tested on the
 * card and for the shape. cuDNN's forward pass was faster throughout; its backward pass was faster for long sequences, the own kernels'
 * for short ones. The own kernels take everything else too: other cards and shapes, everything under {@code --deterministic}, and
 * everything where cuDNN is not installed.
 *
 * <p>Both save the same sums, so that one's backward pass can follow the other's forward pass. A cache, as in generation, is
 * read by the own kernels always.
 */
public final class AttentionChoice implements Attention {
  /** Where the two were measured: docs/results/attention.md, docs/results/cudnn-attention.md. */
  private static final int MEASURED = 90;

  /** Both passes of 2 x 2048, 4 x 2048, 1 x 8192 and 1 x 32768 tokens: docs/results/cudnn-attention.md. */
  private static final String COST = "which take 1.2 to 1.4 times as long as the faster choice of each pass";

  /**
   * The longest sequences with which the own backward pass was faster, 32 query heads and 8 others: with heads of 128, 1.08 to 1.3 times up to
   * 2048 tokens, while from 4096 on cuDNN's was; with heads of 64, 1.15 to 1.5 times up to 8192, the longest tried.
   */
  private static long ownBackwardTokens(int headDim) {
    return switch (headDim) {
      case 128 -> 2048;
      case 64 -> 8192;
      default -> 0;
    };
  }

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

  private Attention backwardOf(AttentionShape shape) {
    return ownBackward(wanted, shape) ? own : of(shape);
  }

  /** Whether the own backward pass follows cuDNN's forward pass; a window or a soft-cap was not measured with both. */
  static boolean ownBackward(AttentionLibrary wanted, AttentionShape shape) {
    boolean fewTokens = shape.maxSeqlen() > 0 && shape.maxSeqlen() <= ownBackwardTokens(shape.headDim());
    return wanted == AttentionLibrary.AUTO && fewTokens && shape.window() == 0 && shape.softcap() == 0;
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
    backwardOf(shape).backward(dq, dk, dv, o, lse, dOut, q, k, v, workspace, shape);
  }

  /**
   * What is planned for the own kernels is never run by cuDNN, also not where a run is smaller than what was planned. A backward pass
   * planned for long sequences has room for either library, since a batch of short ones may come.
   */
  @Override
  public long workspace(AttentionShape largest, boolean backward) {
    if (planned && !largest.cached()) {
      String reason = refusal(largest);
      if (reason != null && wanted == AttentionLibrary.CUDNN) {
        throw new OribiException("--attention cudnn: cuDNN's attention " + reason + "; leave --attention at auto");
      }
      planned = reason == null;
    }
    long bytes = backward && ownBackward(wanted, largest) ? 0 : of(largest).workspace(largest, backward);
    return backward && wanted == AttentionLibrary.AUTO ? Math.max(bytes, own.workspace(largest, true)) : bytes;
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
