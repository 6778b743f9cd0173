package dev.oribi.layer;

import dev.oribi.kernel.DType;
import dev.oribi.kernel.Kernels.Activation;
import dev.oribi.kernel.RouterShape;
import dev.oribi.layer.Parameters.Param;
import dev.oribi.layer.Saving.Tensor;
import dev.oribi.program.Buffer;
import dev.oribi.program.Buffer.Rows;
import dev.oribi.program.Emit;
import dev.oribi.program.EmitExperts;
import dev.oribi.program.EmitExperts.Routing;
import dev.oribi.program.FrozenStack;
import dev.oribi.program.Op.Kind;
import dev.oribi.program.View;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

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
public final class Experts {
  /**
   * The router.
   *
   * @param weight [E, C]
   * @param bias [E] fp32, added to scores for the choice alone; null: none
   * @param shape its type is that of the logits: fp32, or that of activations
   */
  public record Router(Param weight, Buffer bias, RouterShape shape) {}

  /** The small tensors that the backward pass reads, which are always kept. */
  record Kept(Buffer logits, Routing routing, Buffer hGateUp, Buffer hDown, GatedMlp.Kept shared) {}

  private final String name;
  private final Router router;
  private final ExpertLinear gateUpProj;
  private final ExpertLinear downProj;
  private final Activation act;
  private final GatedMlp shared;

  public Experts(String name, Router router, ExpertLinear gateUpProj, ExpertLinear downProj, Activation act) {
    this(name, router, gateUpProj, downProj, act, null);
  }

  /** With an MLP beside them that all tokens pass. */
  public Experts(
      String name, Router router, ExpertLinear gateUpProj, ExpertLinear downProj, Activation act, Linear sharedGateUp,
      Linear sharedDown) {
    this(name, router, gateUpProj, downProj, act, new GatedMlp(name + ".shared_experts", sharedGateUp, sharedDown, act));
  }

  private Experts(
      String name, Router router, ExpertLinear gateUpProj, ExpertLinear downProj, Activation act, GatedMlp shared) {
    this.name = name;
    this.router = router;
    this.gateUpProj = gateUpProj;
    this.downProj = downProj;
    this.act = act;
    this.shared = shared;
  }

  public boolean trainable() {
    return router.weight.trainable()
        || gateUpProj.trainable()
        || downProj.trainable()
        || shared != null && shared.trainable();
  }

  /** The frozen weights in 4 bits, by the names of their projections. */
  public Map<String, FrozenStack> in4Bits() {
    Map<String, FrozenStack> all = new LinkedHashMap<>();
    for (ExpertLinear l : List.of(gateUpProj, downProj)) {
      if (l.in4Bits() != null) {
        all.put(l.name(), l.in4Bits());
      }
    }
    if (shared != null) {
      all.putAll(shared.in4Bits());
    }
    return all;
  }

  private int chosen() {
    return router.shape.chosen();
  }

  /** Columns of gu and f in the buffers of {@link Tensor#GU} and {@link Tensor#F}: k rows of a token in one. */
  public long guCols() {
    return chosen() * gateUpProj.outFeatures();
  }

  public long fCols() {
    return chosen() * downProj.inFeatures();
  }

  /** Appends the forward pass; returns delta[N,C]. */
  public Buffer emitForward(Emit e, Buffer x, Saved s) {
    EmitExperts ops = e.experts();
    Buffer logits = e.activation(name + ".logits", router.shape.type(), Rows.TOKENS, router.shape.experts());
    e.matmul(Kind.MATMUL, name + ".gate", View.of(logits), View.of(x), router.weight.value(), 1, 0);
    Routing r = ops.route(name + ".gate", logits, router.bias, router.shape);
    Buffer hGateUp = gateUpProj.h(e, chosen());
    Buffer hDown = downProj.h(e, chosen());

    Buffer gu = e.activation(name + ".gu", guCols());
    gateUpProj.emitForward(e, ops.sorted(gu, chosen()), ops.ofTokens(x), hGateUp, r);
    s.made(e, Tensor.GU, gu);
    Buffer f = e.activation(name + ".f", fCols());
    ops.glu(name + ".act", f, gu, r, act);
    s.made(e, Tensor.F, f);
    Buffer y = ops.activation(name + ".y", chosen(), x.cols());
    downProj.emitForward(e, ops.sorted(y, chosen()), ops.sorted(f, chosen()), hDown, r);
    Buffer delta = e.activation(name + ".delta", x.cols());
    ops.unroute(name + ".sum", delta, y, r);

    GatedMlp.Kept keptShared = null;
    if (shared != null) {
      Buffer sharedDelta = e.activation(name + ".shared_experts.y", x.cols());
      keptShared = shared.emitForward(e, sharedDelta, x, s.rebuilds(Tensor.GU));
      e.add(name + ".shared_experts", delta, delta, sharedDelta);
    }
    s.experts = new Kept(logits, r, hGateUp, hDown, keptShared);
    return delta;
  }

  /** Appends the backward pass: dx[N,C] = from dy[N,C] and the x of the forward pass. The gradient of gu is written over gu. */
  public void emitBackward(Emit e, Buffer dx, Buffer dy, Buffer x, Saved s) {
    EmitExperts ops = e.experts();
    Kept kept = s.experts;
    Routing r = kept.routing;
    Buffer gu = s.rebuilds(Tensor.GU) ? null : s.find(e, Tensor.GU);
    if (gu == null) {
      gu = e.activation(name + ".again.gu", guCols());
      gateUpProj.emitAgain(e, ops.sorted(gu, chosen()), ops.ofTokens(x), kept.hGateUp, r);
    }
    Buffer df = e.activation(name + ".df", fCols());
    Buffer gDown = downProj.emitDx(e, ops.sorted(df, chosen()), ops.ofTokens(dy), kept.hDown, r);
    Buffer f = s.rebuilds(Tensor.F) ? null : s.find(e, Tensor.F);
    Buffer dWeight = e.activation(name + ".dweight", DType.F32, Rows.TOKENS, chosen());
    ops.gluBackward(name + ".act", gu, f == null ? df : null, dWeight, df, gu, r, act);
    downProj.emitDw(e, ops.ofTokens(dy), gDown, ops.sorted(f == null ? df : f, chosen()), r);

    Buffer dRows = ops.activation(name + ".dx", chosen(), x.cols());
    Buffer gGateUp = gateUpProj.emitDx(e, ops.sorted(dRows, chosen()), ops.sorted(gu, chosen()), kept.hGateUp, r);
    gateUpProj.emitDw(e, ops.sorted(gu, chosen()), gGateUp, ops.ofTokens(x), r);
    ops.unroute(name + ".dsum", dx, dRows, r);
    emitRouterBackward(e, dx, dWeight, x, kept);
    if (shared != null) {
      Buffer more = e.activation(name + ".shared_experts.dx", x.cols());
      shared.emitBackward(e, more, dy, x, kept.shared);
      e.add(name + ".shared_experts", dx, dx, more);
    }
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
