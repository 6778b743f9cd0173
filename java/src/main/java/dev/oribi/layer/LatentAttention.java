package dev.oribi.layer;

import dev.oribi.kernel.DType;
import dev.oribi.kernel.LatentShape;
import dev.oribi.layer.DecoderLayer.Packing;
import dev.oribi.layer.Saving.Tensor;
import dev.oribi.program.Buffer;
import dev.oribi.program.Buffer.Rows;
import dev.oribi.program.Emit;
import dev.oribi.program.Emit.Heads;
import dev.oribi.program.Emit.RopeTable;
import dev.oribi.program.View;
import java.util.List;
import java.util.function.Supplier;
import java.util.stream.Stream;

/**
 * Multi-head latent attention (DeepSeek-AI 2024): keys and values of all heads are made from one short vector of a token, and so
 * are queries where the model has {@code q_lora_rank}; a part of each head, the same in all keys, carries the position.
 *
 * <pre>
 * with q_lora_rank       a = q' | c | k_rope = x·W(q_a, kv_a)ᵀ      q = rms_norm(q')·W(q_b)ᵀ
 * without                a = c | k_rope = x·W(kv_a)ᵀ                q = x·Wqᵀ
 * kv = rms_norm(c)·W(kv_b)ᵀ, of each head nope | v      k = nope | rope(k_rope)      q = nope | rope(rest)
 * o = attention(q, k, v)      y = o·Woᵀ
 * </pre>
 *
 * q, k and v lie side by side in one row, as in other attention, so that the same kernels and the same choices of what to keep
 * serve both. A head of v has zeros up to the size of one of q and k, which those kernels take for all three: of DeepSeek's 192
 * channels a third. Saved: qkv and o, or whatever {@link Saving} says of them, and a, which is short, where qkv is not rebuilt; the
 * norms' outputs are made again from a. Derivation: docs/derivations/mla.md
 */
public final class LatentAttention implements Attention {
  /**
   * The projections.
   *
   * @param down q_a_proj over kv_a_proj_with_mqa; without q_lora_rank the latter alone
   * @param qNorm of q_lora_rank; null without
   * @param q q_b_proj, or, without q_lora_rank, q_proj
   */
  public record Projections(Linear down, Norm qNorm, Linear q, Norm kvNorm, Linear kv, Linear o) {}

  /** What the backward pass finds beside qkv and o. {@code a} and the norms' statistics are null where qkv is rebuilt. */
  record Kept(Buffer hDown, Buffer hQ, Buffer hKv, Buffer a, Buffer rstdQ, Buffer rstdKv) {}

  private final String name;
  private final LatentShape shape;
  private final Heads heads;
  private final RopeTable table;
  private final Projections w;

  /**
   * @param name of the layer, which begins the names of its buffers
   * @param scale of q.k
   * @param table of the rotated channels alone
   */
  public LatentAttention(String name, LatentShape shape, float scale, RopeTable table, Projections projections) {
    this.name = name;
    this.shape = shape;
    this.heads = new Heads(shape.heads(), shape.heads(), shape.headDim(), scale, 0, 0);
    this.table = table;
    this.w = projections;
  }

  @Override
  public boolean trainable() {
    return w.kvNorm.trainable() || w.qNorm != null && w.qNorm.trainable()
        || Stream.of(w.down, w.q, w.kv, w.o).anyMatch(Linear::trainable);
  }

  @Override
  public List<Projection> linears() {
    return List.of(w.down, w.q, w.kv, w.o);
  }

  @Override
  public long cols(Tensor t) {
    return switch (t) {
      case QKV -> heads.all();
      case O -> shape.q();
      default -> 0;
    };
  }

  @Override
  public long keyCols() {
    return shape.q();
  }

  private boolean longQueries() {
    return w.qNorm == null;
  }

  private long qRank() {
    return longQueries() ? 0 : w.q.inFeatures();
  }

  private View compressedQ(Buffer a) {
    return View.of(a).cols(0, qRank());
  }

  private View compressedKv(Buffer a) {
    return View.of(a).cols(qRank(), w.kv.inFeatures());
  }

  private View kRope(Buffer a) {
    return View.of(a).cols(qRank() + w.kv.inFeatures(), shape.rope());
  }

  @Override
  public Buffer emitForward(Emit e, Buffer x, Packing p, Saved s) {
    s.latent = new Kept(w.down.h(e), w.q.h(e), w.kv.h(e), null, null, null);
    Buffer a = e.activation(name + ".a", w.down.outFeatures());
    w.down.emitForward(e, View.of(a), View.of(x), view(s.latent.hDown));
    Buffer qkv = e.activation(name + ".qkv", heads.all());
    Kept made = emitHeads(e, qkv, a, x, p, s.latent, true);
    s.latent = s.rebuilds(Tensor.QKV) ? s.latent : made;
    s.made(e, Tensor.QKV, qkv);
    if (p.cache() != null) {
      e.scatter(name + ".k_cache", View.of(p.cache().k()), View.of(qkv).cols(shape.q(), shape.q()), p.cache().slots());
      e.scatter(name + ".v_cache", View.of(p.cache().v()), View.of(qkv).cols(2 * shape.q(), shape.q()), p.cache().slots());
    }
    Buffer o = e.activation(name + ".o", shape.q());
    s.lse = p.cache() != null ? null : lse(e);
    e.attention(name + ".self_attn", o, s.lse, heads.of(qkv), heads, p.cuSeqlens(), p.cache());
    s.made(e, Tensor.O, o);
    Buffer y = e.activation(name + ".y", w.o.outFeatures());
    s.hO = w.o.h(e);
    w.o.emitForward(e, View.of(y), View.of(trimmed(e, o)), view(s.hO));
    return y;
  }

  /** qkv = from a and x; the adapters' inner products are made in the forward pass alone. */
  private Kept emitHeads(Emit e, Buffer qkv, Buffer a, Buffer x, Packing p, Kept kept, boolean forward) {
    View q = View.of(qkv).cols(0, shape.q());
    Buffer rstdQ = longQueries() ? null : rstd(e, "q_a");
    View inQ = longQueries() ? View.of(x) : View.of(emitNorm(e, compressedQ(a), rstdQ, w.qNorm));
    Buffer rstdKv = rstd(e, "kv_a");
    View inKv = View.of(emitNorm(e, compressedKv(a), rstdKv, w.kvNorm));
    Buffer kv = e.activation(name + ".kv", shape.kv());
    if (forward) {
      w.q.emitForward(e, q, inQ, view(kept.hQ));
      w.kv.emitForward(e, View.of(kv), inKv, view(kept.hKv));
    } else {
      w.q.emitAgain(e, q, inQ, view(kept.hQ));
      w.kv.emitAgain(e, View.of(kv), inKv, view(kept.hKv));
    }
    e.latent().heads(name + ".rope", qkv, kv, kRope(a), shape, table, p.positions());
    return new Kept(kept.hDown, kept.hQ, kept.hKv, a, rstdQ, rstdKv);
  }

  private Buffer emitNorm(Emit e, View x, Buffer rstd, Norm norm) {
    Buffer y = e.activation(norm.name() + ".y", x.cols());
    norm.emitHeads(e, View.of(y), rstd, x);
    return y;
  }

  @Override
  public Buffer emitAgain(Emit e, Supplier<Buffer> x, Packing p, Saved s) {
    Buffer o = emitO(e, s, p, x);
    Buffer y = e.activation(name + ".again.y", w.o.outFeatures());
    w.o.emitAgain(e, View.of(y), View.of(trimmed(e, o)), view(s.hO));
    return y;
  }

  /** qkv of the forward pass, made again if it was not kept. {@code x}: how to find the layer's input. */
  private Buffer emitQkv(Emit e, Saved s, Packing p, Supplier<Buffer> x) {
    Buffer found = s.find(e, Tensor.QKV);
    if (found != null) {
      return found;
    }
    Buffer in = x.get();
    Buffer a = e.activation(name + ".again.a", w.down.outFeatures());
    w.down.emitAgain(e, View.of(a), View.of(in), view(s.latent.hDown));
    Buffer qkv = s.rebuilt(Tensor.QKV, e.activation(name + ".again.qkv", heads.all()));
    s.latent = emitHeads(e, qkv, a, in, p, s.latent, false);
    return qkv;
  }

  private Buffer emitO(Emit e, Saved s, Packing p, Supplier<Buffer> x) {
    Buffer found = s.find(e, Tensor.O);
    if (found != null) {
      return found;
    }
    Buffer qkv = emitQkv(e, s, p, x);
    s.lse = lse(e);
    Buffer o = s.rebuilt(Tensor.O, e.activation(name + ".again.o", shape.q()));
    e.attention(name + ".self_attn", o, s.lse, heads.of(qkv), heads, p.cuSeqlens(), null);
    return o;
  }

  @Override
  public void emitBackward(Emit e, Buffer dy, Buffer dx, Supplier<Buffer> x, Packing p, Saved s) {
    Buffer dOut = e.activation(name + ".dout", shape.out());
    View gO = w.o.emitDx(e, View.of(dOut), View.of(dy), view(s.hO));
    Buffer o = emitO(e, s, p, x);
    w.o.emitDw(e, View.of(dy), gO, View.of(trimmed(e, o)));
    Buffer dO = padded(e, dOut);
    Buffer qkv = emitQkv(e, s, p, x);
    Buffer dqkv = e.activation(name + ".dqkv", heads.all());
    e.attentionBackward(name + ".self_attn", heads.of(dqkv), o, s.lse, dO, heads.of(qkv), heads, p.cuSeqlens());

    Kept kept = s.latent;
    Buffer da = e.activation(name + ".da", kept.a.cols());
    Buffer dkv = e.activation(name + ".dkv", shape.kv());
    e.latent().headsBackward(name + ".rope", dqkv, dkv, kRope(da), shape, table, p.positions());
    emitThroughNorm(e, w.kv, View.of(dkv), kept.hKv, w.kvNorm, compressedKv(da), compressedKv(kept.a), kept.rstdKv);
    View dq = View.of(dqkv).cols(0, shape.q());
    if (!longQueries()) {
      emitThroughNorm(e, w.q, dq, kept.hQ, w.qNorm, compressedQ(da), compressedQ(kept.a), kept.rstdQ);
    }
    View gDown = w.down.emitDx(e, view(dx), View.of(da), view(kept.hDown));
    w.down.emitDw(e, View.of(da), gDown, View.of(x.get()));
    if (longQueries()) {
      Buffer more = dx == null ? null : e.activation(name + ".dx.q", dx.cols());
      View gQ = w.q.emitDx(e, view(more), dq, view(kept.hQ));
      w.q.emitDw(e, dq, gQ, View.of(x.get()));
      if (more != null) {
        e.add(name + ".dx", dx, dx, more);
      }
    }
  }

  /** da, the gradient of columns of a, = from dy, that of a projection of their norm, which is made again. */
  private void emitThroughNorm(Emit e, Linear projection, View dy, Buffer h, Norm norm, View da, View a, Buffer rstd) {
    Buffer dNormed = e.activation(norm.name() + ".dy", a.cols());
    View g = projection.emitDx(e, View.of(dNormed), dy, view(h));
    projection.emitDw(e, dy, g, View.of(emitNorm(e, a, rstd(e, "again"), norm)));
    norm.emitHeadsBackward(e, da, rstd, View.of(dNormed), a);
  }

  private Buffer trimmed(Emit e, Buffer o) {
    if (shape.v() == shape.headDim()) {
      return o;
    }
    Buffer out = e.activation(name + ".out", shape.out());
    e.latent().trim(name + ".trim", out, o, shape);
    return out;
  }

  private Buffer padded(Emit e, Buffer dOut) {
    if (shape.v() == shape.headDim()) {
      return dOut;
    }
    Buffer dO = e.activation(name + ".do", shape.q());
    e.latent().pad(name + ".pad", dO, dOut, shape);
    return dO;
  }

  private Buffer rstd(Emit e, String which) {
    return e.activation(name + ".rstd." + which, DType.F32, Rows.TOKENS, 1);
  }

  private Buffer lse(Emit e) {
    return e.activation(name + ".lse", DType.F32, Rows.TOKENS, heads.heads());
  }

  private static View view(Buffer b) {
    return b == null ? null : View.of(b);
  }
}
