package dev.oribi.layer;

import dev.oribi.kernel.DType;
import dev.oribi.kernel.Kernels.Activation;
import dev.oribi.kernel.RouterShape;
import dev.oribi.layer.Parameters.Param;
import dev.oribi.layer.Saving.How;
import dev.oribi.layer.Saving.Tensor;
import dev.oribi.program.Buffer;
import dev.oribi.program.Buffer.Rows;
import dev.oribi.program.Emit;
import dev.oribi.program.EmitExperts;
import dev.oribi.program.EmitExperts.Routing;
import dev.oribi.program.Op.Kind;
import dev.oribi.program.View;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Supplier;

/**
 * An MLP of which each token passes k of E experts, chosen by a router, and maybe one more that all tokens pass.
 *
 * <pre>
 * logits = x·Wrᵀ      expert, weight = router(logits)      rows sorted by expert, one for each token and choice
 * gu = x[token]·Wgu_eᵀ      f = weight · act(gate) · up      y = f·Wdown_eᵀ      delta = sum of a token's y (+ shared(x))
 * </pre>
 *
 * The weight is in f and not on y: the product between them is linear, so the sum is the same, and the gradient of the weight is
 * a dot product with f, for which y need not be kept. No row is dropped, whatever the router chooses, and the balance of its
 * choices is not part of the loss. The router's gradient flows on to x; its own weight learns in full training only.
 * Derivation: docs/derivations/experts.md
 */
public final class Experts implements FeedForward {
  /**
   * The router.
   *
   * @param weight [E, C]
   * @param bias [E] fp32, added to scores for the choice alone; null: none
   * @param shape its type is that of the logits
   */
  public record Router(Param weight, Buffer bias, RouterShape shape) {}

  /** The small tensors that the backward pass reads, which are always kept. */
  record Kept(Buffer logits, Routing routing, Buffer hGateUp, Buffer hDown, Saved shared) {}

  private final String name;
  private final Router router;
  private final ExpertLinear gateUpProj;
  private final ExpertLinear downProj;
  private final Activation act;
  private final FeedForward shared;

  /**
   * @param name of the layer, which begins the names of its buffers
   * @param shared an MLP that all tokens pass; null: none
   */
  public Experts(
      String name, Router router, ExpertLinear gateUpProj, ExpertLinear downProj, Activation act, FeedForward shared) {
    this.name = name + ".experts";
    this.router = router;
    this.gateUpProj = gateUpProj;
    this.downProj = downProj;
    this.act = act;
    this.shared = shared;
  }

  @Override
  public boolean trainable() {
    return router.weight.trainable()
        || gateUpProj.trainable()
        || downProj.trainable()
        || shared != null && shared.trainable();
  }

  @Override
  public List<Projection> linears() {
    List<Projection> all = new ArrayList<>(List.of(gateUpProj, downProj));
    if (shared != null) {
      all.addAll(shared.linears());
    }
    return all;
  }

  private int chosen() {
    return router.shape.chosen();
  }

  /** A token's k rows of gu, or of f, count as one. */
  @Override
  public long cols(Tensor t) {
    return switch (t) {
      case GU -> chosen() * gateUpProj.outFeatures();
      case F -> chosen() * downProj.inFeatures();
      default -> 0;
    };
  }

  /** How the MLP that all tokens pass saves: its gu is made again where that of the experts is, and its f always. */
  private static Saved ofShared(Saved s) {
    Saving saving = Saving.KEEP.with(Tensor.F, How.REBUILD).withTileRows(s.saving().tileRows());
    return new Saved(s.rebuilds(Tensor.GU) ? saving.with(Tensor.GU, How.REBUILD) : saving);
  }

  @Override
  public Buffer emitForward(Emit e, Buffer x, Saved s) {
    EmitExperts ops = e.experts();
    Buffer logits = e.activation(name + ".logits", router.shape.type(), Rows.TOKENS, router.shape.experts());
    e.matmul(Kind.MATMUL, name + ".gate", View.of(logits), View.of(x), router.weight.value(), 1, 0);
    Routing r = ops.route(name + ".gate", logits, router.bias, router.shape);
    Buffer hGateUp = gateUpProj.h(e, chosen());
    Buffer hDown = downProj.h(e, chosen());

    Buffer gu = e.activation(name + ".gu", cols(Tensor.GU));
    gateUpProj.emitForward(e, ops.sorted(gu, chosen()), ops.ofTokens(x), hGateUp, r);
    s.made(e, Tensor.GU, gu);
    Buffer f = e.activation(name + ".f", cols(Tensor.F));
    ops.glu(name + ".act", f, gu, r, act);
    s.made(e, Tensor.F, f);
    Buffer y = ops.activation(name + ".y", chosen(), x.cols());
    downProj.emitForward(e, ops.sorted(y, chosen()), ops.sorted(f, chosen()), hDown, r);
    Buffer delta = e.activation(name + ".delta", x.cols());
    ops.unroute(name + ".sum", delta, y, r);

    Saved ofShared = shared == null ? null : ofShared(s);
    if (shared != null) {
      e.add(name + ".shared_experts", delta, delta, shared.emitForward(e, x, ofShared));
    }
    s.experts = new Kept(logits, r, hGateUp, hDown, ofShared);
    return delta;
  }

  /** The gradient of gu is written over gu. */
  @Override
  public Buffer emitBackward(Emit e, Buffer dy, Supplier<Buffer> x2, Saved s) {
    EmitExperts ops = e.experts();
    Kept kept = s.experts;
    Routing r = kept.routing;
    Buffer gu = s.rebuilds(Tensor.GU) ? null : s.find(e, Tensor.GU);
    Buffer x = x2.get();
    if (gu == null) {
      gu = e.activation(name + ".again.gu", cols(Tensor.GU));
      gateUpProj.emitAgain(e, ops.sorted(gu, chosen()), ops.ofTokens(x), kept.hGateUp, r);
    }
    Buffer df = e.activation(name + ".df", cols(Tensor.F));
    Buffer gDown = downProj.emitDx(e, ops.sorted(df, chosen()), ops.ofTokens(dy), kept.hDown, r);
    Buffer f = s.rebuilds(Tensor.F) ? null : s.find(e, Tensor.F);
    Buffer dWeight = e.activation(name + ".dweight", DType.F32, Rows.TOKENS, chosen());
    ops.gluBackward(name + ".act", gu, f == null ? df : null, dWeight, df, gu, r, act);
    downProj.emitDw(e, ops.ofTokens(dy), gDown, ops.sorted(f == null ? df : f, chosen()), r);

    Buffer dRows = ops.activation(name + ".dx", chosen(), x.cols());
    Buffer gGateUp = gateUpProj.emitDx(e, ops.sorted(dRows, chosen()), ops.sorted(gu, chosen()), kept.hGateUp, r);
    gateUpProj.emitDw(e, ops.sorted(gu, chosen()), gGateUp, ops.ofTokens(x), r);
    Buffer dx = e.activation(name + ".dx2", x.cols());
    ops.unroute(name + ".dsum", dx, dRows, r);
    emitRouterBackward(e, dx, dWeight, x, kept);
    if (shared != null) {
      e.add(name + ".shared_experts", dx, dx, shared.emitBackward(e, dy, () -> x, kept.shared));
    }
    return dx;
  }

  /** dx += dlogits·Wr, dWr += where it learns. Logits in fp32 have a gradient rounded to the type of x, as products take it. */
  private void emitRouterBackward(Emit e, Buffer dx, Buffer dWeight, Buffer x, Kept kept) {
    EmitExperts ops = e.experts();
    long experts = router.shape.experts();
    Buffer dLogits = e.activation(name + ".dlogits", kept.logits.type(), Rows.TOKENS, experts);
    ops.routerBackward(name + ".gate", dLogits, kept.routing, dWeight, kept.logits, router.shape);
    if (dLogits.type() != x.type()) {
      Buffer rounded = e.activation(name + ".dlogits16", experts);
      ops.cast(name + ".gate", rounded, dLogits);
      dLogits = rounded;
    }
    e.matmulDx(Kind.MATMUL_DX, name + ".gate", View.of(dx), View.of(dLogits), router.weight.value(), 1, 1);
    if (router.weight.trainable()) {
      e.matmulDw(Kind.MATMUL_DW, name + ".gate", router.weight.grad(), View.of(dLogits), View.of(x), 1);
    }
  }
}
