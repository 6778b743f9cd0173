package dev.oribi.kernel;

import dev.oribi.OribiException;
import dev.oribi.device.Mem;
import dev.oribi.kernel.cudnn.AttentionPass;
import dev.oribi.kernel.cudnn.AttentionSpec;
import dev.oribi.kernel.cudnn.CudnnLibrary;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.function.BiFunction;
import org.bytedeco.cuda.cudnn.cudnnContext;

/**
 * Attention by cuDNN's fused kernels, through its backend interface. {@code lse} is what {@code oribi.h} says it is.
 *
 * <p>cuDNN works by plans, which cost a second at worst to build. A plan for packed sequences serves every batch with at most
 * its number of sequences and its length, so {@link #workspace}, which is asked for the largest batch first, builds the plan
 * that all others use. Batches in which all sequences have the same length, a multiple of 128, get a plan of their own
 * without offsets, which is some 5 % faster. Offsets and lengths are computed on the device from {@code cu_seqlens}, so that
 * a captured step can be replayed with other sequences.
 */
public final class CudnnAttention implements Attention {
  /** The dense backward pass of cuDNN before 9.15 is wrong where the last tile is not whole. */
  private static final long TILE = 128;

  private final Kernels kernels;
  private final boolean deterministic;
  private final cudnnContext handle;
  private final List<AttentionPass> forward = new ArrayList<>();
  private final List<AttentionPass> backward = new ArrayList<>();

  /**
   * Makes a handle on the stream of {@code kernels}.
   *
   * @param deterministic the backward pass gives the same bits each time; its workspace then grows with the square of the
   *     length: sequences * heads * length^2 * 2 bytes
   * @throws OribiException where cuDNN is missing or too old
   */
  public CudnnAttention(Kernels kernels, boolean deterministic) {
    String unusable = CudnnLibrary.unusable();
    if (unusable != null) {
      throw new OribiException(unusable);
    }
    this.kernels = kernels;
    this.deterministic = deterministic;
    handle = CudnnLibrary.create(kernels.stream());
  }

  /** With heads of 8 and of 72, cuDNN 9.19 writes zeros for gradients of some; 64 is the smallest size that was tested. */
  private static final int SMALLEST_HEAD = 64;

  private static final int HEAD_STEP = 16;

  /**
   * Why cuDNN does not cover a shape on a card, for a sentence such as "cuDNN's attention ..."; null: it does.
   *
   * @param architecture compute capability times ten
   */
  public static String unsupported(AttentionShape s, int architecture) {
    if (architecture < 90) {
      return "packs sequences on compute capability 9.0 and newer only, this card has " + architecture / 10.0;
    }
    if (s.cached()) {
      return "is used where keys lie beside their queries, not in a cache";
    }
    if (s.type() != DType.BF16 && s.type() != DType.F16) {
      return "takes bfloat16 and float16, not " + s.type().label();
    }
    // The limit above 128 is that of the backward pass; the forward pass alone would not pay for a second rule.
    int largest = architecture == 90 ? 256 : 128;
    if (s.headDim() % HEAD_STEP != 0 || s.headDim() < SMALLEST_HEAD || s.headDim() > largest) {
      return "takes head sizes that are multiples of " + HEAD_STEP + " from " + SMALLEST_HEAD + " to " + largest + ", not " + s.headDim();
    }
    if (s.ldQ() % 8 != 0 || s.ldK() % 8 != 0 || s.ldV() % 8 != 0 || s.ldO() % 8 != 0) {
      return "takes rows that begin at multiples of 16 bytes";
    }
    return null;
  }

  @Override
  public void forward(Mem o, Mem lse, Mem q, Mem k, Mem v, Mem workspace, AttentionShape shape) {
    if (shape.n() == 0) {
      return;
    }
    AttentionPass pass = prepare(forward, AttentionPass::forward, workspace, shape);
    // Where nobody wants lse its place is the end of the workspace, which was made large enough for both.
    long sums = lse != null ? lse.address() : workspace.address() + pass.bytes(shape.n());
    pass.forward(workspace.address(), shape.n(), o.address(), sums, q.address(), k.address(), v.address());
  }

  @Override
  public void backward(
      Mem dq, Mem dk, Mem dv, Mem o, Mem lse, Mem dOut, Mem q, Mem k, Mem v, Mem workspace, AttentionShape shape) {
    if (shape.n() == 0) {
      return;
    }
    AttentionPass pass = prepare(backward, AttentionPass::backward, workspace, shape);
    pass.backward(
        workspace.address(), shape.n(), dq.address(), dk.address(), dv.address(), o.address(), lse.address(),
        dOut.address(), q.address(), k.address(), v.address());
    AttentionSpec spec = pass.spec();
    if (spec.stagesKeyGradients()) {
      long row = spec.keyGradientRow();
      long bytes = row * shape.n() * shape.type().bytes();
      long[] at = pass.keyGradientsAt(shape.n());
      copyRows(dk, workspace.slice(at[0], bytes), shape, row, shape.ldK());
      copyRows(dv, workspace.slice(at[1], bytes), shape, row, shape.ldV());
    }
  }

  private void copyRows(Mem to, Mem from, AttentionShape shape, long row, long ld) {
    kernels.castRows(to, from, shape.n(), row, ld, row, shape.type(), shape.type(), false);
  }

  @Override
  public long workspace(AttentionShape largest, boolean backward) {
    AttentionSpec spec = spec(largest, true);
    if (!spec.addressable() && !deterministic) {
      spec = spec.narrowed();
    }
    return backward
        ? find(this.backward, AttentionPass::backward, spec).bytes(largest.n())
        : find(forward, AttentionPass::forward, spec).bytes(largest.n()) + lseBytes(largest);
  }

  /** Whether a batch, or all batches that a shape leaves room for, can be addressed; see {@link AttentionSpec#addressable}. */
  public static boolean addressable(AttentionShape shape) {
    return specOf(shape, true, false).addressable();
  }

  private static long lseBytes(AttentionShape s) {
    return 4 * s.n() * s.heads();
  }

  /** The pass for a batch, with its offsets and lengths in the workspace. */
  private AttentionPass prepare(
      List<AttentionPass> passes,
      BiFunction<AttentionSpec, cudnnContext, AttentionPass> build,
      Mem workspace,
      AttentionShape s) {
    boolean even = s.maxSeqlen() > 0 && s.n() == s.sequences() * s.maxSeqlen() && s.maxSeqlen() % TILE == 0;
    AttentionPass pass = find(passes, build, spec(s, !even));
    long needed = pass.bytes(s.n()) + (passes == forward ? lseBytes(s) : 0);
    if (even && needed > workspace.bytes()) {
      pass = find(passes, build, spec(s, true));
      needed = pass.bytes(s.n()) + (passes == forward ? lseBytes(s) : 0);
    }
    if (needed > workspace.bytes()) {
      throw new OribiException(
          "attention of " + s.n() + " rows in " + s.sequences() + " sequences needs " + needed
              + " bytes of workspace and has " + workspace.bytes() + ": it was planned for a smaller batch");
    }
    if (pass.spec().packed()) {
      Mem offsets = workspace.slice(0, pass.tableBytes());
      Mem lengths = workspace.slice(pass.tableBytes(), 4 * pass.spec().slots());
      kernels.packedOffsets(
          offsets, lengths, s.cuSeqlens(), pass.strides(), pass.pitch(), pass.spec().slots(), s.sequences());
    }
    return pass;
  }

  private AttentionSpec spec(AttentionShape s, boolean packed) {
    return specOf(s, packed, deterministic);
  }

  private static AttentionSpec specOf(AttentionShape s, boolean packed, boolean deterministic) {
    long length = s.maxSeqlen() > 0 ? Math.min(s.maxSeqlen(), s.n()) : s.n();
    return new AttentionSpec(
        s.sequences(), length, packed, s.heads(), s.kvHeads(), s.headDim(), s.ldQ(), s.ldK(), s.ldV(), s.ldO(), s.scale(),
        s.window(), s.softcap(), s.type(), deterministic);
  }

  /** The smallest plan that there is for a batch; where there is none, a new one with room for batches of about its size. */
  private AttentionPass find(
      List<AttentionPass> passes, BiFunction<AttentionSpec, cudnnContext, AttentionPass> build, AttentionSpec spec) {
    return passes.stream()
        .filter(pass -> pass.spec().serves(spec))
        .min(Comparator.comparingLong(pass -> pass.spec().slots() * pass.spec().length()))
        .orElseGet(
            () -> {
              AttentionPass made = build.apply(spec.roomy(), handle);
              passes.add(made);
              return made;
            });
  }

  @Override
  public String describe() {
    return "cuDNN " + CudnnLibrary.version() + (deterministic ? ", deterministic" : "");
  }

  @Override
  public void close() {
    forward.forEach(AttentionPass::close);
    backward.forEach(AttentionPass::close);
    CudnnLibrary.destroy(handle);
  }
}
