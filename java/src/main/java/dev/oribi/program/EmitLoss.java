package dev.oribi.program;

import dev.oribi.device.Mem;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.Gemm;
import dev.oribi.kernel.Kernels;
import dev.oribi.program.Buffer.Lifetime;
import dev.oribi.program.Buffer.Rows;
import dev.oribi.program.Op.Kind;
import java.util.ArrayList;
import java.util.List;

/** The part of {@link Emit} that the vocabulary projection and the loss need. Derivation: docs/derivations/cross_entropy.md */
public final class EmitLoss {
  /** Most bytes of logits at once, where nothing else is asked: 1024 rows of a vocabulary of 128,256 in 16 bits. */
  public static final long LOGITS_BUDGET = 256L << 20;

  /**
   * Most rows of a chunk. Each chunk reads the whole head twice. A product of m rows in 16 bits does m operations for each byte
   * of the head that it reads; an H100 does 200 to 250 in the time of one byte, so that at 1024 rows reading is hidden four times
   * over, and more rows would only take more memory, at the moment when the step holds most. A CPU does some ten.
   */
  private static final long GPU_ROWS = 1024;
  private static final long CPU_ROWS = 256;

  private final Emit emit;
  private final Emit.Library library;

  EmitLoss(Emit emit, Emit.Library library) {
    this.emit = emit;
    this.library = library;
  }

  /** Rows of logits at once: no more than the budget holds, than there are, and than make a product whole. */
  static long chunk(long targets, long vocabulary, DType logits, long budget, boolean gpu) {
    long fits = Math.max(1, budget / (logits.bytes() * vocabulary));
    return Math.max(1, Chunks.even(targets, Math.min(fits, gpu ? GPU_ROWS : CPU_ROWS)));
  }

  /**
   * Vocabulary projection and cross-entropy of the target rows, a chunk of rows at a time: the logits of one chunk are all
   * that ever exists. With {@code dh} the gradient is made on the way: dh = dlogits · w, dw += dlogitsᵀ · h.
   *
   * @param h hidden states of the target rows, normalised
   * @param dw null where the head is frozen, as one in 8 bits always is
   * @param budget most bytes of logits at once
   */
  public void crossEntropy(String name, Buffer dh, View dw, Buffer h, Head w, Emit.Loss loss, long budget) {
    long vocabulary = w.rows();
    DType z = library.gemm().logitsType(h.type());
    long chunk = chunk(h.rows(), vocabulary, z, budget, library.kernels().architecture() > 0);
    Buffer logits = new Buffer(name + ".logits", Lifetime.WORKSPACE, z, Rows.FIXED, chunk, vocabulary);
    HeadProducts products = new HeadProducts(name, w, chunk, budget, h.type(), z, dh != null, library.gemm(), emit.roundsX());
    Gemm.Shape weight =
        new Gemm.Shape(true, false, vocabulary, h.cols(), chunk, vocabulary, h.cols(), h.cols(), z, h.type(), DType.F32);
    List<Buffer> reads = new ArrayList<>(w.buffers());
    reads.addAll(List.of(h, loss.labels(), loss.gradScale()));
    List<Buffer> writes = new ArrayList<>(products.scratch());
    writes.addAll(List.of(loss.losses(), logits));
    long readings = dh == null ? 1 : 2; // of the head, a chunk
    long most = products.workspace();
    if (dh != null) {
      writes.add(dh);
    }
    if (dw != null) {
      reads.add(dw.buffer());
      writes.add(dw.buffer());
      most = Math.max(most, library.gemm().workspace(weight));
    }
    Buffer space = most == 0 ? null : Emit.workspace(name, most);
    if (space != null) {
      writes.add(space);
    }
    long flops = 2 * h.rows() * vocabulary * h.cols() * (readings + (dw == null ? 0 : 1));
    long passes = (h.rows() + chunk - 1) / chunk * readings;
    long bytes = 2 * readings * h.rows() * vocabulary * z.bytes() + passes * w.bytes();
    emit.add(Kind.CROSS_ENTROPY, name, reads, writes, bytes, flops, r -> {
      Mem scratch = space == null ? null : space.mem();
      for (long begin = 0; begin < r.targets(); begin += chunk) {
        long rows = Math.min(chunk, r.targets() - begin);
        Mem part = View.of(h).rows(begin, rows).mem();
        products.logits(r, logits.mem(), part, scratch, rows);
        r.kernels().crossEntropy(
            dh == null ? null : logits.mem(), View.of(loss.losses()).rows(begin, rows).mem(), logits.mem(),
            View.of(loss.labels()).rows(begin, rows).mem(), loss.gradScale().mem(), rows, vocabulary, w.scale(), w.softcap(),
            z);
        if (dh != null) {
          products.gradient(r, View.of(dh).rows(begin, rows).mem(), logits.mem(), scratch, rows);
        }
        if (dw != null) {
          r.gemm().multiply(dw.mem(), logits.mem(), part, scratch, weight.with(vocabulary, rows), 1, 1);
        }
      }
    });
    sum(name, loss.lossSum(), loss.losses());
  }

  /** logits[targets,V] = h·wᵀ in fp32, for generation. */
  public void logits(String name, Buffer logits, Buffer h, Head w) {
    HeadProducts products = new HeadProducts(name, w, h.rows(), LOGITS_BUDGET, h.type(), logits.type(), false, library.gemm(), emit.roundsX());
    Buffer space = products.workspace() == 0 ? null : Emit.workspace(name, products.workspace());
    List<Buffer> reads = new ArrayList<>(w.buffers());
    reads.add(h);
    List<Buffer> writes = new ArrayList<>(products.scratch());
    writes.add(logits);
    if (space != null) {
      writes.add(space);
    }
    emit.add(Kind.LOGITS, name, reads, writes, h.bytes() + w.bytes() + logits.bytes(), 2 * h.rows() * w.rows() * w.cols(), r ->
        products.logits(r, logits.mem(), h.mem(), space == null ? null : space.mem(), r.rows(View.of(h))));
    if (w.scale() != 1 || w.softcap() != 0) {
      emit.scale(name + ".scale", logits, logits, w.scale(), w.softcap());
    }
  }

  /** out[0] = sum of the first column of x, fp64 */
  private void sum(String name, Buffer out, Buffer x) {
    Buffer space = Emit.workspace(name + ".sum", Kernels.sumWorkspace(x.rows()));
    emit.add(Kind.SUM, name, List.of(x), List.of(out, space), x.bytes(), x.rows(), r ->
        r.kernels().sum(out.mem(), x.mem(), space.mem(), r.rows(View.of(x)), false));
  }
}
