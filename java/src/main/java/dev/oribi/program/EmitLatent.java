package dev.oribi.program;

import dev.oribi.kernel.LatentKernels.Strides;
import dev.oribi.kernel.LatentShape;
import dev.oribi.program.Emit.RopeTable;
import dev.oribi.program.Op.Kind;
import java.util.List;

/** The part of {@link Emit} that latent attention needs: its heads, and heads of v with and without padding. */
public final class EmitLatent {
  private final Emit emit;

  EmitLatent(Emit emit) {
    this.emit = emit;
  }

  /** k and v of qkv[N,3·H·D] = from kv and kRope; the q that is there already is rotated. */
  public void heads(
      String name, Buffer qkv, Buffer kv, View kRope, LatentShape s, RopeTable table, Buffer positions) {
    View q = View.of(qkv).cols(0, s.q());
    View k = View.of(qkv).cols(s.q(), s.q());
    View v = View.of(qkv).cols(2 * s.q(), s.q());
    Strides strides = new Strides(qkv.cols(), kv.cols(), kRope.ld());
    emit.add(Kind.ROPE, name, List.of(qkv, kv, kRope.buffer(), table.cos(), table.sin(), positions), List.of(qkv),
        qkv.bytes() + kv.bytes(), 3 * qkv.rows() * s.heads() * 2 * s.rope(), r ->
        r.kernels().latent().forward(
            q.mem(), k.mem(), v.mem(), kv.mem(), kRope.mem(), table.cos().mem(), table.sin().mem(), positions.mem(),
            r.tokens(), table.cos().rows(), s, strides, qkv.type()));
  }

  /** dkv, dkRope = from dqkv, whose q is rotated back in place. */
  public void headsBackward(
      String name, Buffer dqkv, Buffer dkv, View dkRope, LatentShape s, RopeTable table, Buffer positions) {
    View dq = View.of(dqkv).cols(0, s.q());
    View dk = View.of(dqkv).cols(s.q(), s.q());
    View dv = View.of(dqkv).cols(2 * s.q(), s.q());
    Strides strides = new Strides(dqkv.cols(), dkv.cols(), dkRope.ld());
    emit.add(Kind.ROPE_BACKWARD, name, List.of(dqkv, table.cos(), table.sin(), positions), List.of(dqkv, dkv, dkRope.buffer()),
        dqkv.bytes() + dkv.bytes(), 3 * dqkv.rows() * s.heads() * 2 * s.rope(), r ->
        r.kernels().latent().backward(
            dq.mem(), dkv.mem(), dkRope.mem(), dk.mem(), dv.mem(), table.cos().mem(), table.sin().mem(), positions.mem(),
            r.tokens(), table.cos().rows(), s, strides, dqkv.type()));
  }

  /** out[N,H·v] = each head of o[N,H·D] without its padding. */
  public void trim(String name, Buffer out, Buffer o, LatentShape s) {
    emit.add(Kind.CAST, name, List.of(o), List.of(out), 2 * out.bytes(), 0, r ->
        r.kernels().castRows(
            out.mem(), o.mem(), r.tokens() * s.heads(), s.v(), s.v(), s.headDim(), out.type(), o.type(), false));
  }

  /** o[N,H·D] = each head of out[N,H·v] and zeros. */
  public void pad(String name, Buffer o, Buffer out, LatentShape s) {
    emit.fill(name, o, 0);
    emit.add(Kind.CAST, name, List.of(out, o), List.of(o), 2 * out.bytes(), 0, r ->
        r.kernels().castRows(
            o.mem(), out.mem(), r.tokens() * s.heads(), s.v(), s.headDim(), s.v(), o.type(), out.type(), false));
  }
}
