package dev.oribi.kernel;

import dev.oribi.OribiException;
import dev.oribi.device.Mem;
import dev.oribi.kernel.jni.OribiNative;
import dev.oribi.kernel.jni.oribi_adamw_hyper;
import dev.oribi.kernel.jni.oribi_attention_shape;
import dev.oribi.kernel.jni.oribi_ctx;
import dev.oribi.kernel.jni.oribi_head_norm_shape;
import dev.oribi.kernel.jni.oribi_rope_shape;
import dev.oribi.kernel.jni.oribi_sample_options;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.IntPointer;
import org.bytedeco.javacpp.LongPointer;
import org.bytedeco.javacpp.Pointer;

/**
 * The functions of {@code oribi.h} on one device. Shapes, units and rounding are those that the header states; a {@code
 * null} range is a NULL pointer. One instance is used by one thread at a time.
 */
public final class Kernels implements AutoCloseable {
  /** Activation functions of gated MLPs, in the order of {@code oribi_activation}. */
  public enum Activation {
    SILU,
    GELU_TANH,
    GELU_ERF
  }

  /** How the weight of a norm is applied, in the order of {@code oribi_norm_weight}. */
  public enum NormWeight {
    /** round(x * rstd) * w */
    PLAIN,
    /** x * rstd * (1 + w), rounded once */
    ONE_PLUS
  }

  /** How the next token is drawn; see {@code oribi_sample_options}. */
  public record Sampling(
      float temperature, int topK, float topP, float minP, float repetitionPenalty, long seed, long stream) {}

  private final oribi_ctx ctx;
  private final LoraKernels lora;
  private final Int8Kernels int8;
  private final GgmlKernels ggml;
  private final Fp8Kernels fp8;
  private final ExpertKernels experts;
  private final LatentKernels latent;

  /**
   * Opens the CPU.
   *
   * @param threads 0 for all the cores there are
   */
  public static Kernels cpu(int threads) {
    return new Kernels(OribiNative.ORIBI_CPU, 0, threads);
  }

  /**
   * Opens a GPU. Nothing of CUDA but Oribi's own library is touched, so that a machine without a driver gets a sentence and
   * not a missing library.
   *
   * @param index which card, from 0
   * @throws OribiException that says why there is no such card
   */
  public static Kernels cuda(int index) {
    return new Kernels(OribiNative.ORIBI_CUDA, index, 0);
  }

  private Kernels(int device, int index, int threads) {
    NativeLibrary.load();
    ctx = new oribi_ctx();
    int status = OribiNative.oribi_ctx_create(ctx, device, index, threads);
    if (status != OribiNative.ORIBI_OK) {
      throw new OribiException(OribiNative.oribi_create_message().getString());
    }
    lora = new LoraKernels(this, ctx);
    int8 = new Int8Kernels(this, ctx);
    ggml = new GgmlKernels(this, ctx);
    fp8 = new Fp8Kernels(this, ctx);
    experts = new ExpertKernels(this, ctx);
    latent = new LatentKernels(this, ctx);
  }

  /** The instruction set or the card's name. */
  public String deviceName() {
    return OribiNative.oribi_ctx_device_name(ctx).getString();
  }

  public int threads() {
    return OribiNative.oribi_ctx_threads(ctx);
  }

  oribi_ctx context() {
    return ctx;
  }

  /** Address of the stream that every call goes to; 0 on the CPU. */
  public long stream() {
    Pointer stream = OribiNative.oribi_ctx_stream(ctx);
    return stream == null ? 0 : stream.address();
  }

  /** Compute capability times ten, such as 90; 0 on the CPU. */
  public int architecture() {
    return OribiNative.oribi_ctx_architecture(ctx);
  }

  /** The functions on 4-bit weights and adapters. */
  public LoraKernels lora() {
    return lora;
  }

  /** The functions on 8-bit weights. */
  public GgmlKernels ggml() {
    return ggml;
  }

  public Int8Kernels int8() {
    return int8;
  }

  /** What works on matrices in e4m3. */
  public Fp8Kernels fp8() {
    return fp8;
  }

  /** The functions on routed experts. */
  public ExpertKernels experts() {
    return experts;
  }

  /** The functions on the heads of latent attention. */
  public LatentKernels latent() {
    return latent;
  }

  /**
   * Whether a CPU's threads look for the next call for a while before they sleep: while calls follow each other within microseconds, as
   * in decoding. The cores are then not free for other libraries. Changes no result.
   */
  public void keepAwake(boolean on) {
    check(OribiNative.oribi_ctx_keep_awake(ctx, on ? 1 : 0));
  }

  /** Waits until everything issued is done; on a GPU also tells what no kernel could return, such as an id out of range. */
  public void synchronize() {
    check(OribiNative.oribi_ctx_synchronize(ctx));
  }

  /** Version of the native library. */
  public static String version() {
    NativeLibrary.load();
    return OribiNative.oribi_version().getString();
  }

  public void cast(Mem y, Mem x, long count, DType ty, DType tx) {
    check(OribiNative.oribi_cast(ctx, p(y), p(x), count, ty.code(), tx.code()));
  }

  public void castRows(
      Mem y, Mem x, long rows, long cols, long ldy, long ldx, DType ty, DType tx, boolean accumulate) {
    check(
        OribiNative.oribi_cast_rows(
            ctx, p(y), p(x), rows, cols, ldy, ldx, ty.code(), tx.code(), accumulate ? 1 : 0));
  }

  public void add(Mem y, Mem a, Mem b, long count, DType t) {
    check(OribiNative.oribi_add(ctx, p(y), p(a), p(b), count, t.code()));
  }

  /** y = x * scale, then softcap * tanh(that / softcap) unless softcap is 0 */
  public void scale(Mem y, Mem x, long count, float scale, float softcap, DType t) {
    check(OribiNative.oribi_scale(ctx, p(y), p(x), count, scale, softcap, t.code()));
  }

  public void biasAdd(Mem y, Mem b, long rows, long cols, long ld, DType t) {
    check(OribiNative.oribi_bias_add(ctx, p(y), p(b), rows, cols, ld, t.code()));
  }

  public void biasBackward(Mem db, Mem dy, Mem workspace, long rows, long cols, long ld, DType t) {
    check(OribiNative.oribi_bias_backward(ctx, f(db), p(dy), p(workspace), rows, cols, ld, t.code()));
  }

  public static long biasBackwardWorkspace(long rows, long cols) {
    NativeLibrary.load();
    return size(OribiNative.oribi_bias_backward_workspace(rows, cols));
  }

  public void fill(Mem y, long count, float value, DType t) {
    check(OribiNative.oribi_fill(ctx, p(y), count, value, t.code()));
  }

  public void gatherRows(Mem y, Mem x, Mem index, long n, long rows, long c, long ldy, long ldx, DType t) {
    check(OribiNative.oribi_gather_rows(ctx, p(y), p(x), i(index), n, rows, c, ldy, ldx, t.code()));
  }

  public void scatterRows(Mem y, Mem x, Mem index, long n, long rows, long c, long ldy, long ldx, DType t) {
    check(OribiNative.oribi_scatter_rows(ctx, p(y), p(x), i(index), n, rows, c, ldy, ldx, t.code()));
  }

  public void randomUniform(Mem y, long count, float low, float high, long seed, long stream, DType t) {
    check(OribiNative.oribi_random_uniform(ctx, p(y), count, low, high, seed, stream, t.code()));
  }

  public void randomNormal(Mem y, long count, float mean, float std, long seed, long stream, DType t) {
    check(OribiNative.oribi_random_normal(ctx, p(y), count, mean, std, seed, stream, t.code()));
  }

  public void dropout(Mem y, Mem x, long count, float p, long seed, long stream, boolean accumulate, DType t) {
    check(OribiNative.oribi_dropout(ctx, p(y), p(x), count, p, seed, stream, accumulate ? 1 : 0, t.code()));
  }

  public void embeddingForward(Mem y, Mem table, Mem ids, long n, long c, long v, DType t) {
    check(OribiNative.oribi_embedding_forward(ctx, p(y), p(table), i(ids), n, c, v, t.code()));
  }

  public void embeddingBackward(Mem dtable, Mem dy, Mem ids, long n, long c, long v, DType t) {
    check(OribiNative.oribi_embedding_backward(ctx, f(dtable), p(dy), i(ids), n, c, v, t.code()));
  }

  public void rmsNormForward(Mem y, Mem rstd, Mem x, Mem w, long n, long c, float eps, NormWeight weight, DType t) {
    check(OribiNative.oribi_rms_norm_forward(ctx, p(y), f(rstd), p(x), p(w), n, c, eps, weight.ordinal(), t.code()));
  }

  public void addRmsNormForward(
      Mem r, Mem y, Mem rstd, Mem x, Mem delta, Mem w, long n, long c, float eps, NormWeight weight, DType t) {
    check(
        OribiNative.oribi_add_rms_norm_forward(
            ctx, p(r), p(y), f(rstd), p(x), p(delta), p(w), n, c, eps, weight.ordinal(), t.code()));
  }

  public void rmsNormBackward(
      Mem dx, Mem dw, Mem rstd, Mem dy, Mem x, Mem w, Mem workspace, long n, long c, boolean accumulate, NormWeight weight,
      DType t) {
    check(
        OribiNative.oribi_rms_norm_backward(
            ctx, p(dx), f(dw), f(rstd), p(dy), p(x), p(w), p(workspace), n, c, accumulate ? 1 : 0, weight.ordinal(),
            t.code()));
  }

  /** A size that the native library could not tell is an error of its installation, and never a size. */
  static long size(long bytes) {
    if (bytes < 0) {
      throw new OribiException("the library of the CPU's kernels cannot be loaded: is ORIBI_CPU_ISA set to a set that this"
          + " processor lacks? Unset it, or install liboribi_cpu beside liboribi");
    }
    return bytes;
  }

  public static long rmsNormBackwardWorkspace(long n, long c) {
    NativeLibrary.load();
    return size(OribiNative.oribi_rms_norm_backward_workspace(n, c));
  }

  /** {@link #rmsNormForward} of each of the {@code heads} heads in a row of x; ld: elements from one row to the next. */
  public void headNormForward(
      Mem y, Mem rstd, Mem x, Mem w, long n, int heads, int headDim, long ldX, long ldY, float eps,
      NormWeight weight, DType t) {
    try (oribi_head_norm_shape s = headNorm(n, heads, headDim, ldX, ldY, eps, weight, t)) {
      check(OribiNative.oribi_head_norm_forward(ctx, p(y), f(rstd), p(x), p(w), s));
    }
  }

  /** {@code ldX} of x, {@code ldY} of dy, {@code ldDx} of dx; dw and workspace null: not wanted. */
  public void headNormBackward(
      Mem dx, Mem dw, Mem rstd, Mem dy, Mem x, Mem w, Mem workspace, long n, int heads, int headDim, long ldX, long ldY,
      long ldDx, NormWeight weight, DType t) {
    // The backward pass reads rstd; the check of eps, which is the forward pass's, wants a positive number.
    try (oribi_head_norm_shape s = headNorm(n, heads, headDim, ldX, ldY, 1e-6f, weight, t)) {
      s.ld_dx(ldDx);
      check(OribiNative.oribi_head_norm_backward(ctx, p(dx), f(dw), f(rstd), p(dy), p(x), p(w), p(workspace), s));
    }
  }

  private static oribi_head_norm_shape headNorm(
      long n, int heads, int headDim, long ldX, long ldY, float eps, NormWeight weight, DType t) {
    oribi_head_norm_shape s = new oribi_head_norm_shape();
    return s.n(n).h(heads).d(headDim).ld_x(ldX).ld_y(ldY).eps(eps).t(t.code()).weight(weight.ordinal());
  }

  public static long headNormBackwardWorkspace(long n, int heads, int headDim) {
    NativeLibrary.load();
    return size(OribiNative.oribi_head_norm_backward_workspace(n, heads, headDim));
  }

  /**
   * q and k begin at the given ranges; {@code ld}: elements from one row to the next, the same for both; {@code rotated}: how
   * many channels of a head turn.
   */
  public void rope(
      Mem q,
      Mem k,
      Mem cos,
      Mem sin,
      Mem positions,
      long n,
      int heads,
      int kvHeads,
      int headDim,
      long rotated,
      long ld,
      long maxPosition,
      boolean inverse,
      DType t) {
    try (oribi_rope_shape shape = new oribi_rope_shape()) {
      shape.n(n).h(heads).h_kv(kvHeads).d(headDim).ld_q(ld).ld_k(ld);
      shape.rotated(rotated).max_position(maxPosition).t(t.code()).inverse(inverse ? 1 : 0);
      check(OribiNative.oribi_rope(ctx, p(q), p(k), f(cos), f(sin), i(positions), shape));
    }
  }

  public void gluForward(Mem f, Mem gu, long n, long fSize, Activation act, DType t) {
    check(OribiNative.oribi_glu_forward(ctx, p(f), p(gu), n, fSize, act.ordinal(), t.code()));
  }

  /** f: null, or where the forward pass's output is wanted once more; it may be df. */
  public void gluBackward(Mem dgu, Mem f, Mem df, Mem gu, long n, long fSize, Activation act, DType t) {
    check(OribiNative.oribi_glu_backward(ctx, p(dgu), p(f), p(df), p(gu), n, fSize, act.ordinal(), t.code()));
  }

  public void attentionForward(Mem o, Mem lse, Mem q, Mem k, Mem v, Mem workspace, AttentionShape shape) {
    try (oribi_attention_shape s = struct(shape)) {
      check(OribiNative.oribi_attention_forward(ctx, p(o), f(lse), p(q), p(k), p(v), p(workspace), s));
    }
  }

  public void attentionBackward(
      Mem dq,
      Mem dk,
      Mem dv,
      Mem o,
      Mem lse,
      Mem dOut,
      Mem q,
      Mem k,
      Mem v,
      Mem workspace,
      AttentionShape shape) {
    try (oribi_attention_shape s = struct(shape)) {
      check(
          OribiNative.oribi_attention_backward(
              ctx, p(dq), p(dk), p(dv), p(o), f(lse), p(dOut), p(q), p(k), p(v), p(workspace), s));
    }
  }

  public long attentionWorkspace(AttentionShape shape, boolean backward) {
    try (oribi_attention_shape s = struct(shape)) {
      return OribiNative.oribi_attention_workspace(ctx, s, backward ? 1 : 0);
    }
  }

  /**
   * Where packed sequences begin, in elements, for libraries that count so: {@code strides.length} arrays of 64-bit numbers,
   * {@code pitch} apart, and the lengths of the sequences; beyond {@code sequences} up to {@code slots} they are empty.
   */
  void packedOffsets(
      Mem offsets, Mem lengths, Mem cuSeqlens, long[] strides, long pitch, long slots, long sequences) {
    try (LongPointer into = new LongPointer(p(offsets));
        LongPointer of = new LongPointer(strides)) {
      check(
          OribiNative.oribi_packed_offsets(
              ctx, into, i(lengths), i(cuSeqlens), of, strides.length, pitch, slots, sequences));
    }
  }

  private static oribi_attention_shape struct(AttentionShape a) {
    oribi_attention_shape s = new oribi_attention_shape();
    s.n(a.n()).sequences(a.sequences()).h(a.heads()).h_kv(a.kvHeads()).d(a.headDim());
    s.ld_q(a.ldQ()).ld_k(a.ldK()).ld_v(a.ldV()).ld_o(a.ldO());
    s.cu_seqlens(i(a.cuSeqlens())).kv_start(i(a.kvStart())).kv_len(i(a.kvLen()));
    s.scale(a.scale()).t(a.type().code());
    return s.max_seqlen(a.maxSeqlen()).window(a.window()).softcap(a.softcap());
  }

  /** {@code t}: type of logits and dlogits, which may be the same range; dlogits null: not wanted. */
  public void crossEntropy(
      Mem dlogits, Mem loss, Mem logits, Mem labels, Mem gradScale, long n, long v, float logitScale, float softcap,
      DType t) {
    check(
        OribiNative.oribi_cross_entropy(
            ctx, p(dlogits), f(loss), p(logits), i(labels), f(gradScale), n, v, logitScale, softcap, t.code()));
  }

  /** {@code hyper}: an {@link AdamwHyper} in the device's memory. {@code p16} null: no 16-bit copy. */
  public void adamw(Mem p, Mem p16, Mem m, Mem v, Mem g, Mem gradScale, Mem hyper, long count, DType t16) {
    check(
        OribiNative.oribi_adamw(
            ctx, f(p), p(p16), f(m), f(v), f(g), f(gradScale), hyper(hyper), count, t16.code()));
  }

  /** The same with moments of 8 bits in blocks of 256, whose largest magnitudes are {@code mMax} and {@code vMax}. */
  public void adamw8(
      Mem p, Mem p16, Mem m8, Mem v8, Mem mMax, Mem vMax, Mem g, Mem gradScale, Mem hyper, long count, DType t16) {
    check(
        OribiNative.oribi_adamw8(
            ctx, f(p), p(p16), b(m8), b(v8), f(mMax), f(vMax), f(g), f(gradScale), hyper(hyper), count, t16.code()));
  }

  private static oribi_adamw_hyper hyper(Mem m) {
    return m == null ? null : new oribi_adamw_hyper(m.pointer());
  }

  /** The 256 values of bitsandbytes' dynamic 8-bit type, ascending. */
  public static float[] dynamicMap(boolean signed) {
    NativeLibrary.load();
    FloatPointer map = signed ? OribiNative.oribi_dynamic_map_signed() : OribiNative.oribi_dynamic_map_unsigned();
    float[] values = new float[256];
    map.get(values);
    return values;
  }

  public void sumSquares(Mem out, Mem x, Mem workspace, long count, boolean accumulate) {
    check(OribiNative.oribi_sum_squares(ctx, out.doubles(), f(x), p(workspace), count, accumulate ? 1 : 0));
  }

  public void sum(Mem out, Mem x, Mem workspace, long count, boolean accumulate) {
    check(OribiNative.oribi_sum(ctx, out.doubles(), f(x), p(workspace), count, accumulate ? 1 : 0));
  }

  public static long sumWorkspace(long count) {
    NativeLibrary.load();
    return size(OribiNative.oribi_sum_workspace(count));
  }

  public void clipScale(Mem gradScale, Mem norm, Mem sumSquares, float maxNorm) {
    check(OribiNative.oribi_clip_scale(ctx, f(gradScale), f(norm), sumSquares.doubles(), maxNorm));
  }

  public void sample(Mem token, Mem logits, Mem seen, Mem workspace, long n, long v, long seenCount, Sampling how) {
    try (oribi_sample_options o = new oribi_sample_options()) {
      o.temperature(how.temperature).top_k(how.topK).top_p(how.topP).min_p(how.minP);
      o.repetition_penalty(how.repetitionPenalty).seed(how.seed).stream(how.stream);
      check(OribiNative.oribi_sample(ctx, i(token), f(logits), i(seen), p(workspace), n, v, seenCount, o));
    }
  }

  public static long sampleWorkspace(long n, long v) {
    NativeLibrary.load();
    return size(OribiNative.oribi_sample_workspace(n, v));
  }

  void check(int status) {
    if (status != OribiNative.ORIBI_OK) {
      throw new OribiException(OribiNative.oribi_ctx_message(ctx).getString());
    }
  }

  static Pointer p(Mem m) {
    return m == null ? null : m.pointer();
  }

  static FloatPointer f(Mem m) {
    return m == null ? null : m.floats();
  }

  static IntPointer i(Mem m) {
    return m == null ? null : m.ints();
  }

  private static BytePointer b(Mem m) {
    return m == null ? null : new BytePointer(m.pointer());
  }

  @Override
  public void close() {
    if (!ctx.isNull()) {
      OribiNative.oribi_ctx_destroy(ctx);
      ctx.setNull();
    }
  }
}
