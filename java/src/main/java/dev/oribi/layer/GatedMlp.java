package dev.oribi.layer;

import dev.oribi.kernel.DType;
import dev.oribi.kernel.Kernels.Activation;
import dev.oribi.layer.Saving.Tensor;
import dev.oribi.program.Buffer;
import dev.oribi.program.Buffer.Rows;
import dev.oribi.program.Emit;
import dev.oribi.program.View;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Supplier;

/**
 * A gated MLP.
 *
 * <pre>
 * gu = x2·Wguᵀ   f = act(gate)·up   d = f·Wdownᵀ   delta = d, or norm(d) where the output has a norm
 * </pre>
 *
 * Where gu and f are not kept, the MLP may be made in tiles of tokens, of which one exists at a time.
 */
public final class GatedMlp implements FeedForward {
  private final String name;
  private final Activation act;
  private final Linear gateUpProj;
  private final Linear downProj;
  private final Norm outputNorm;

  /**
   * @param name of the layer, which begins the names of its buffers
   * @param outputNorm null: none
   */
  public GatedMlp(String name, Activation act, Linear gateUpProj, Linear downProj, Norm outputNorm) {
    this.name = name;
    this.act = act;
    this.gateUpProj = gateUpProj;
    this.downProj = downProj;
    this.outputNorm = outputNorm;
  }

  @Override
  public boolean trainable() {
    return gateUpProj.trainable() || downProj.trainable() || outputNorm != null && outputNorm.trainable();
  }

  @Override
  public List<Projection> linears() {
    return List.of(gateUpProj, downProj);
  }

  @Override
  public long cols(Tensor t) {
    return switch (t) {
      case GU -> gateUpProj.outFeatures();
      case F -> downProj.inFeatures();
      case D -> outputNorm == null ? 0 : downProj.outFeatures();
      default -> 0;
    };
  }

  /** All tokens at once or tile by tile. */
  @Override
  public Buffer emitForward(Emit e, Buffer x2, Saved s) {
    Buffer delta = e.activation(name + ".delta", x2.cols());
    s.hGateUp = gateUpProj.h(e);
    s.hDown = downProj.h(e);
    s.rstdD = outputNorm == null ? null : e.activation(name + ".rstd_d", DType.F32, Rows.TOKENS, 1);
    Buffer kept = outputNorm == null || s.rebuilds(Tensor.D) ? null : e.activation(name + ".d", x2.cols());
    for (View x : tiles(e, x2, s)) {
      View gu = e.activation(name + ".gu", x, gateUpProj.outFeatures());
      gateUpProj.emitForward(e, gu, x, rows(s.hGateUp, x));
      s.made(e, Tensor.GU, gu.buffer());
      View f = e.activation(name + ".f", x, downProj.inFeatures());
      e.glu(name + ".mlp.act", f, gu, act);
      s.made(e, Tensor.F, f.buffer());
      View d = outputNorm == null ? rows(delta, x) : kept != null ? rows(kept, x) : e.activation(name + ".d", x, x2.cols());
      downProj.emitForward(e, d, f, rows(s.hDown, x));
      if (outputNorm != null) {
        outputNorm.emit(e, rows(delta, x), rows(s.rstdD, x), d);
      }
    }
    if (kept != null) {
      s.made(e, Tensor.D, kept);
    }
    return delta;
  }

  /** The rows of x2 in the pieces in which the MLP is made: one, unless gu is rebuilt and tiles are asked for. */
  private List<View> tiles(Emit e, Buffer x2, Saved s) {
    long rows = s.saving().tileRows();
    boolean drops = gateUpProj.drops(e) || downProj.drops(e); // a dropout mask is drawn for all tokens at once
    if (rows <= 0 || !s.rebuilds(Tensor.GU) || !s.rebuilds(Tensor.F) || drops) {
      return List.of(View.of(x2));
    }
    List<View> all = new ArrayList<>();
    for (long begin = 0; begin < x2.rows(); begin += rows) {
      all.add(View.of(x2).rows(begin, Math.min(rows, x2.rows() - begin)));
    }
    return all;
  }

  /** The gradient of gu is written over gu, and f, where it was not kept, over its gradient: both have done their part. */
  @Override
  public Buffer emitBackward(Emit e, Buffer dr, Supplier<Buffer> x2, Saved s) {
    Buffer dx2 = e.activation(name + ".dx2", dr.cols());
    Buffer keptD = outputNorm == null || s.rebuilds(Tensor.D) ? null : s.find(e, Tensor.D);
    Buffer kept = s.rebuilds(Tensor.GU) ? null : s.find(e, Tensor.GU);
    Buffer keptF = s.rebuilds(Tensor.F) ? null : s.find(e, Tensor.F);
    for (View x : tiles(e, x2.get(), s)) {
      View gu = kept != null ? View.of(kept) : e.activation(name + ".gu", x, gateUpProj.outFeatures());
      if (kept == null) {
        gateUpProj.emitAgain(e, gu, x, rows(s.hGateUp, x));
      }
      View f = keptF != null ? View.of(keptF) : null;
      View dy = rows(dr, x);
      if (outputNorm != null) {
        View d = keptD != null ? rows(keptD, x) : null;
        if (d == null) {
          f = f != null ? f : emitF(e, gu, x);
          d = e.activation(name + ".again.d", x, dr.cols());
          downProj.emitAgain(e, d, f, rows(s.hDown, x));
        }
        View dd = e.activation(name + ".dd", x, dr.cols());
        outputNorm.emitBackward(e, dd, rows(s.rstdD, x), dy, d, false);
        dy = dd;
      }
      View df = e.activation(name + ".df", x, downProj.inFeatures());
      View gDown = downProj.emitDx(e, df, dy, rows(s.hDown, x));
      e.gluBackward(name + ".mlp.act", gu, f == null ? df : null, df, gu, act);
      downProj.emitDw(e, dy, gDown, f == null ? df : f);
      View gGateUp = gateUpProj.emitDx(e, rows(dx2, x), gu, rows(s.hGateUp, x));
      gateUpProj.emitDw(e, gu, gGateUp, x);
    }
    return dx2;
  }

  private View emitF(Emit e, View gu, View x) {
    View f = e.activation(name + ".again.f", x, downProj.inFeatures());
    e.glu(name + ".mlp.act", f, gu, act);
    return f;
  }

  /** The rows of b that belong to the tokens of a tile. */
  private static View rows(Buffer b, View tile) {
    return b == null ? null : View.of(b).rows(tile.firstRow(), tile.rows());
  }
}
