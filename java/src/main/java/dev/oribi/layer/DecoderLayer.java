package dev.oribi.layer;

import dev.oribi.kernel.DType;
import dev.oribi.kernel.Kernels.Activation;
import dev.oribi.layer.Parameters.Param;
import dev.oribi.program.Buffer;
import dev.oribi.program.Buffer.Rows;
import dev.oribi.program.Emit;
import dev.oribi.program.Emit.Heads;
import dev.oribi.program.Emit.KvCache;
import dev.oribi.program.Emit.RopeTable;
import dev.oribi.program.View;

/**
 * One layer of a Llama: attention and a gated MLP, each behind a norm, on a residual stream.
 *
 * <pre>
 * r0 = r + delta                     (the sum that the layer before left open)
 * x1 = rms_norm(r0)   qkv = x1·Wqkvᵀ   rope   o = attention(qkv)   y = o·Woᵀ
 * r1 = r0 + y         x2 = rms_norm(r1)       gu = x2·Wguᵀ   f = act(gate)·up   delta' = f·Wdownᵀ
 * </pre>
 *
 * The residual additions are fused with the norm that follows, so a layer takes the stream as a pair (r, delta) and leaves
 * (r1, delta'). Backward, {@code dr} is the gradient of the sum and is added to in place. Derivation:
 * docs/derivations/step.md
 */
public final class DecoderLayer {
  /** The residual stream between layers: the true stream is r + delta; {@code delta} is null before the first layer. */
  public record Stream(Buffer r, Buffer delta) {}

  /** Where the tokens are: positions restart in each sequence; {@code cache} null except in generation. */
  public record Packing(Buffer positions, Buffer cuSeqlens, RopeTable table, KvCache cache) {}

  /** What the backward pass reads. */
  public record Saved(
      Stream in,
      Buffer r0,
      Buffer rstd1,
      Linear.Saved qkvProj,
      Buffer qkv,
      Buffer lse,
      Buffer o,
      Linear.Saved oProj,
      Buffer r1,
      Buffer rstd2,
      Linear.Saved gateUpProj,
      Buffer gu,
      Linear.Saved downProj,
      Buffer delta) {
    /** The layer's output. */
    public Stream out() {
      return new Stream(r1, delta);
    }
  }

  private final String name;
  private final Heads heads;
  private final float eps;
  private final Activation act;
  private final Param inputNorm;
  private final Linear qkvProj;
  private final Linear oProj;
  private final Param postAttentionNorm;
  private final Linear gateUpProj;
  private final Linear downProj;

  public DecoderLayer(
      String name,
      Heads heads,
      float eps,
      Activation act,
      Param inputNorm,
      Linear qkvProj,
      Linear oProj,
      Param postAttentionNorm,
      Linear gateUpProj,
      Linear downProj) {
    this.name = name;
    this.heads = heads;
    this.eps = eps;
    this.act = act;
    this.inputNorm = inputNorm;
    this.qkvProj = qkvProj;
    this.oProj = oProj;
    this.postAttentionNorm = postAttentionNorm;
    this.gateUpProj = gateUpProj;
    this.downProj = downProj;
  }

  public boolean trainable() {
    return inputNorm.trainable()
        || postAttentionNorm.trainable()
        || qkvProj.trainable()
        || oProj.trainable()
        || gateUpProj.trainable()
        || downProj.trainable();
  }

  /**
   * Appends the forward pass.
   *
   * @param again the pass is run a second time, for the backward pass only: what that does not read is left out, and {@link
   *     Saved#delta} is null
   */
  public Saved emitForward(Emit e, Stream in, Packing p, boolean again) {
    long c = in.r.cols();
    Buffer r0 = in.delta == null ? in.r : e.activation(name + ".r0", c);
    Buffer x1 = e.activation(name + ".x1", c);
    Buffer rstd1 = e.activation(name + ".rstd1", DType.F32, Rows.TOKENS, 1);
    if (in.delta == null) {
      e.rmsNorm(name + ".input_layernorm", x1, rstd1, r0, inputNorm.value(), eps);
    } else {
      e.addRmsNorm(name + ".input_layernorm", r0, x1, rstd1, in.r, in.delta, inputNorm.value(), eps);
    }

    Buffer qkv = e.activation(name + ".qkv", heads.all());
    Linear.Saved savedQkv = qkvProj.emitForward(e, qkv, x1);
    e.rope(name + ".rope", qkv, heads, p.table, p.positions, false);
    if (p.cache != null) {
      e.scatter(name + ".k_cache", View.of(p.cache.k()), View.of(qkv).cols(heads.q(), heads.kv()), p.cache.slots());
      e.scatter(name + ".v_cache", View.of(p.cache.v()), View.of(qkv).cols(heads.q() + heads.kv(), heads.kv()), p.cache.slots());
    }
    Buffer o = e.activation(name + ".o", heads.q());
    Buffer lse = p.cache != null ? null : e.activation(name + ".lse", DType.F32, Rows.TOKENS, heads.heads());
    e.attention(name + ".self_attn", o, lse, qkv, heads, p.cuSeqlens, p.cache);
    Buffer y = e.activation(name + ".y", c);
    Linear.Saved savedO = oProj.emitForward(e, y, o);

    Buffer r1 = e.activation(name + ".r1", c);
    Buffer x2 = e.activation(name + ".x2", c);
    Buffer rstd2 = e.activation(name + ".rstd2", DType.F32, Rows.TOKENS, 1);
    e.addRmsNorm(name + ".post_attention_layernorm", r1, x2, rstd2, r0, y, postAttentionNorm.value(), eps);

    Buffer gu = e.activation(name + ".gu", gateUpProj.outFeatures());
    Linear.Saved savedGateUp = gateUpProj.emitForward(e, gu, x2);
    Buffer f = e.activation(name + ".f", downProj.inFeatures());
    e.glu(name + ".mlp.act", f, gu, act);
    Buffer delta = again ? null : e.activation(name + ".delta", c);
    Linear.Saved savedDown = downProj.emitForward(e, delta, f);
    return new Saved(in, r0, rstd1, savedQkv, qkv, lse, o, savedO, r1, rstd2, savedGateUp, gu, savedDown, delta);
  }

  /** Appends the backward pass: dr[N,C], the gradient of the layer's output, becomes that of its input. */
  public void emitBackward(Emit e, Buffer dr, Saved s, Packing p, boolean belowLearns) {
    long c = dr.cols();
    Buffer df = e.activation(name + ".df", downProj.inFeatures());
    downProj.emitBackward(e, df, dr, s.downProj);
    Buffer dgu = e.activation(name + ".dgu", s.gu.cols());
    e.gluBackward(name + ".mlp.act", dgu, df, s.gu, act);
    Buffer dx2 = e.activation(name + ".dx2", c);
    gateUpProj.emitBackward(e, dx2, dgu, s.gateUpProj);
    e.rmsNormBackward(
        name + ".post_attention_layernorm", dr, postAttentionNorm.grad(), s.rstd2, dx2, s.r1, postAttentionNorm.value(), true);

    Buffer dOut = e.activation(name + ".do", heads.q());
    oProj.emitBackward(e, dOut, dr, s.oProj);
    Buffer dqkv = e.activation(name + ".dqkv", heads.all());
    e.attentionBackward(name + ".self_attn", dqkv, s.o, s.lse, dOut, s.qkv, heads, p.cuSeqlens);
    e.rope(name + ".rope", dqkv, heads, p.table, p.positions, true);
    boolean goOn = belowLearns || inputNorm.trainable();
    Buffer dx1 = goOn ? e.activation(name + ".dx1", c) : null;
    qkvProj.emitBackward(e, dx1, dqkv, s.qkvProj);
    if (goOn) {
      e.rmsNormBackward(
          name + ".input_layernorm", dr, inputNorm.grad(), s.rstd1, dx1, s.r0, inputNorm.value(), true);
    }
  }
}
