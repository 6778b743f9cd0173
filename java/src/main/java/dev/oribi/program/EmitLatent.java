package dev.oribi.program;

import dev.oribi.kernel.Kernels;
import dev.oribi.kernel.LatentKernels.Strides;
import dev.oribi.kernel.LatentShape;
import dev.oribi.program.Emit.RopeTable;
import dev.oribi.program.Op.Kind;
import java.util.ArrayList;
import java.util.List;

/** The part of {@link Emit} that latent attention needs: its heads, and norms and copies of columns of a wider row. */
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

  /** y[N,c], rstd[N] = rms_norm of the columns x of a row. */
  public void norm(String name, View y, Buffer rstd, View x, View w, float eps) {
    emit.add(Kind.RMS_NORM, name, List.of(x.buffer(), w.buffer()), List.of(y.buffer(), rstd), 2 * Emit.bytes(x), 4 * x.elements(), r ->
        r.kernels().headNormForward(
            y.mem(), rstd.mem(), x.mem(), w.mem(), r.rows(x), 1, (int) x.cols(), x.ld(), y.ld(), eps, x.type()));
  }

  /** dx, which holds the gradient of the norm's output, becomes that of its input; dw += where it is not null. */
  public void normBackward(String name, View dx, View dw, Buffer rstd, View x, View w) {
    List<Buffer> reads = new ArrayList<>(List.of(dx.buffer(), rstd, x.buffer(), w.buffer()));
    List<Buffer> writes = new ArrayList<>(List.of(dx.buffer()));
    Buffer space = dw == null ? null : Emit.workspace(name, Kernels.headNormBackwardWorkspace(x.rows(), 1, (int) x.cols()));
    if (dw != null) {
      reads.add(dw.buffer());
      writes.addAll(List.of(dw.buffer(), space));
    }
    emit.add(Kind.RMS_NORM_BACKWARD, name, reads, writes, 3 * Emit.bytes(x), 8 * x.elements(), r ->
        r.kernels().headNormBackward(
            dx.mem(), dw == null ? null : dw.mem(), rstd.mem(), dx.mem(), x.mem(), w.mem(), space == null ? null : space.mem(),
            r.rows(x), 1, (int) x.cols(), x.ld(), dx.ld(), x.type()));
  }

  /** y = x: columns of rows. */
  public void copy(String name, View y, View x) {
    emit.add(Kind.CAST, name, List.of(x.buffer()), List.of(y.buffer()), 2 * Emit.bytes(x), 0, r ->
        r.kernels().castRows(y.mem(), x.mem(), r.rows(x), x.cols(), y.ld(), x.ld(), y.type(), x.type(), false));
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
