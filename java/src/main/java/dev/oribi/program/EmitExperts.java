package dev.oribi.program;

import dev.oribi.device.Mem;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.ExpertKernels;
import dev.oribi.kernel.ExpertKernels.RowsOf;
import dev.oribi.kernel.GroupedShape;
import dev.oribi.kernel.Kernels.Activation;
import dev.oribi.kernel.RouterShape;
import dev.oribi.program.Buffer.Lifetime;
import dev.oribi.program.Buffer.Rows;
import dev.oribi.program.Op.Kind;
import java.util.ArrayList;
import java.util.List;

/**
 * The part of {@link Emit} that routed experts need.
 *
 * <p>Each token has a row for each expert that it chose, N·k in all, whatever the choices: nothing is dropped, so that how much
 * memory a layer needs does not depend on the data. How many rows an expert has does, and is known on the device alone. A buffer
 * of such rows counts tokens and holds a token's k rows in place of one: its columns are k times those of a row. Once sorted by
 * expert the rows of a token stand apart; {@link Routing} says where.
 */
public final class EmitExperts {
  private final Emit emit;

  EmitExperts(Emit emit) {
    this.emit = emit;
  }

  /**
   * Which experts the tokens chose, and where each choice's row stands.
   *
   * @param expert [N,k], as the router chose
   * @param weight [N,k] fp32
   * @param offsets [E+1]: an expert's rows
   * @param pair [N·k]: of each row, token·k + choice
   * @param token [N·k]: of each row
   * @param row [N,k]: of each choice
   */
  public record Routing(
      int experts, int chosen, Buffer expert, Buffer weight, Buffer offsets, Buffer pair, Buffer token, Buffer row) {
    List<Buffer> and(Buffer... others) {
      List<Buffer> all = new ArrayList<>(List.of(others));
      all.addAll(List.of(offsets, token));
      return all;
    }
  }

  /**
   * A matrix for each expert, W[out,in], at equal distances.
   *
   * @param first that of expert 0
   * @param apart elements from one expert's to the next
   */
  public record Matrices(View first, long apart) {
    public long out() {
      return first.rows();
    }

    public long in() {
      return first.cols();
    }

    /** The expert matrices that lie one after the other in {@code stack}[E·out,in]. */
    public static Matrices of(View stack, int experts) {
      long out = stack.rows() / experts;
      return new Matrices(stack.rows(0, out), out * stack.ld());
    }

    /** Rows {@code begin} .. {@code begin + count} of each. */
    public Matrices rows(long begin, long count) {
      return new Matrices(first.rows(begin, count), apart);
    }
  }

  /**
   * Rows of an operand: sorted by expert, or, with {@code ofTokens}, one a token, which all of the token's choices read.
   *
   * @param view its first row and its columns; rows as planned
   */
  public record Operand(View view, boolean ofTokens) {
    public Operand cols(long begin, long count) {
      return new Operand(view.cols(begin, count), ofTokens);
    }
  }

  /** A row for each choice, sorted by expert. */
  public Operand sorted(Buffer b, int chosen) {
    return new Operand(View.matrix(b, 0, b.rows() * chosen, b.cols() / chosen), false);
  }

  /** A row for each token, read by all its choices. */
  public Operand ofTokens(Buffer b) {
    return new Operand(View.of(b), true);
  }

  /** A buffer for {@link #sorted} rows of {@code cols}. */
  public Buffer activation(String name, int chosen, long cols) {
    return emit.activation(name, chosen * cols);
  }

  /** The routing of the router's logits [N,E]. {@code bias}[E] fp32, for the choice alone; null: none. */
  public Routing route(String name, Buffer logits, Buffer bias, RouterShape s) {
    int k = s.chosen();
    Routing r =
        new Routing(
            s.experts(), k, ids(name + ".expert", k), emit.activation(name + ".weight", DType.F32, Rows.TOKENS, k),
            emit.activation(name + ".offsets", DType.I32, Rows.FIXED, s.experts() + 1), ids(name + ".pair", k),
            ids(name + ".token", k), ids(name + ".row", k));
    List<Buffer> reads = bias == null ? List.of(logits) : List.of(logits, bias);
    emit.add(Kind.ROUTER, name, reads, List.of(r.expert, r.weight), logits.bytes() + r.expert.bytes() + r.weight.bytes(),
        8 * logits.rows() * logits.cols(), run ->
        run.kernels().experts().routerForward(
            r.expert.mem(), r.weight.mem(), logits.mem(), bias == null ? null : bias.mem(), run.tokens(), s));
    Buffer space = Emit.workspace(name + ".route", ExpertKernels.routeWorkspace(emit.tokens(), k, s.experts()));
    emit.add(Kind.ROUTE, name, List.of(r.expert), List.of(r.offsets, r.pair, r.token, r.row, space), 5 * r.expert.bytes(), 0, run ->
        run.kernels().experts().route(
            r.offsets.mem(), r.pair.mem(), r.token.mem(), r.row.mem(), r.expert.mem(), space.mem(), run.tokens(), k, s.experts()));
    return r;
  }

  private Buffer ids(String name, int chosen) {
    return emit.activation(name, DType.I32, Rows.TOKENS, chosen);
  }

  /** dlogits[N,E] = from dweight[N,k], of the type of the logits. */
  public void routerBackward(String name, Buffer dlogits, Routing r, Buffer dweight, Buffer logits, RouterShape s) {
    emit.add(Kind.ROUTER_BACKWARD, name, List.of(r.expert, dweight, logits), List.of(dlogits), 2 * logits.bytes() + 2 * dweight.bytes(),
        10 * logits.rows() * logits.cols(), run ->
        run.kernels().experts().routerBackward(
            dlogits.mem(), r.expert.mem(), dweight.mem(), logits.mem(), run.tokens(), s));
  }

  /** y[N,C] = the sum of each token's rows of x. */
  public void unroute(String name, Buffer y, Buffer x, Routing r) {
    emit.add(Kind.UNROUTE, name, List.of(x, r.row), List.of(y), x.bytes() + y.bytes(), x.rows() * x.cols(), run ->
        run.kernels().experts().unroute(
            y.mem(), x.mem(), r.row.mem(), run.tokens(), r.chosen, y.cols(), false, y.type()));
  }

  // ------------------------------------------------------------------------------------------------------- products

  /** y = scale · x·Wᵀ of each row's expert; {@code accumulate}: y += */
  public void matmul(Kind kind, String name, Operand y, Operand x, Matrices w, Routing r, float scale, boolean accumulate) {
    GroupedShape s = shape(r, w, x.view.ld(), y.view.ld(), scale, accumulate);
    product(kind, name, y, x, w, r, accumulate, run ->
        run.kernels().experts().matmul(y.view.mem(), x.view.mem(), w.first.mem(), rows(run, r, x, null), s));
  }

  /** dx = scale · dy·W; {@code accumulate}: dx += */
  public void matmulDx(Kind kind, String name, Operand dx, Operand dy, Matrices w, Routing r, float scale, boolean accumulate) {
    GroupedShape s = shape(r, w, dx.view.ld(), dy.view.ld(), scale, accumulate);
    product(kind, name, dx, dy, w, r, accumulate, run ->
        run.kernels().experts().matmulDx(dx.view.mem(), dy.view.mem(), w.first.mem(), rows(run, r, null, dy), s));
  }

  /** dW += scale · dyᵀ·x of each expert's rows, fp32. */
  public void matmulDw(Kind kind, String name, Matrices dw, Operand dy, Operand x, Routing r, float scale) {
    GroupedShape s =
        new GroupedShape(
            r.experts, dw.in(), dw.out(), x.view.ld(), dy.view.ld(), dw.first.ld(), dw.apart, scale, true, x.view.type());
    Buffer to = dw.first.buffer();
    long bytes = Emit.bytes(x.view) + Emit.bytes(dy.view) + 2 * 4 * r.experts * dw.first.elements();
    emit.add(kind, name, r.and(dy.view.buffer(), x.view.buffer(), to), List.of(to), bytes, flops(r, dw), run ->
        run.kernels().experts().matmulDw(dw.first.mem(), dy.view.mem(), x.view.mem(), rows(run, r, x, dy), s));
  }

  private void product(
      Kind kind, String name, Operand to, Operand from, Matrices w, Routing r, boolean accumulate, Op.Action action) {
    List<Buffer> reads = r.and(from.view.buffer(), w.first.buffer());
    if (accumulate) {
      reads.add(to.view.buffer());
    }
    long weights = r.experts * Emit.bytes(w.first);
    long bytes = Emit.bytes(from.view) + weights + Emit.bytes(to.view) * (accumulate ? 2 : 1);
    emit.add(kind, name, reads, List.of(to.view.buffer()), bytes, flops(r, w), action);
  }

  private static GroupedShape shape(Routing r, Matrices w, long ldX, long ldY, float scale, boolean accumulate) {
    return new GroupedShape(
        r.experts, w.in(), w.out(), ldX, ldY, w.first.ld(), w.apart, scale, accumulate, w.first.type());
  }

  private static RowsOf rows(Run run, Routing r, Operand x, Operand y) {
    return new RowsOf(run.tokens() * r.chosen, r.offsets.mem(), at(r, x), at(r, y));
  }

  private static Mem at(Routing r, Operand o) {
    return o != null && o.ofTokens ? r.token.mem() : null;
  }

  private long flops(Routing r, Matrices w) {
    return 2 * emit.tokens() * r.chosen * w.out() * w.in();
  }

  // ----------------------------------------------------------------------------------------------------- activation

  /** f = weight · act(gate) · up of each row, from gu = gate | up. */
  public void glu(String name, Buffer f, Buffer gu, Routing r, Activation act) {
    long size = f.cols() / r.chosen;
    emit.add(Kind.GLU, name, List.of(gu, r.weight, r.pair), List.of(f), gu.bytes() + f.bytes(), 7 * f.rows() * f.cols(), run ->
        run.kernels().experts().weightedGluForward(
            f.mem(), gu.mem(), r.weight.mem(), r.pair.mem(), run.tokens() * r.chosen, size, act, f.type()));
  }

  /**
   * dgu, dweight[N,k] = gradients of gate | up and of the weights; f, where it is not null, = once more. In place: dgu may be gu,
   * f may be df.
   */
  public void gluBackward(
      String name, Buffer dgu, Buffer f, Buffer dweight, Buffer df, Buffer gu, Routing r, Activation act) {
    long size = df.cols() / r.chosen;
    List<Buffer> writes = f == null ? List.of(dgu, dweight) : List.of(dgu, dweight, f);
    emit.add(Kind.GLU_BACKWARD, name, List.of(df, gu, r.weight, r.pair), writes,
        2 * gu.bytes() + df.bytes() + (f == null ? 0 : f.bytes()), 15 * df.rows() * df.cols(), run ->
        run.kernels().experts().weightedGluBackward(
            dgu.mem(), f == null ? null : f.mem(), dweight.mem(), df.mem(), gu.mem(), r.weight.mem(), r.pair.mem(),
            run.tokens() * r.chosen, size, act, df.type()));
  }

  /** y = x, converted. */
  public void cast(String name, Buffer y, Buffer x) {
    emit.add(Kind.CAST, name, List.of(x), List.of(y), x.bytes() + y.bytes(), 0, run ->
        run.kernels().cast(y.mem(), x.mem(), run.rows(View.of(x)) * x.cols(), y.type(), x.type()));
  }
}
