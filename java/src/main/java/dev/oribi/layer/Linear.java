package dev.oribi.layer;

import dev.oribi.layer.Parameters.Param;
import dev.oribi.program.Buffer;
import dev.oribi.program.Emit;
import dev.oribi.program.Op.Kind;
import dev.oribi.program.View;
import java.util.List;

/**
 * One or several projections of the same input, stacked by rows, each with or without a LoRA adapter.
 *
 * <pre>
 * forward   h = x·Aᵀ            y = x·Wᵀ + s·h·Bᵀ
 * backward  g = s·dy·B          dx = dy·W + g·A      dA += gᵀ·x      dB += s·dyᵀ·h      dW += dyᵀ·x (where W learns)
 * </pre>
 *
 * The A of all adapted projections are stacked too, so that x is read once for h and once for dA. Only h[N,R] is saved; a
 * frozen W gets no gradient. With dropout each projection has a mask of its own, as in PEFT, which is drawn again in the
 * backward pass. Where the device has kernels for it, {@link FusedLora} writes the layer with fewer passes over memory; the
 * products one by one, below, are what always works. A weight in 4 bits is dequantized before each product that reads it.
 * Derivation: docs/derivations/lora.md
 */
public final class Linear {
  /**
   * The adapter of one projection.
   *
   * @param firstRow row of the stacked weight, and so column of y, where the projection begins
   * @param outFeatures its rows
   * @param firstRank row of the stacked A where its A begins
   * @param scale {@code lora_alpha / r}, or {@code lora_alpha / sqrt(r)}
   * @param stream of its dropout mask
   */
  public record Adapter(long firstRow, long outFeatures, long firstRank, int rank, Param b, float scale, int stream) {}

  /**
   * All adapters of the stack.
   *
   * @param a [sum of ranks, in]
   * @param b [sum of their rows, rank]: the B of all adapters, one after the other; null if their ranks differ
   */
  public record Lora(Param a, Param b, List<Adapter> adapters, float dropout) {
    public Lora {
      adapters = List.copyOf(adapters);
    }
  }

  /** What the backward pass reads; {@code h} is null without adapters. */
  public record Saved(Buffer x, Buffer h) {}

  private final String name;
  private final Param weight;
  private final Lora lora;

  /**
   * @param weight [out, in], several projections one after the other
   * @param lora null where no projection is adapted
   */
  public Linear(String name, Param weight, Lora lora) {
    this.name = name;
    this.weight = weight;
    this.lora = lora;
  }

  public long outFeatures() {
    return weight.rows();
  }

  public long inFeatures() {
    return weight.cols();
  }

  /** True if anything here learns, so that the backward pass must come this far. */
  public boolean trainable() {
    return weight.trainable() || lora != null;
  }

  /** y[N,out] = ; {@code y} null: only what the backward pass reads is wanted. */
  public Saved emitForward(Emit e, Buffer y, Buffer x) {
    FusedLora fused = fused(e);
    if (fused != null) {
      return new Saved(x, fused.emitForward(y, x));
    }
    View in = View.of(x);
    if (y != null) {
      e.matmul(Kind.MATMUL, name, View.of(y), in, weight(e), 1, 0);
    }
    if (lora == null) {
      return new Saved(x, null);
    }
    Buffer h = e.activation(name + ".h", lora.a.value().rows());
    if (!drops(e)) {
      e.matmul(Kind.LORA, name + ".lora_A", View.of(h), in, lora.a.value(), 1, 0);
    }
    for (Adapter p : lora.adapters) {
      View hp = View.of(h).cols(p.firstRank, p.rank);
      if (drops(e)) {
        Buffer dropped = emitDropped(e, x, p);
        e.matmul(Kind.LORA, name + ".lora_A", hp, View.of(dropped), a(p), 1, 0);
      }
      if (y != null) {
        View yp = View.of(y).cols(p.firstRow, p.outFeatures);
        e.matmul(Kind.LORA, name + ".lora_B", yp, hp, p.b.value(), p.scale, 1);
      }
    }
    return new Saved(x, h);
  }

  /** dx[N,in] =, gradients of all that learns +=. {@code dx} null: nothing below learns, so it is not wanted. */
  public void emitBackward(Emit e, Buffer dx, Buffer dy, Saved saved) {
    FusedLora fused = fused(e);
    if (fused != null) {
      fused.emitBackward(dx, dy, saved);
      return;
    }
    View out = View.of(dy);
    View in = View.of(saved.x);
    if (dx != null) {
      e.matmulDx(Kind.MATMUL_DX, name, View.of(dx), out, weight(e), 1, 0);
    }
    if (weight.trainable()) {
      e.matmulDw(Kind.MATMUL_DW, name, weight.grad(), out, in, 1);
    }
    if (lora != null) {
      emitLoraBackward(e, dx, dy, saved);
    }
  }

  private void emitLoraBackward(Emit e, Buffer dx, Buffer dy, Saved saved) {
    Buffer g = e.activation(name + ".g", lora.a.value().rows());
    for (Adapter p : lora.adapters) {
      View dyp = View.of(dy).cols(p.firstRow, p.outFeatures);
      View gp = View.of(g).cols(p.firstRank, p.rank);
      e.matmulDx(Kind.LORA_DX, name + ".lora_B", gp, dyp, p.b.value(), p.scale, 0);
      View hp = View.of(saved.h).cols(p.firstRank, p.rank);
      e.matmulDw(Kind.LORA_DW, name + ".lora_B", p.b.grad(), dyp, hp, p.scale);
      if (drops(e)) {
        emitDroppedBackward(e, dx, gp, saved.x, p);
      }
    }
    if (!drops(e)) {
      e.matmulDw(Kind.LORA_DW, name + ".lora_A", lora.a.grad(), View.of(g), View.of(saved.x), 1);
      if (dx != null) {
        e.matmulDx(Kind.LORA_DX, name + ".lora_A", View.of(dx), View.of(g), lora.a.value(), 1, 1);
      }
    }
  }

  /** The weight as the products read it: as it lies, or from 4 bits into memory that activations share. */
  private View weight(Emit e) {
    return weight.frozen() == null ? weight.value() : View.of(e.lora().dequantize(name, weight.frozen()));
  }

  /** The fused kernels of this layer; null where it is written as products one by one. */
  private FusedLora fused(Emit e) {
    boolean fits = lora != null && lora.b != null && !drops(e) && !weight.trainable();
    return fits ? FusedLora.of(e, name, weight, lora) : null;
  }

  private boolean drops(Emit e) {
    return e.dropout() && lora.dropout > 0;
  }

  private Buffer emitDropped(Emit e, Buffer x, Adapter p) {
    Buffer dropped = e.activation(name + ".dropped" + p.stream, x.cols());
    e.dropout(name + ".dropout", dropped, x, lora.dropout, p.stream, false);
    return dropped;
  }

  /** dA += gᵀ·dropout(x); dx += dropout(g·A) with the same mask. */
  private void emitDroppedBackward(Emit e, Buffer dx, View gp, Buffer x, Adapter p) {
    Buffer dropped = emitDropped(e, x, p);
    View gradA = lora.a.grad().rows(p.firstRank, p.rank);
    e.matmulDw(Kind.LORA_DW, name + ".lora_A", gradA, gp, View.of(dropped), 1);
    if (dx != null) {
      Buffer through = e.activation(name + ".ddropped" + p.stream, x.cols());
      e.matmulDx(Kind.LORA_DX, name + ".lora_A", View.of(through), gp, a(p), 1, 0);
      e.dropout(name + ".dropout", dx, through, lora.dropout, p.stream, true);
    }
  }

  private View a(Adapter p) {
    return lora.a.value().rows(p.firstRank, p.rank);
  }
}
