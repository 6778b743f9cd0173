package dev.oribi.program;

import dev.oribi.device.Lanes;
import dev.oribi.device.Lanes.Lane;
import dev.oribi.device.Mem;
import dev.oribi.kernel.AdamwHyper;
import dev.oribi.kernel.Attention;
import dev.oribi.kernel.AttentionShape;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.Gemm;
import dev.oribi.kernel.Kernels;
import dev.oribi.kernel.Kernels.Activation;
import dev.oribi.kernel.Kernels.NormWeight;
import dev.oribi.program.Buffer.Lifetime;
import dev.oribi.program.Buffer.Rows;
import dev.oribi.program.Op.Kind;
import java.util.ArrayList;
import java.util.List;

/**
 * Appends ops to a program: one method a kind of op, each stating what it reads, writes, moves and computes. Layers are
 * written with these methods alone.
 *
 * <p>Shapes are those planned; a run may have fewer rows. {@code t} is the storage type of activations.
 */
public final class Emit {
  private final Program program;
  private final Sizes sizes;
  private final Library library;
  private final EmitLora lora;
  private final EmitFp8 fp8;
  private final Copies copies;
  private final EmitLoss loss;
  private final EmitExperts experts;
  private final EmitLatent latent;
  private final boolean roundsX;

  /**
   * The largest run that is planned.
   *
   * @param tokens rows of tokens (N)
   * @param targets rows of target tokens
   * @param sequences sequences (S)
   * @param longest most tokens of one sequence
   * @param type storage of activations
   * @param dropout whether adapters drop inputs: in training only
   * @param dropoutSeed seed of every dropout mask
   * @param spare sequences beyond these that a run may count; they hold padding, if anything ({@link RowBuckets})
   */
  public record Sizes(
      long tokens, long targets, long sequences, long longest, DType type, boolean dropout, long dropoutSeed, long spare) {
    public Sizes(
        long tokens, long targets, long sequences, long longest, DType type, boolean dropout, long dropoutSeed) {
      this(tokens, targets, sequences, longest, type, dropout, dropoutSeed, 0);
    }

    /** The same with room for what {@link RowBuckets} adds. */
    public Sizes roomy() {
      long more = RowBuckets.sequences(sequences) - sequences;
      return new Sizes(tokens, targets, sequences, longest, type, dropout, dropoutSeed, more);
    }
  }

  /** What does the work, and so what the workspace of an op depends on. */
  public record Library(Kernels kernels, Gemm gemm, Attention attention, Kernels ahead, Lanes lanes) {
    /** The same for ops on a lane. */
    Library beside() {
      return new Library(ahead, gemm, attention, ahead, lanes);
    }
  }

  public Emit(Program program, Sizes sizes, Library library) {
    this(program, sizes, library, Copies.NONE);
  }

  /** @param copies of weights in 4 bits that the plan keeps too */
  public Emit(Program program, Sizes sizes, Library library, Copies copies) {
    this(program, sizes, library, copies, false);
  }

  /**
   * For text alone, never for gradients: a product of few rows with a weight in the blocks of a GGUF file may round its x to 8 bits,
   * as llama.cpp does. On a CPU that is several times faster. Derivation: docs/derivations/ggml.md
   */
  public static Emit forText(Program program, Sizes sizes, Library library) {
    return new Emit(program, sizes, library, Copies.NONE, true);
  }

  private Emit(Program program, Sizes sizes, Library library, Copies copies, boolean roundsX) {
    this.roundsX = roundsX;
    this.copies = copies;
    this.program = program;
    this.sizes = sizes;
    this.library = library;
    this.lora = new EmitLora(this, library.kernels());
    this.fp8 = new EmitFp8(this, library.gemm());
    this.loss = new EmitLoss(this, library);
    this.experts = new EmitExperts(this);
    this.latent = new EmitLatent(this);
  }

  public Program program() {
    return program;
  }

  /** The ops of weights in 4 bits and of fused adapters. */
  public EmitLora lora() {
    return lora;
  }

  /** The ops of products in FP8. */
  public EmitFp8 fp8() {
    return fp8;
  }

  /** The second copies of weights in 4 bits. */
  public Copies copies() {
    return copies;
  }

  /** The ops of routed experts. */
  public EmitExperts experts() {
    return experts;
  }

  /** The ops of latent attention. */
  public EmitLatent latent() {
    return latent;
  }

  /** The ops of the vocabulary projection and the loss. */
  public EmitLoss loss() {
    return loss;
  }

  public DType type() {
    return sizes.type;
  }

  public long tokens() {
    return sizes.tokens;
  }

  /** Whether a run of so many rows, written by {@link #forText}, reads blocks as they are: in products that follow each other quickly. */
  public static boolean readsBlocks(long rows) {
    return rows <= EmitLora.FEW_ROUNDED_ROWS;
  }

  /** Whether products of few rows with blocks may round x; see {@link #forText}. */
  boolean roundsX() {
    return roundsX;
  }

  /** Whether adapters drop inputs in this program. */
  public boolean dropout() {
    return sizes.dropout;
  }

  // ------------------------------------------------------------------------------------------------------- buffers

  /** An activation with a row for every token. */
  public Buffer activation(String name, long cols) {
    return activation(name, sizes.type, Rows.TOKENS, cols);
  }

  public Buffer activation(String name, DType type, Rows rowsOf, long cols) {
    return new Buffer(name, Lifetime.ACTIVATION, type, rowsOf, count(rowsOf), cols);
  }

  /** An activation with a row for each of the tokens that {@code like} has rows for. */
  public View activation(String name, View like, long cols) {
    return View.of(new Buffer(name, Lifetime.ACTIVATION, sizes.type, Rows.TOKENS, like.rows(), cols)).from(like.firstRow());
  }

  private long count(Rows rowsOf) {
    return switch (rowsOf) {
      case TOKENS -> sizes.tokens;
      case TARGETS -> sizes.targets;
      case SEQUENCES -> sizes.sequences;
      case FIXED -> 1;
    };
  }

  static Buffer workspace(String name, long bytes) {
    return new Buffer(name + ".workspace", Lifetime.WORKSPACE, DType.U8, Rows.FIXED, 1, bytes);
  }

  // ------------------------------------------------------------------------------------------------------ embedding

  /** y = table[ids] */
  public void embedding(String name, Buffer y, View table, Buffer ids) {
    long c = y.cols();
    add(Kind.EMBEDDING, name, List.of(table.buffer(), ids), List.of(y), 2 * y.bytes() + ids.bytes(), 0, r ->
        r.kernels().embeddingForward(y.mem(), table.mem(), ids.mem(), r.tokens(), c, table.rows(), y.type()));
  }

  /** y = table[ids] of a table in ggml's blocks */
  public void embedding(String name, Buffer y, GgmlMatrix table, Buffer ids) {
    add(Kind.EMBEDDING, name, List.of(table.blocks(), ids), List.of(y), 2 * y.bytes() + ids.bytes(), 0, r ->
        r.kernels().ggml().embedding(
            y.mem(), table.place(0, table.rows()), ids.mem(), r.tokens(), y.cols(), table.rows(), table.type().id(), y.type()));
  }

  /** dtable += rows of dy */
  public void embeddingBackward(String name, View dtable, Buffer dy, Buffer ids) {
    long c = dy.cols();
    add(Kind.EMBEDDING_BACKWARD, name, List.of(dtable.buffer(), dy, ids), List.of(dtable.buffer()),
        dy.bytes() + 8 * dy.rows() * c, dy.rows() * c, r ->
        r.kernels().embeddingBackward(dtable.mem(), dy.mem(), ids.mem(), r.tokens(), c, dtable.rows(), dy.type()));
  }

  // ----------------------------------------------------------------------------------------------------------- norm

  /** y, rstd = rms_norm(x) */
  public void rmsNorm(String name, View y, View rstd, View x, View w, float eps, NormWeight weight) {
    add(Kind.RMS_NORM, name, List.of(x.buffer(), w.buffer()), List.of(y.buffer(), rstd.buffer()),
        bytes(y) + bytes(x) + bytes(rstd), 4 * x.elements(), r ->
        r.kernels().rmsNormForward(
            y.mem(), rstd.mem(), x.mem(), w.mem(), r.rows(x), x.cols(), eps, weight, x.type()));
  }

  /** sum = x + delta; y, rstd = rms_norm(sum) */
  public void addRmsNorm(String name, Buffer sum, Buffer y, Buffer rstd, Buffer x, Buffer delta, View w, float eps,
      NormWeight weight) {
    add(Kind.ADD_RMS_NORM, name, List.of(x, delta, w.buffer()), List.of(sum, y, rstd), 4 * x.bytes() + rstd.bytes(),
        5 * x.rows() * x.cols(), r ->
        r.kernels().addRmsNormForward(
            sum.mem(), y.mem(), rstd.mem(), x.mem(), delta.mem(), w.mem(), r.rows(View.of(x)), x.cols(), eps, weight,
            x.type()));
  }

  /** dx = or += the gradient of rms_norm; dw += where {@code dw} is not null. */
  public void rmsNormBackward(
      String name, View dx, View dw, View rstd, View dy, View x, View w, boolean accumulate, NormWeight weight) {
    List<Buffer> reads = new ArrayList<>(List.of(rstd.buffer(), dy.buffer(), x.buffer(), w.buffer()));
    List<Buffer> writes = new ArrayList<>(List.of(dx.buffer()));
    if (accumulate) {
      reads.add(dx.buffer());
    }
    Buffer space = null;
    if (dw != null) {
      reads.add(dw.buffer());
      writes.add(dw.buffer());
      space = workspace(name, Kernels.rmsNormBackwardWorkspace(x.rows(), x.cols()));
      writes.add(space);
    }
    Buffer scratch = space;
    add(Kind.RMS_NORM_BACKWARD, name, reads, writes, (accumulate ? 4 : 3) * bytes(x), 8 * x.elements(), r ->
        r.kernels().rmsNormBackward(
            dx.mem(), dw == null ? null : dw.mem(), rstd.mem(), dy.mem(), x.mem(), w.mem(),
            scratch == null ? null : scratch.mem(), r.rows(x), x.cols(), accumulate, weight, x.type()));
  }

  /** y, rstd = rms_norm of each head of x; {@code d}: channels of a head. */
  public void headNorm(String name, View y, Buffer rstd, View x, View w, int d, float eps, NormWeight weight) {
    int heads = Math.toIntExact(x.cols() / d);
    add(Kind.HEAD_NORM, name, List.of(x.buffer(), w.buffer()), List.of(y.buffer(), rstd),
        bytes(y) + bytes(x) + rstd.bytes(), 4 * x.elements(), r ->
        r.kernels().headNormForward(
            y.mem(), rstd.mem(), x.mem(), w.mem(), r.rows(x), heads, d, x.ld(), y.ld(), eps, weight, x.type()));
  }

  /** dx = the gradient of {@link #headNorm}; dw += where it is not null. */
  public void headNormBackward(String name, View dx, View dy, View dw, Buffer rstd, View x, View w, int d, NormWeight weight) {
    int heads = Math.toIntExact(x.cols() / d);
    List<Buffer> reads = new ArrayList<>(List.of(rstd, dy.buffer(), x.buffer(), w.buffer()));
    List<Buffer> writes = new ArrayList<>(List.of(dx.buffer()));
    Buffer space = dw == null ? null : workspace(name, Kernels.headNormBackwardWorkspace(x.rows(), heads, d));
    if (dw != null) {
      reads.add(dw.buffer());
      writes.addAll(List.of(dw.buffer(), space));
    }
    add(Kind.HEAD_NORM_BACKWARD, name, reads, writes, 3 * bytes(x), 8 * x.elements(), r ->
        r.kernels().headNormBackward(
            dx.mem(), dw == null ? null : dw.mem(), rstd.mem(), dy.mem(), x.mem(), w.mem(),
            space == null ? null : space.mem(), r.rows(x), heads, d, x.ld(), dy.ld(), dx.ld(), weight, x.type()));
  }

  /** y += b in every row; b[1, cols] or [cols, 1] */
  public void bias(String name, View y, View b) {
    add(Kind.BIAS, name, List.of(y.buffer(), b.buffer()), List.of(y.buffer()), 2 * bytes(y), y.elements(), r ->
        r.kernels().biasAdd(y.mem(), b.mem(), r.rows(y), y.cols(), y.ld(), y.type()));
  }

  /** db += the sum of the rows of dy */
  public void biasBackward(String name, View db, View dy) {
    Buffer space = workspace(name, Kernels.biasBackwardWorkspace(dy.rows(), dy.cols()));
    add(Kind.BIAS_BACKWARD, name, List.of(dy.buffer(), db.buffer()), List.of(db.buffer(), space), bytes(dy), dy.elements(), r ->
        r.kernels().biasBackward(db.mem(), dy.mem(), space.mem(), r.rows(dy), dy.cols(), dy.ld(), dy.type()));
  }

  // ------------------------------------------------------------------------------------------------------- products

  /** y = x · wᵀ, x[rows, in], w[out, in]; {@code beta} 1: y += alpha * x · wᵀ */
  public void matmul(Kind kind, String name, View y, View x, View w, float alpha, float beta) {
    product(kind, name, y, x, false, w, true, alpha, beta);
  }

  /** dx = dy · w; {@code beta} 1: dx += alpha * dy · w */
  public void matmulDx(Kind kind, String name, View dx, View dy, View w, float alpha, float beta) {
    product(kind, name, dx, dy, false, w, false, alpha, beta);
  }

  /** dw += alpha * dyᵀ · x */
  public void matmulDw(Kind kind, String name, View dw, View dy, View x, float alpha) {
    product(kind, name, dw, dy, true, x, false, alpha, 1);
  }

  /** Does a product itself and returns true, or fills the weight for the library's product and returns false. */
  interface OwnProduct {
    boolean done(Run r);
  }

  /** y = x · wᵀ by {@code own}, or by the library from the w that it filled: memory of this op alone. */
  void matmulOr(String name, View y, View x, View w, List<Buffer> reads, long weightBytes, OwnProduct own) {
    List<Buffer> writes = new ArrayList<>(List.of(y.buffer(), w.buffer()));
    long scratch = library.gemm.workspace(shape(y, x, false, w, true, y.rows(), x.cols()));
    Buffer space = scratch == 0 ? null : workspace(name, scratch);
    if (space != null) {
      writes.add(space);
    }
    long bytes = x.elements() * x.type().bytes() + weightBytes + y.elements() * y.type().bytes();
    add(Kind.MATMUL, name, reads, writes, bytes, 2 * y.rows() * y.cols() * x.cols(), r -> {
      Gemm.Shape s = shape(y, x, false, w, true, r.rows(y), x.cols());
      if (s.m() > 0 && !own.done(r)) {
        r.gemm().multiply(y.mem(), x.mem(), w.mem(), space == null ? null : space.mem(), s, 1, 0);
      }
    });
  }

  private void product(Kind kind, String name, View c, View a, boolean ta, View b, boolean tb, float alpha, float beta) {
    long m = c.rows();
    long n = c.cols();
    long k = ta ? a.rows() : a.cols();
    Gemm.Shape planned = shape(c, a, ta, b, tb, m, k);
    List<Buffer> reads = new ArrayList<>(List.of(a.buffer(), b.buffer()));
    List<Buffer> writes = new ArrayList<>(List.of(c.buffer()));
    if (beta != 0) {
      reads.add(c.buffer());
    }
    long scratch = library.gemm.workspace(planned);
    Buffer space = scratch == 0 ? null : workspace(name, scratch);
    if (space != null) {
      writes.add(space);
    }
    long bytes =
        a.elements() * a.type().bytes() + b.elements() * b.type().bytes() + c.elements() * c.type().bytes() * (beta == 0 ? 1 : 2);
    add(kind, name, reads, writes, bytes, 2 * m * n * k, r -> {
      Gemm.Shape s = ta ? shape(c, a, ta, b, tb, m, r.rows(a)) : shape(c, a, ta, b, tb, r.rows(c), k);
      if (s.m() == 0 || s.k() == 0 && beta == 1) {
        return; // a tile beyond this run's rows
      }
      r.gemm().multiply(c.mem(), a.mem(), b.mem(), space == null ? null : space.mem(), s, alpha, beta);
    });
  }

  private static Gemm.Shape shape(View c, View a, boolean ta, View b, boolean tb, long m, long k) {
    return new Gemm.Shape(ta, tb, m, c.cols(), k, a.ld(), b.ld(), c.ld(), a.type(), b.type(), c.type());
  }

  /** y = or += x * mask / (1 - p), the mask of {@code stream} in this run. */
  public void dropout(String name, Buffer y, Buffer x, float p, int stream, boolean accumulate) {
    add(Kind.DROPOUT, name, accumulate ? List.of(x, y) : List.of(x), List.of(y), (accumulate ? 3 : 2) * x.bytes(),
        2 * x.rows() * x.cols(), r ->
        r.kernels().dropout(
            y.mem(), x.mem(), r.tokens() * x.cols(), p, sizes.dropoutSeed, (r.dropoutStream() << 16) | stream,
            accumulate, x.type()));
  }

  // ------------------------------------------------------------------------------------------------------ attention

  /**
   * Numbers of an attention layer. q, k, v lie side by side in each row of one buffer.
   *
   * @param scale of q.k
   * @param window a query sees its last {@code window} keys; 0: all
   * @param softcap scores become softcap * tanh(score / softcap); 0: as they are
   */
  public record Heads(int heads, int kvHeads, int headDim, float scale, int window, float softcap) {
    /** With the usual scale, 1 / sqrt(headDim), and nothing else. */
    public Heads(int heads, int kvHeads, int headDim) {
      this(heads, kvHeads, headDim, (float) (1 / Math.sqrt(headDim)), 0, 0);
    }

    public long q() {
      return (long) heads * headDim;
    }

    public long kv() {
      return (long) kvHeads * headDim;
    }

    public long all() {
      return q() + 2 * kv();
    }

    /** q, k and v within the rows of {@code qkv}. */
    public Qkv of(Buffer qkv) {
      return of(qkv, qkv);
    }

    /** q and k, side by side, within the rows of {@code qk}, v within those of {@code qkv}. */
    public Qkv of(Buffer qk, Buffer qkv) {
      return new Qkv(View.of(qk).cols(0, q()), View.of(qk).cols(q(), kv()), View.of(qkv).cols(q() + kv(), kv()));
    }
  }

  /** What attention reads: q[N,H*D], k and v[N,Hkv*D]. */
  public record Qkv(View q, View k, View v) {
    List<Buffer> buffers() {
      return q.buffer() == v.buffer() ? List.of(q.buffer()) : List.of(q.buffer(), v.buffer());
    }
  }

  /** Cosines and sines [positions, R/2], fp32, where R channels of a head turn. */
  public record RopeTable(Buffer cos, Buffer sin) {
    long rotated() {
      return 2 * cos.cols();
    }
  }

  /** Rotates q and k, which are the first columns of {@code qkv}, in place; {@code inverse} is the backward pass. */
  public void rope(String name, Buffer qkv, Heads h, RopeTable table, Buffer positions, boolean inverse) {
    View q = View.of(qkv).cols(0, h.q());
    View k = View.of(qkv).cols(h.q(), h.kv());
    long bytes = 2 * qkv.rows() * (h.q() + h.kv()) * qkv.type().bytes();
    add(inverse ? Kind.ROPE_BACKWARD : Kind.ROPE, name, List.of(qkv, table.cos, table.sin, positions), List.of(qkv),
        bytes, 3 * qkv.rows() * (h.q() + h.kv()), r ->
        r.kernels().rope(
            q.mem(), k.mem(), table.cos.mem(), table.sin.mem(), positions.mem(), r.tokens(), h.heads, h.kvHeads,
            h.headDim, table.rotated(), qkv.cols(), table.cos.rows(), inverse, qkv.type()));
  }

  /** Where the keys and values of each sequence lie in a cache of rows [slots, Hkv*D]. */
  public record KvCache(Buffer k, Buffer v, Buffer slots, Buffer start, Buffer length) {}

  /** o, lse = attention(qkv); with a cache, its keys and values instead of those of qkv. {@code lse} null: not kept. */
  public void attention(String name, Buffer o, Buffer lse, Qkv qkv, Heads h, Buffer cuSeqlens, KvCache cache) {
    View q = qkv.q;
    View k = cache == null ? qkv.k : View.of(cache.k);
    View v = cache == null ? qkv.v : View.of(cache.v);
    Buffer space = workspace(name, library.attention.workspace(largest(h, q, k, v, o.cols(), cache), false));
    List<Buffer> reads = new ArrayList<>(qkv.buffers());
    reads.add(cuSeqlens);
    if (cache != null) {
      reads.addAll(List.of(cache.k, cache.v, cache.start, cache.length));
    }
    List<Buffer> writes = new ArrayList<>(List.of(o, space));
    if (lse != null) {
      writes.add(lse);
    }
    add(Kind.ATTENTION, name, reads, writes, o.rows() * h.all() * o.type().bytes() + o.bytes(), attentionFlops(h), r ->
        r.attention().forward(
            o.mem(), lse == null ? null : lse.mem(), q.mem(), k.mem(), v.mem(), space.mem(),
            attentionShape(r, h, q, k, v, o.cols(), cuSeqlens, cache)));
  }

  /** d = gradients of q, k and v, each with the strides of what it is the gradient of */
  public void attentionBackward(
      String name, Qkv d, Buffer o, Buffer lse, Buffer dOut, Qkv qkv, Heads h, Buffer cuSeqlens) {
    Buffer space = workspace(name, library.attention.workspace(largest(h, qkv.q, qkv.k, qkv.v, o.cols(), null), true));
    List<Buffer> reads = new ArrayList<>(List.of(o, lse, dOut, cuSeqlens));
    reads.addAll(qkv.buffers());
    List<Buffer> writes = new ArrayList<>(d.buffers());
    writes.add(space);
    long bytes = 2 * o.rows() * h.all() * o.type().bytes() + 2 * o.bytes();
    add(Kind.ATTENTION_BACKWARD, name, reads, writes, bytes, attentionFlops(h) * 5 / 2, r ->
        r.attention().backward(
            d.q.mem(), d.k.mem(), d.v.mem(), o.mem(), lse.mem(), dOut.mem(), qkv.q.mem(), qkv.k.mem(), qkv.v.mem(), space.mem(),
            attentionShape(r, h, qkv.q, qkv.k, qkv.v, o.cols(), cuSeqlens, null)));
  }

  /** The largest call. A cache's ranges have no place yet: a range of no bytes tells that there will be one. */
  private AttentionShape largest(Heads h, View q, View k, View v, long ldO, KvCache cache) {
    Mem later = cache == null ? null : Mem.NOWHERE;
    return new AttentionShape(
        sizes.tokens, sizes.sequences + sizes.spare, Run.lengthBound(sizes.longest, sizes.tokens), h.heads, h.kvHeads, h.headDim,
        q.ld(), k.ld(), v.ld(), ldO, null, later, later, h.scale, h.window, h.softcap, sizes.type);
  }

  private static AttentionShape attentionShape(
      Run r, Heads h, View q, View k, View v, long ldO, Buffer cuSeqlens, KvCache cache) {
    return new AttentionShape(
        r.tokens(), r.sequences(), r.longest(), h.heads, h.kvHeads, h.headDim, q.ld(), k.ld(), v.ld(), ldO,
        cuSeqlens.mem(), cache == null ? null : cache.start.mem(), cache == null ? null : cache.length.mem(), h.scale,
        h.window, h.softcap, q.type());
  }

  /**
   * Two products over the lower triangle, or the band of a window in it, with the planned tokens spread evenly over the
   * planned sequences.
   */
  private long attentionFlops(Heads h) {
    long length = Math.max(1, sizes.tokens / Math.max(1, sizes.sequences));
    long window = h.window == 0 ? length : Math.min(length, h.window);
    double keys = window - window * (window - 1) / 2.0 / length; // that a query sees, on average
    return Math.round(2 * 2 * (double) sizes.tokens * h.q() * keys);
  }

  // ------------------------------------------------------------------------------------------------ rows and elements

  /** f = act(gate) * up, from gu = gate | up */
  public void glu(String name, View f, View gu, Activation act) {
    add(Kind.GLU, name, List.of(gu.buffer()), List.of(f.buffer()), bytes(gu) + bytes(f), 6 * f.elements(), r ->
        r.kernels().gluForward(f.mem(), gu.mem(), r.rows(f), f.cols(), act, f.type()));
  }

  /**
   * dgu = the gradient of gate | up; f, where it is not null, = act(gate) * up once more. Both in place: dgu may be gu, f may be
   * df.
   */
  public void gluBackward(String name, View dgu, View f, View df, View gu, Activation act) {
    List<Buffer> writes = f == null ? List.of(dgu.buffer()) : List.of(dgu.buffer(), f.buffer());
    add(Kind.GLU_BACKWARD, name, List.of(df.buffer(), gu.buffer()), writes,
        2 * bytes(gu) + bytes(df) + (f == null ? 0 : bytes(f)), 12 * df.elements(), r ->
        r.kernels().gluBackward(
            dgu.mem(), f == null ? null : f.mem(), df.mem(), gu.mem(), r.rows(df), df.cols(), act, df.type()));
  }

  /** y = a + b; y may be a or b */
  public void add(String name, Buffer y, Buffer a, Buffer b) {
    add(Kind.ADD, name, List.of(a, b), List.of(y), 3 * y.bytes(), y.rows() * y.cols(), r ->
        r.kernels().add(y.mem(), a.mem(), b.mem(), r.rows(View.of(y)) * y.cols(), y.type()));
  }

  /** y = x * scale, then softcap * tanh(that / softcap) unless softcap is 0; y may be x */
  public void scale(String name, Buffer y, Buffer x, float scale, float softcap) {
    add(Kind.SCALE, name, List.of(x), List.of(y), x.bytes() + y.bytes(), y.rows() * y.cols(), r ->
        r.kernels().scale(y.mem(), x.mem(), r.rows(View.of(y)) * y.cols(), scale, softcap, y.type()));
  }

  public void fill(String name, Buffer y, float value) {
    add(Kind.FILL, name, List.of(), List.of(y), y.bytes(), 0, r ->
        r.kernels().fill(y.mem(), r.rows(View.of(y)) * y.cols(), value, y.type()));
  }

  /** y[i] = x[index[i]]: one row of y for every index */
  public void gather(String name, Buffer y, Buffer x, Buffer index) {
    add(Kind.GATHER, name, List.of(x, index), List.of(y), 2 * y.bytes(), 0, r ->
        r.kernels().gatherRows(
            y.mem(), x.mem(), index.mem(), r.rows(View.of(y)), r.rows(View.of(x)), y.cols(), y.cols(), x.cols(), y.type()));
  }

  /** y[index[i]] = x[i]; the other rows of y stay */
  public void scatter(String name, View y, View x, Buffer index) {
    add(Kind.SCATTER, name, List.of(x.buffer(), index, y.buffer()), List.of(y.buffer()),
        2 * x.elements() * x.type().bytes(), 0, r ->
        r.kernels().scatterRows(
            y.mem(), x.mem(), index.mem(), r.rows(x), r.rows(y), x.cols(), y.ld(), x.ld(), x.type()));
  }

  // ---------------------------------------------------------------------------------------------------------- lanes

  /** A place in the host's memory for all of {@code b}. */
  public static Buffer onHost(Buffer b) {
    return new Buffer(b.name() + ".host", Lifetime.HOST, b.type(), b.rowsOf(), b.rows(), b.cols());
  }

  /** host = x, beside the ops that follow; returns what is to be joined before x may go. */
  public Op offload(String name, Buffer host, Buffer x) {
    return aside(Kind.OFFLOAD, name, host, x, Lane.OUT);
  }

  /** x = host, beside the ops that follow; returns what is to be joined before x may be read. */
  public Op fetch(String name, Buffer x, Buffer host) {
    return aside(Kind.FETCH, name, x, host, Lane.IN);
  }

  private Op aside(Kind kind, String name, Buffer to, Buffer from, Lane lane) {
    long rowBytes = from.cols() * from.type().bytes();
    Op op =
        new Op(kind, name, List.of(from), List.of(to), from.bytes(), 0, r -> {
          long bytes = r.rows(View.of(from)) * rowBytes;
          r.lanes().copy(lane, to.mem().slice(0, bytes), from.mem().slice(0, bytes));
        }).on(lane);
    program.add(op);
    return op;
  }

  /** The ops that follow wait for {@code op}. */
  public void join(Op op) {
    program.add(op.join());
  }

  // ----------------------------------------------------------------------------------------------------------- loss

  /** What the loss reads and writes besides the hidden states. {@code gradScale}: one fp32. */
  public record Loss(Buffer labels, Buffer losses, Buffer lossSum, Buffer gradScale) {}

  // ------------------------------------------------------------------------------------------------------ optimizer

  /** out[0] = (accumulate ? out[0] : 0) + sum of squares */
  public void sumSquares(String name, Buffer out, Buffer x, boolean accumulate) {
    long count = x.rows() * x.cols();
    Buffer space = workspace(name, Kernels.sumWorkspace(count));
    add(Kind.SUM_SQUARES, name, accumulate ? List.of(x, out) : List.of(x), List.of(out, space), x.bytes(), 2 * count, r ->
        r.kernels().sumSquares(out.mem(), x.mem(), space.mem(), count, accumulate));
  }

  public void clipScale(Buffer scale, Buffer norm, Buffer sumSquares, float maxNorm) {
    add(Kind.CLIP, "clip", List.of(sumSquares), List.of(scale, norm), 16, 4, r ->
        r.kernels().clipScale(scale.mem(), norm.mem(), sumSquares.mem(), maxNorm));
  }

  /** The numbers of AdamW that stay the same for a run. */
  public record AdamW(double beta1, double beta2, double epsilon, double weightDecay) {
    /** All the numbers of one step, as {@link #adamw} reads them. */
    public AdamwHyper at(long step, double learningRate) {
      return new AdamwHyper(learningRate, beta1, beta2, epsilon, weightDecay, step);
    }
  }

  /** What the host writes an {@link AdamwHyper} to before each update. */
  public static Buffer hyper(String name) {
    return new Buffer(name, Lifetime.IO, DType.U8, Rows.FIXED, 1, AdamwHyper.BYTES);
  }

  /** {@code value16} null where the storage type is fp32. {@code hyper}: see {@link #hyper}. */
  public void adamw(
      String name, Buffer value, Buffer value16, Buffer m, Buffer v, Buffer grad, Buffer scale, Buffer hyper) {
    List<Buffer> writes = new ArrayList<>(List.of(value, m, v));
    if (value16 != null) {
      writes.add(value16);
    }
    add(Kind.ADAMW, name, List.of(value, m, v, grad, scale, hyper), writes,
        7 * value.bytes() + (value16 == null ? 0 : value16.bytes()), 14 * value.rows(), r ->
        r.kernels().adamw(
            value.mem(), value16 == null ? null : value16.mem(), m.mem(), v.mem(), grad.mem(), scale.mem(), hyper.mem(),
            value.rows(), value16 == null ? DType.F32 : value16.type()));
  }

  /** The same with moments in 8 bits and the largest magnitudes of their blocks of 256; see {@code oribi_adamw8}. */
  public void adamw8(
      String name, Buffer value, Buffer value16, Buffer m8, Buffer v8, Buffer mMax, Buffer vMax, Buffer grad, Buffer scale,
      Buffer hyper) {
    List<Buffer> writes = new ArrayList<>(List.of(value, m8, v8, mMax, vMax));
    if (value16 != null) {
      writes.add(value16);
    }
    long state = 2 * (m8.bytes() + v8.bytes() + mMax.bytes() + vMax.bytes());
    add(Kind.ADAMW, name, List.of(value, m8, v8, mMax, vMax, grad, scale, hyper), writes,
        3 * value.bytes() + state + (value16 == null ? 0 : value16.bytes()), 14 * value.rows(), r ->
        r.kernels().adamw8(
            value.mem(), value16 == null ? null : value16.mem(), m8.mem(), v8.mem(), mMax.mem(), vMax.mem(), grad.mem(),
            scale.mem(), hyper.mem(), value.rows(), value16 == null ? DType.F32 : value16.type()));
  }

  static long bytes(View v) {
    return v.elements() * v.type().bytes();
  }

  void add(
      Kind kind, String name, List<Buffer> reads, List<Buffer> writes, long bytes, long flops, Op.Action action) {
    program.add(new Op(kind, name, reads, writes, bytes, flops, action));
  }
}
