package dev.oribi.layer;

import dev.oribi.kernel.DType;
import dev.oribi.kernel.Kernels.Activation;
import dev.oribi.layer.Parameters.Param;
import dev.oribi.layer.Saving.Tensor;
import dev.oribi.program.Buffer;
import dev.oribi.program.Buffer.Rows;
import dev.oribi.program.Emit;
import dev.oribi.program.Emit.Heads;
import dev.oribi.program.Emit.KvCache;
import dev.oribi.program.Emit.RopeTable;
import dev.oribi.program.FrozenStack;
import dev.oribi.program.View;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

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
 * (r1, delta'). What the backward pass reads is kept, sent to the host's memory or made again, as {@link Saving} says. Backward, {@code dr} is the gradient of the sum and is added to in place. Derivation:
 * docs/derivations/step.md
 */
public final class DecoderLayer {
  /** The residual stream between layers: the true stream is r + delta; {@code delta} is null before the first layer. */
  public record Stream(Buffer r, Buffer delta) {}

  /** Where the tokens are: positions restart in each sequence; {@code cache} null except in generation. */
  public record Packing(Buffer positions, Buffer cuSeqlens, RopeTable table, KvCache cache) {}

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

  /** True if the MLP may be made in tiles of tokens: a dropout mask is drawn for all tokens at once. */
  public boolean tiles(Emit e) {
    return !gateUpProj.drops(e) && !downProj.drops(e);
  }

  /** Its linear layers in the order of the forward pass. */
  public List<Linear> linears() {
    return List.of(qkvProj, oProj, gateUpProj, downProj);
  }

  /** The frozen weights in 4 bits, by the names of their projections. */
  public Map<String, FrozenStack> in4Bits() {
    Map<String, FrozenStack> all = new LinkedHashMap<>();
    for (Linear l : linears()) {
      if (l.in4Bits() != null) {
        all.put(l.name(), l.in4Bits());
      }
    }
    return all;
  }

  /** Appends the forward pass; returns the stream after it. {@code s} takes what the backward pass will read. */
  public Stream emitForward(Emit e, Stream in, Packing p, Saved s) {
    long c = in.r.cols();
    Buffer r0 = in.delta == null ? in.r : e.activation(name + ".r0", c);
    Buffer x1 = e.activation(name + ".x1", c);
    s.rstd1 = rstd(e, 1);
    if (in.delta == null) {
      e.rmsNorm(name + ".input_layernorm", x1, s.rstd1, r0, inputNorm.value(), eps);
    } else {
      e.addRmsNorm(name + ".input_layernorm", r0, x1, s.rstd1, in.r, in.delta, inputNorm.value(), eps);
    }
    s.made(e, Tensor.R0, r0);
    s.made(e, Tensor.X1, x1);

    Buffer qkv = e.activation(name + ".qkv", heads.all());
    s.hQkv = qkvProj.h(e);
    qkvProj.emitForward(e, View.of(qkv), View.of(x1), view(s.hQkv));
    e.rope(name + ".rope", qkv, heads, p.table, p.positions, false);
    s.made(e, Tensor.QKV, qkv);
    if (p.cache != null) {
      e.scatter(name + ".k_cache", View.of(p.cache.k()), View.of(qkv).cols(heads.q(), heads.kv()), p.cache.slots());
      e.scatter(name + ".v_cache", View.of(p.cache.v()), View.of(qkv).cols(heads.q() + heads.kv(), heads.kv()), p.cache.slots());
    }
    Buffer o = e.activation(name + ".o", heads.q());
    s.lse = p.cache != null ? null : lse(e);
    e.attention(name + ".self_attn", o, s.lse, qkv, heads, p.cuSeqlens, p.cache);
    s.made(e, Tensor.O, o);
    Buffer y = e.activation(name + ".y", c);
    s.hO = oProj.h(e);
    oProj.emitForward(e, View.of(y), View.of(o), view(s.hO));

    Buffer r1 = e.activation(name + ".r1", c);
    Buffer x2 = e.activation(name + ".x2", c);
    s.rstd2 = rstd(e, 2);
    e.addRmsNorm(name + ".post_attention_layernorm", r1, x2, s.rstd2, r0, y, postAttentionNorm.value(), eps);
    s.made(e, Tensor.R1, r1);
    s.made(e, Tensor.X2, x2);
    return new Stream(r1, emitMlp(e, x2, s));
  }

  /** delta = the MLP of x2, all tokens at once or tile by tile. */
  private Buffer emitMlp(Emit e, Buffer x2, Saved s) {
    Buffer delta = e.activation(name + ".delta", x2.cols());
    s.hGateUp = gateUpProj.h(e);
    s.hDown = downProj.h(e);
    for (View x : tiles(e, x2, s)) {
      View gu = e.activation(name + ".gu", x, gateUpProj.outFeatures());
      gateUpProj.emitForward(e, gu, x, rows(s.hGateUp, x));
      s.made(e, Tensor.GU, gu.buffer());
      View f = e.activation(name + ".f", x, downProj.inFeatures());
      e.glu(name + ".mlp.act", f, gu, act);
      s.made(e, Tensor.F, f.buffer());
      downProj.emitForward(e, rows(delta, x), f, rows(s.hDown, x));
    }
    return delta;
  }

  /** The rows of x2 in the pieces in which the MLP is made: one, unless gu is rebuilt and tiles are asked for. */
  private List<View> tiles(Emit e, Buffer x2, Saved s) {
    long rows = s.saving().tileRows();
    if (rows <= 0 || !s.rebuilds(Tensor.GU) || !s.rebuilds(Tensor.F) || !tiles(e)) {
      return List.of(View.of(x2));
    }
    List<View> all = new ArrayList<>();
    for (long begin = 0; begin < x2.rows(); begin += rows) {
      all.add(View.of(x2).rows(begin, Math.min(rows, x2.rows() - begin)));
    }
    return all;
  }

  /** Appends the backward pass: dr[N,C], the gradient of the layer's output, becomes that of its input. */
  public void emitBackward(Emit e, Buffer dr, Saved s, Packing p, boolean belowLearns) {
    emitMlpBackward(e, dr, s, p);
    Buffer dOut = e.activation(name + ".do", heads.q());
    View out = View.of(dr);
    View gO = oProj.emitDx(e, View.of(dOut), out, view(s.hO));
    Buffer o = find(e, Tensor.O, s, p);
    oProj.emitDw(e, out, gO, View.of(o));
    Buffer qkv = find(e, Tensor.QKV, s, p);
    Buffer dqkv = e.activation(name + ".dqkv", heads.all());
    e.attentionBackward(name + ".self_attn", dqkv, o, s.lse, dOut, qkv, heads, p.cuSeqlens);
    e.rope(name + ".rope", dqkv, heads, p.table, p.positions, true);
    boolean goOn = belowLearns || inputNorm.trainable();
    Buffer dx1 = goOn ? e.activation(name + ".dx1", dr.cols()) : null;
    View gQkv = qkvProj.emitDx(e, view(dx1), View.of(dqkv), view(s.hQkv));
    qkvProj.emitDw(e, View.of(dqkv), gQkv, View.of(find(e, Tensor.X1, s, p)));
    if (goOn) {
      Buffer r0 = find(e, Tensor.R0, s, p);
      e.rmsNormBackward(name + ".input_layernorm", dr, inputNorm.grad(), s.rstd1, dx1, r0, inputNorm.value(), true);
    }
    s.emitEnd(e);
  }

  /** The gradient of gu is written over gu, and f, where it was not kept, over its gradient: both have done their part. */
  private void emitMlpBackward(Emit e, Buffer dr, Saved s, Packing p) {
    Buffer dx2 = e.activation(name + ".dx2", dr.cols());
    Buffer kept = s.rebuilds(Tensor.GU) ? null : find(e, Tensor.GU, s, p);
    Buffer x2 = find(e, Tensor.X2, s, p);
    for (View x : tiles(e, x2, s)) {
      View dy = rows(dr, x);
      View gu = kept != null ? View.of(kept) : e.activation(name + ".gu", x, gateUpProj.outFeatures());
      if (kept == null) {
        gateUpProj.emitAgain(e, gu, x, rows(s.hGateUp, x));
      }
      View df = e.activation(name + ".df", x, downProj.inFeatures());
      View gDown = downProj.emitDx(e, df, dy, rows(s.hDown, x));
      Buffer f = s.rebuilds(Tensor.F) ? null : s.find(e, Tensor.F);
      e.gluBackward(name + ".mlp.act", gu, f == null ? df : null, df, gu, act);
      downProj.emitDw(e, dy, gDown, f == null ? df : View.of(f));
      View gGateUp = gateUpProj.emitDx(e, rows(dx2, x), gu, rows(s.hGateUp, x));
      gateUpProj.emitDw(e, gu, gGateUp, x);
    }
    Buffer r1 = find(e, Tensor.R1, s, p);
    e.rmsNormBackward(
        name + ".post_attention_layernorm", dr, postAttentionNorm.grad(), s.rstd2, dx2, r1, postAttentionNorm.value(), true);
  }

  /** A tensor of the forward pass, made again if it was not kept. The same kernels give the same bits. */
  private Buffer find(Emit e, Tensor t, Saved s, Packing p) {
    Buffer found = s.find(e, t);
    if (found != null) {
      return found;
    }
    String again = name + ".again.";
    switch (t) {
      case X1 -> {
        Buffer r0 = find(e, Tensor.R0, s, p);
        Buffer x1 = s.rebuilt(t, e.activation(again + "x1", r0.cols()));
        e.rmsNorm(name + ".input_layernorm", x1, rstd(e, 1), r0, inputNorm.value(), eps);
      }
      case QKV -> {
        Buffer x1 = find(e, Tensor.X1, s, p);
        Buffer qkv = s.rebuilt(t, e.activation(again + "qkv", heads.all()));
        qkvProj.emitAgain(e, View.of(qkv), View.of(x1), view(s.hQkv));
        e.rope(name + ".rope", qkv, heads, p.table, p.positions, false);
      }
      case O -> {
        Buffer qkv = find(e, Tensor.QKV, s, p);
        s.lse = lse(e);
        Buffer o = s.rebuilt(t, e.activation(again + "o", heads.q()));
        e.attention(name + ".self_attn", o, s.lse, qkv, heads, p.cuSeqlens, null);
      }
      case R1 -> {
        Buffer o = find(e, Tensor.O, s, p);
        Buffer r0 = find(e, Tensor.R0, s, p);
        Buffer y = e.activation(again + "y", r0.cols());
        oProj.emitAgain(e, View.of(y), View.of(o), view(s.hO));
        Buffer r1 = s.rebuilt(t, e.activation(again + "r1", r0.cols()));
        Buffer x2 = e.activation(again + "x2", r0.cols());
        e.addRmsNorm(name + ".post_attention_layernorm", r1, x2, rstd(e, 2), r0, y, postAttentionNorm.value(), eps);
        if (s.rebuilds(Tensor.X2)) {
          s.rebuilt(Tensor.X2, x2);
        }
      }
      case X2 -> {
        Buffer r1 = find(e, Tensor.R1, s, p);
        if (s.find(e, t) == null) {
          Buffer x2 = s.rebuilt(t, e.activation(again + "x2", r1.cols()));
          e.rmsNorm(name + ".post_attention_layernorm", x2, rstd(e, 2), r1, postAttentionNorm.value(), eps);
        }
      }
      default -> throw new IllegalStateException(name + " has no " + t + " to rebuild from");
    }
    return s.find(e, t);
  }

  private Buffer rstd(Emit e, int which) {
    return e.activation(name + ".rstd" + which, DType.F32, Rows.TOKENS, 1);
  }

  private Buffer lse(Emit e) {
    return e.activation(name + ".lse", DType.F32, Rows.TOKENS, heads.heads());
  }

  private static View view(Buffer b) {
    return b == null ? null : View.of(b);
  }

  /** The rows of b that belong to the tokens of a tile. */
  private static View rows(Buffer b, View tile) {
    return b == null ? null : View.of(b).rows(tile.firstRow(), tile.rows());
  }
}
