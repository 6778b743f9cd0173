package dev.oribi.layer;

import dev.oribi.kernel.Kernels.Activation;
import dev.oribi.program.Buffer;
import dev.oribi.program.Emit;
import dev.oribi.program.FrozenStack;
import dev.oribi.program.View;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * A gated MLP that all tokens pass beside routed experts: DeepSeek's shared experts, which are one MLP of their joint width.
 *
 * <pre>
 * gu = x·Wguᵀ   f = act(gate)·up   y = f·Wdownᵀ
 * </pre>
 *
 * f is always made again in the pass that reads gu; gu is kept, or made again where the layer rebuilds that of its experts.
 */
final class GatedMlp {
  /** What the backward pass finds. {@code gu} null: it is made again. */
  record Kept(Buffer hGateUp, Buffer hDown, Buffer gu) {}

  private final String name;
  private final Linear gateUpProj;
  private final Linear downProj;
  private final Activation act;

  GatedMlp(String name, Linear gateUpProj, Linear downProj, Activation act) {
    this.name = name;
    this.gateUpProj = gateUpProj;
    this.downProj = downProj;
    this.act = act;
  }

  boolean trainable() {
    return gateUpProj.trainable() || downProj.trainable();
  }

  Map<String, FrozenStack> in4Bits() {
    Map<String, FrozenStack> all = new LinkedHashMap<>();
    for (Linear l : List.of(gateUpProj, downProj)) {
      if (l.in4Bits() != null) {
        all.put(l.name(), l.in4Bits());
      }
    }
    return all;
  }

  /** y = */
  Kept emitForward(Emit e, Buffer y, Buffer x, boolean rebuilds) {
    Buffer gu = e.activation(name + ".gu", gateUpProj.outFeatures());
    Kept kept = new Kept(gateUpProj.h(e), downProj.h(e), rebuilds ? null : gu);
    gateUpProj.emitForward(e, View.of(gu), View.of(x), view(kept.hGateUp));
    Buffer f = e.activation(name + ".f", downProj.inFeatures());
    e.glu(name + ".act", View.of(f), View.of(gu), act);
    downProj.emitForward(e, View.of(y), View.of(f), view(kept.hDown));
    return kept;
  }

  /** dx = ; gu becomes its gradient, and df f. */
  void emitBackward(Emit e, Buffer dx, Buffer dy, Buffer x, Kept kept) {
    Buffer gu = kept.gu;
    if (gu == null) {
      gu = e.activation(name + ".again.gu", gateUpProj.outFeatures());
      gateUpProj.emitAgain(e, View.of(gu), View.of(x), view(kept.hGateUp));
    }
    Buffer df = e.activation(name + ".df", downProj.inFeatures());
    View gDown = downProj.emitDx(e, View.of(df), View.of(dy), view(kept.hDown));
    e.gluBackward(name + ".act", View.of(gu), View.of(df), View.of(df), View.of(gu), act);
    downProj.emitDw(e, View.of(dy), gDown, View.of(df));
    View gGateUp = gateUpProj.emitDx(e, View.of(dx), View.of(gu), view(kept.hGateUp));
    gateUpProj.emitDw(e, View.of(gu), gGateUp, View.of(x));
  }

  private static View view(Buffer b) {
    return b == null ? null : View.of(b);
  }
}
