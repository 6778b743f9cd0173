package dev.oribi.layer;

import dev.oribi.layer.Parameters.Param;
import dev.oribi.program.Buffer;
import dev.oribi.program.Emit;
import dev.oribi.program.Fp8Matrix;
import dev.oribi.program.FrozenStack;
import dev.oribi.program.Op.Kind;
import dev.oribi.program.View;
import java.util.List;

/**
 * One or several projections of the same input, stacked by rows, each with or without a LoRA adapter.
 *
 * <pre>
 * forward   h = x·Aᵀ            y = x·Wᵀ + s·h·Bᵀ + b
 * backward  g = s·dy·B          dx = dy·W + g·A      dA += gᵀ·x      dB += s·dyᵀ·h
 * and where W and b learn       dW += dyᵀ·x          db += sum over rows of dy
 * </pre>
 *
 * The A of all adapted projections are stacked too, so that x is read once for h and once for dA. Only h[N,R] is saved; a
 * frozen W gets no gradient. With dropout each projection has a mask of its own, as in PEFT, which is drawn again in the
 * backward pass. Where the device has kernels for it, {@link FusedLora} writes the layer with fewer passes over memory; the
 * products one by one, below, are what always works. A weight in 4 bits is dequantized before each product that reads it; one in
 * FP8 is multiplied as it lies, by x or dy in FP8, and the adapters read x and dy as they are.
 * Derivation: docs/derivations/lora.md
 */
public final class Linear implements Projection {
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

  private final String name;
  private final Param weight;
  private final Lora lora;
  private final Param bias;

  /**
   * @param weight [out, in], several projections one after the other
   * @param lora null where no projection is adapted
   * @param bias out numbers, those of all projections one after the other; null where there are none
   */
  public Linear(String name, Param weight, Lora lora, Param bias) {
    this.name = name;
    this.weight = weight;
    this.lora = lora;
    this.bias = bias;
  }

  /** Without biases. */
  public Linear(String name, Param weight, Lora lora) {
    this(name, weight, lora, null);
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

  @Override
  public String name() {
    return name;
  }

  @Override
  public FrozenStack in4Bits() {
    return weight.frozen();
  }

  /** Its weight in FP8, if it is held so alone; else null. */
  public Fp8Matrix inFp8() {
    return weight.inFp8();
  }

  /** The adapters' inner products [N,R], which the backward pass reads; null without adapters. */
  public Buffer h(Emit e) {
    return lora == null ? null : e.activation(name + ".h", lora.a.value().rows());
  }

  /** h[N,R] =, y[N,out] = */
  public void emitForward(Emit e, View y, View x, View h) {
    FusedLora fused = fused(e, x);
    if (fused != null) {
      fused.emitForward(y, h, x);
      emitBias(e, y);
      return;
    }
    if (lora != null) {
      emitH(e, h, x);
    }
    emitAgain(e, y, x, h);
  }

  /** y[N,out] = from x and the h that the forward pass made. */
  public void emitAgain(Emit e, View y, View x, View h) {
    emitProducts(e, y, x, h);
    emitBias(e, y);
  }

  private void emitBias(Emit e, View y) {
    if (bias != null) {
      e.bias(name + ".bias", y, bias.value());
    }
  }

  private void emitProducts(Emit e, View y, View x, View h) {
    FusedLora fused = fused(e, x);
    if (fused != null) {
      fused.emitProduct(y, x, h);
      return;
    }
    Fp8Matrix fp8 = weight.fp8(e);
    if (fp8 != null) {
      e.fp8().matmul(name, y, x, fp8, 0);
    } else if (weight.frozen() != null && weight.frozen().allGgml()) {
      e.lora().matmul(name, y, x, weight.frozen());
    } else {
      e.matmul(Kind.MATMUL, name, y, x, weight(e), 1, 0);
    }
    if (lora != null) {
      for (Adapter p : lora.adapters) {
        View yp = y.cols(p.firstRow, p.outFeatures);
        e.matmul(Kind.LORA, name + ".lora_B", yp, h.cols(p.firstRank, p.rank), p.b.value(), p.scale, 1);
      }
    }
  }

  private void emitH(Emit e, View h, View x) {
    if (!drops(e)) {
      e.matmul(Kind.LORA, name + ".lora_A", h, x, lora.a.value(), 1, 0);
      return;
    }
    for (Adapter p : lora.adapters) {
      e.matmul(Kind.LORA, name + ".lora_A", h.cols(p.firstRank, p.rank), emitDropped(e, x, p), a(p), 1, 0);
    }
  }

  /**
   * dx[N,in] =, dB += . {@code dx} null: nothing below learns, so it is not wanted.
   *
   * @return g[N,R], which {@link #emitDw} reads; null without adapters
   */
  public View emitDx(Emit e, View dx, View dy, View h) {
    View g = lora == null ? null : e.activation(name + ".g", dy, lora.a.value().rows());
    FusedLora fused = fused(e, dy);
    if (fused != null) {
      fused.emitDx(dx, dy, g, h);
      return g;
    }
    Fp8Matrix fp8 = weight.fp8(e);
    if (dx != null && fp8 != null) {
      e.fp8().matmulDx(name, dx, dy, fp8, 0);
    } else if (dx != null) {
      e.matmulDx(Kind.MATMUL_DX, name, dx, dy, weight(e), 1, 0);
    }
    if (lora != null) {
      emitLoraDx(e, dx, dy, g, h);
    }
    return g;
  }

  /** dA +=, dW +=, db += : what needs x besides g. */
  public void emitDw(Emit e, View dy, View g, View x) {
    if (bias != null && bias.trainable()) {
      e.biasBackward(name + ".bias", bias.grad(), dy);
    }
    FusedLora fused = fused(e, x);
    if (fused != null) {
      fused.emitDw(g, x);
      return;
    }
    if (weight.trainable()) {
      e.matmulDw(Kind.MATMUL_DW, name, weight.grad(), dy, x, 1);
    }
    if (lora == null) {
      return;
    }
    if (!drops(e)) {
      e.matmulDw(Kind.LORA_DW, name + ".lora_A", lora.a.grad(), g, x, 1);
      return;
    }
    for (Adapter p : lora.adapters) {
      View gradA = lora.a.grad().rows(p.firstRank, p.rank);
      e.matmulDw(Kind.LORA_DW, name + ".lora_A", gradA, g.cols(p.firstRank, p.rank), emitDropped(e, x, p), 1);
    }
  }

  private void emitLoraDx(Emit e, View dx, View dy, View g, View h) {
    for (Adapter p : lora.adapters) {
      View dyp = dy.cols(p.firstRow, p.outFeatures);
      View gp = g.cols(p.firstRank, p.rank);
      e.matmulDx(Kind.LORA_DX, name + ".lora_B", gp, dyp, p.b.value(), p.scale, 0);
      e.matmulDw(Kind.LORA_DW, name + ".lora_B", p.b.grad(), dyp, h.cols(p.firstRank, p.rank), p.scale);
      if (drops(e) && dx != null) {
        View through = e.activation(name + ".ddropped" + p.stream, dx, dx.cols());
        e.matmulDx(Kind.LORA_DX, name + ".lora_A", through, gp, a(p), 1, 0);
        e.dropout(name + ".dropout", dx.buffer(), through.buffer(), lora.dropout, p.stream, true);
      }
    }
    if (!drops(e) && dx != null) {
      e.matmulDx(Kind.LORA_DX, name + ".lora_A", dx, g, lora.a.value(), 1, 1);
    }
  }

  /** The weight as the products read it: as it lies, or from 4 bits into memory that activations share. */
  private View weight(Emit e) {
    return weight.frozen() == null ? weight.value() : View.of(e.lora().dequantize(name, weight.frozen()));
  }

  /** The fused kernels of this layer for the rows of {@code x}; null where it is written as products one by one. */
  private FusedLora fused(Emit e, View x) {
    boolean fits = lora != null && lora.b != null && !drops(e) && !weight.trainable();
    return fits ? FusedLora.of(e, x.rows(), name, weight, lora) : null;
  }

  /** True if adapters drop inputs in the program of {@code e}. */
  boolean drops(Emit e) {
    return e.dropout() && lora != null && lora.dropout > 0;
  }

  private View emitDropped(Emit e, View x, Adapter p) {
    View dropped = e.activation(name + ".dropped" + p.stream, x, x.cols());
    e.dropout(name + ".dropout", dropped.buffer(), x.buffer(), lora.dropout, p.stream, false);
    return dropped;
  }

  private View a(Adapter p) {
    return lora.a.value().rows(p.firstRank, p.rank);
  }
}
