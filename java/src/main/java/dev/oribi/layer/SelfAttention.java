package dev.oribi.layer;

import dev.oribi.kernel.DType;
import dev.oribi.layer.DecoderLayer.Packing;
import dev.oribi.layer.Saving.Tensor;
import dev.oribi.program.Buffer;
import dev.oribi.program.Buffer.Rows;
import dev.oribi.program.Emit;
import dev.oribi.program.Emit.Heads;
import dev.oribi.program.Emit.Qkv;
import dev.oribi.program.Emit.RopeTable;
import dev.oribi.program.View;
import java.util.List;
import java.util.function.Supplier;

/**
 * Causal attention with grouped heads and rotary positions.
 *
 * <pre>
 * qkv = x1·Wqkvᵀ   q, k = norm of each head, if there is one   q, k turn   o = attention(q, k, v)   y = o·Woᵀ
 * y = norm(y), if there is one
 * </pre>
 *
 * Without a norm of the heads q and k turn in place, in qkv. With it the norm's backward pass reads q and k as they were before:
 * qkv stays as the projection made it, and q and k after norm and rotation lie in a buffer of their own, qk, which costs one pass
 * over memory to make again.
 */
public final class SelfAttention implements Attention {
  /**
   * The norms within.
   *
   * @param q of each query head; null: none, and then there is none of keys either
   * @param k of each key head
   * @param output of y; null: none
   */
  public record Norms(Norm q, Norm k, Norm output) {
    public static final Norms NONE = new Norms(null, null, null);

    public Norms {
      if (q == null != (k == null)) {
        throw new IllegalArgumentException("queries and keys are normalised both or not at all");
      }
    }
  }

  private final String name;
  private final Heads heads;
  private final RopeTable table;
  private final Linear qkvProj;
  private final Linear oProj;
  private final Norms norms;

  /**
   * @param name of the layer, which begins the names of its buffers
   * @param table null: q and k do not turn
   */
  public SelfAttention(String name, Heads heads, RopeTable table, Linear qkvProj, Linear oProj, Norms norms) {
    this.name = name;
    this.heads = heads;
    this.table = table;
    this.qkvProj = qkvProj;
    this.oProj = oProj;
    this.norms = norms;
  }

  @Override
  public boolean trainable() {
    return qkvProj.trainable() || oProj.trainable() || norms.q != null && norms.q.trainable()
        || norms.output != null && norms.output.trainable();
  }

  @Override
  public List<Projection> linears() {
    return List.of(qkvProj, oProj);
  }

  @Override
  public long cols(Tensor t) {
    return switch (t) {
      case QKV -> heads.all();
      case QK -> norms.q == null ? 0 : heads.q() + heads.kv();
      case O -> heads.q();
      case Y -> norms.output == null ? 0 : oProj.outFeatures();
      default -> 0;
    };
  }

  @Override
  public long keyCols() {
    return heads.kv();
  }

  @Override
  public Buffer emitForward(Emit e, Buffer x1, Packing p, Saved s) {
    Buffer qkv = e.activation(name + ".qkv", heads.all());
    s.hQkv = qkvProj.h(e);
    qkvProj.emitForward(e, View.of(qkv), View.of(x1), view(s.hQkv));
    Buffer qk = qkv;
    if (norms.q == null) {
      emitRope(e, qkv, p, false);
      s.made(e, Tensor.QKV, qkv);
    } else {
      s.made(e, Tensor.QKV, qkv);
      s.rstdQ = headRstd(e, "q", heads.heads());
      s.rstdK = headRstd(e, "k", heads.kvHeads());
      qk = emitQk(e, name + ".qk", qkv, p, s.rstdQ, s.rstdK);
      s.made(e, Tensor.QK, qk);
    }
    Qkv parts = heads.of(qk, qkv);
    if (p.cache() != null) {
      e.scatter(name + ".k_cache", View.of(p.cache().k()), parts.k(), p.cache().slots());
      e.scatter(name + ".v_cache", View.of(p.cache().v()), parts.v(), p.cache().slots());
    }
    Buffer o = e.activation(name + ".o", heads.q());
    s.lse = p.cache() != null ? null : lse(e);
    e.attention(name + ".self_attn", o, s.lse, parts, heads, p.cuSeqlens(), p.cache());
    s.made(e, Tensor.O, o);
    Buffer y = e.activation(name + ".y", oProj.outFeatures());
    s.hO = oProj.h(e);
    oProj.emitForward(e, View.of(y), View.of(o), view(s.hO));
    if (norms.output == null) {
      return y;
    }
    s.made(e, Tensor.Y, y);
    s.rstdY = rstd(e);
    Buffer normed = e.activation(name + ".y_norm", y.cols());
    norms.output.emit(e, normed, s.rstdY, y);
    return normed;
  }

  /** q and k normalised and turned; qkv stays as it is. */
  private Buffer emitQk(Emit e, String label, Buffer qkv, Packing p, Buffer rstdQ, Buffer rstdK) {
    Buffer qk = e.activation(label, heads.q() + heads.kv());
    norms.q.emitHeads(e, queries(qk), rstdQ, queries(qkv));
    norms.k.emitHeads(e, keys(qk), rstdK, keys(qkv));
    emitRope(e, qk, p, false);
    return qk;
  }

  private void emitRope(Emit e, Buffer qk, Packing p, boolean inverse) {
    if (table != null) {
      e.rope(name + ".rope", qk, heads, table, p.positions(), inverse);
    }
  }

  @Override
  public Buffer emitAgain(Emit e, Supplier<Buffer> x1, Packing p, Saved s) {
    if (norms.output == null) {
      return emitProductAgain(e, x1, p, s);
    }
    Buffer y = find(e, Tensor.Y, x1, p, s);
    Buffer normed = e.activation(name + ".again.y_norm", y.cols());
    norms.output.emit(e, normed, rstd(e), y);
    return normed;
  }

  private Buffer emitProductAgain(Emit e, Supplier<Buffer> x1, Packing p, Saved s) {
    Buffer o = find(e, Tensor.O, x1, p, s);
    Buffer y = e.activation(name + ".again.y", oProj.outFeatures());
    oProj.emitAgain(e, View.of(y), View.of(o), view(s.hO));
    return y;
  }

  @Override
  public void emitBackward(Emit e, Buffer dr, Buffer dx1, Supplier<Buffer> x1, Packing p, Saved s) {
    Buffer dy = dr;
    if (norms.output != null) {
      dy = e.activation(name + ".dy", dr.cols());
      norms.output.emitBackward(e, dy, s.rstdY, dr, find(e, Tensor.Y, x1, p, s), false);
    }
    Buffer dOut = e.activation(name + ".do", heads.q());
    View gO = oProj.emitDx(e, View.of(dOut), View.of(dy), view(s.hO));
    Buffer o = find(e, Tensor.O, x1, p, s);
    oProj.emitDw(e, View.of(dy), gO, View.of(o));
    Qkv parts = findParts(e, x1, p, s);
    Buffer dqkv = e.activation(name + ".dqkv", heads.all());
    Buffer dqk = norms.q == null ? dqkv : e.activation(name + ".dqk", heads.q() + heads.kv());
    e.attentionBackward(name + ".self_attn", heads.of(dqk, dqkv), o, s.lse, dOut, parts, heads, p.cuSeqlens());
    emitRope(e, dqk, p, true);
    if (norms.q != null) {
      Buffer qkv = find(e, Tensor.QKV, x1, p, s);
      norms.q.emitHeadsBackward(e, queries(dqkv), s.rstdQ, queries(dqk), queries(qkv));
      norms.k.emitHeadsBackward(e, keys(dqkv), s.rstdK, keys(dqk), keys(qkv));
    }
    View gQkv = qkvProj.emitDx(e, view(dx1), View.of(dqkv), view(s.hQkv));
    qkvProj.emitDw(e, View.of(dqkv), gQkv, View.of(x1.get()));
  }

  private Qkv findParts(Emit e, Supplier<Buffer> x1, Packing p, Saved s) {
    Buffer qkv = find(e, Tensor.QKV, x1, p, s);
    return heads.of(norms.q == null ? qkv : find(e, Tensor.QK, x1, p, s), qkv);
  }

  /** A tensor of the forward pass, made again if it was not kept. */
  private Buffer find(Emit e, Tensor t, Supplier<Buffer> x1, Packing p, Saved s) {
    Buffer found = s.find(e, t);
    if (found != null) {
      return found;
    }
    String again = name + ".again.";
    return switch (t) {
      case QKV -> {
        Buffer x = x1.get();
        Buffer qkv = s.rebuilt(t, e.activation(again + "qkv", heads.all()));
        qkvProj.emitAgain(e, View.of(qkv), View.of(x), view(s.hQkv));
        if (norms.q == null) {
          emitRope(e, qkv, p, false);
        }
        yield qkv;
      }
      case QK -> {
        Buffer qkv = find(e, Tensor.QKV, x1, p, s);
        Buffer rstdQ = headRstd(e, "q", heads.heads());
        yield s.rebuilt(t, emitQk(e, again + "qk", qkv, p, rstdQ, headRstd(e, "k", heads.kvHeads())));
      }
      case O -> {
        Qkv parts = findParts(e, x1, p, s);
        s.lse = lse(e);
        Buffer o = s.rebuilt(t, e.activation(again + "o", heads.q()));
        e.attention(name + ".self_attn", o, s.lse, parts, heads, p.cuSeqlens(), null);
        yield o;
      }
      case Y -> s.rebuilt(t, emitProductAgain(e, x1, p, s));
      default -> throw new IllegalStateException(name + " has no " + t + " to rebuild from");
    };
  }

  private View queries(Buffer b) {
    return View.of(b).cols(0, heads.q());
  }

  private View keys(Buffer b) {
    return View.of(b).cols(heads.q(), heads.kv());
  }

  private Buffer rstd(Emit e) {
    return e.activation(name + ".rstd_y", DType.F32, Rows.TOKENS, 1);
  }

  private Buffer headRstd(Emit e, String which, int count) {
    return e.activation(name + ".rstd_" + which, DType.F32, Rows.TOKENS, count);
  }

  private Buffer lse(Emit e) {
    return e.activation(name + ".lse", DType.F32, Rows.TOKENS, heads.heads());
  }

  private static View view(Buffer b) {
    return b == null ? null : View.of(b);
  }
}
