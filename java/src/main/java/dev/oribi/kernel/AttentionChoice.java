package dev.oribi.kernel;

import dev.oribi.OribiException;
import dev.oribi.device.Mem;
import dev.oribi.kernel.cudnn.CudnnLibrary;
import java.util.HashSet;
import java.util.Set;
import java.util.function.Consumer;

/**
 * Which library computes attention on a GPU. Oribi's own kernels cover all cases; cuDNN's are compiled for the card at hand and
 * are taken where they were tested ({@link #untested}). Whatever is chosen is said, once for each reason.
 *
 * <p>The choice depends on the model's sizes and the card; the batch matters only where it is too large for cuDNN to address.
 * Both save the same sums, so that it would do no harm if two passes differed.
 */
public final class AttentionChoice implements Attention {
  private final Kernels kernels;
  private final AttentionLibrary wanted;
  private final boolean deterministic;
  private final Attention own;
  private final Consumer<String> log;
  private final Set<String> told = new HashSet<>();
  private CudnnAttention cudnn;

  /**
   * @param deterministic with {@code AUTO}: the own kernels, which always give the same bits; cuDNN would need workspace of
   *     the size of the scores for it
   * @param log gets a line for the user where {@code AUTO} cannot take cuDNN
   * @throws OribiException if cuDNN is insisted on and missing
   */
  public AttentionChoice(Kernels kernels, AttentionLibrary wanted, boolean deterministic, Consumer<String> log) {
    this.kernels = kernels;
    this.wanted = wanted;
    this.deterministic = deterministic;
    this.log = log;
    own = new KernelAttention(kernels);
    if (wanted == AttentionLibrary.CUDNN && CudnnLibrary.unusable() != null) {
      throw new OribiException("--attention cudnn: " + CudnnLibrary.unusable());
    }
  }

  /** Nothing of cuDNN is touched before a shape could use it: a model of another type needs no library. */
  private Attention of(AttentionShape shape) {
    if (!prefersCudnn(shape)) {
      return own;
    }
    if (CudnnAttention.addressable(shape)) {
      return cudnn();
    }
    String reason = "was tested up to 2^30 elements, and " + shape.sequences() + " sequences of up to " + shape.maxSeqlen()
        + " tokens are more";
    if (wanted == AttentionLibrary.CUDNN) {
      throw refused(reason);
    }
    tell("attention: Oribi's own kernels for some batches, because cuDNN's attention " + reason);
    return own;
  }

  /** What model, card and user decide. */
  private boolean prefersCudnn(AttentionShape shape) {
    if (wanted == AttentionLibrary.ORIBI || shape.cached()) {
      return false;
    }
    String reason = CudnnAttention.unsupported(shape, kernels.architecture());
    if (wanted == AttentionLibrary.CUDNN) {
      if (reason != null) {
        throw refused(reason);
      }
      return true;
    }
    if (deterministic || reason != null || untested(shape, kernels.architecture())) {
      return false;
    }
    if (CudnnLibrary.unusable() != null) {
      tell("attention: Oribi's own kernels, because " + CudnnLibrary.unusable());
      return false;
    }
    if (CudnnLibrary.olderThanTested()) {
      tell("attention: Oribi's own kernels, because cuDNN " + CudnnLibrary.version() + " was not tested; --attention cudnn takes it");
      return false;
    }
    return true;
  }

  /**
   * What the graphs of {@code kernel.cudnn} describe and no GPU has run yet, or only in parts: {@code AUTO} leaves it to the own
   * kernels, {@code --attention cudnn} takes it. A case goes from here once {@code CudnnAttentionTest} has passed with it on
   * such a card.
   */
  static boolean untested(AttentionShape s, int architecture) {
    boolean size = s.headDim() == 64 || s.headDim() == 128;
    return architecture != 90 || !size || s.window() > 0 || s.softcap() > 0;
  }

  private static OribiException refused(String reason) {
    return new OribiException("--attention cudnn: cuDNN's attention " + reason + "; leave --attention at auto");
  }

  private void tell(String line) {
    if (told.add(line)) {
      log.accept(line);
    }
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
    if (!prefersCudnn(largest)) {
      return own.workspace(largest, backward);
    }
    long bytes = cudnn().workspace(largest, backward);
    return CudnnAttention.addressable(largest) ? bytes : Math.max(bytes, own.workspace(largest, backward));
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
