package dev.oribi.layer;

import dev.oribi.layer.Parameters.Param;
import dev.oribi.program.Buffer;
import dev.oribi.program.Emit;
import dev.oribi.program.EmitExperts;
import dev.oribi.program.EmitExperts.Matrices;
import dev.oribi.program.EmitExperts.Operand;
import dev.oribi.program.EmitExperts.Routing;
import dev.oribi.program.FrozenStack;
import dev.oribi.program.Op.Kind;
import dev.oribi.program.View;
import java.util.List;

/**
 * The same projection of every routed expert, each with a weight, and maybe an adapter, of its own.
 *
 * <pre>
 * forward   h = x·A_eᵀ          y = x·W_eᵀ + s·h·B_eᵀ         for the rows of each expert e
 * backward  g = s·dy·B_e        dx = dy·W_e + g·A_e      dA_e += gᵀ·x      dB_e += s·dyᵀ·h      dW_e += dyᵀ·x (where W learns)
 * </pre>
 *
 * What {@link Linear} is for all tokens, with grouped products. Several projections of the same input are stacked within each
 * expert, gate over up. Weights in 4 bits or in a GGUF file's blocks are dequantized, all experts of the layer at once, before
 * each product that reads them. Derivation: docs/derivations/experts.md
 */
public final class ExpertLinear implements Projection {
  /**
   * The adapters of one of the stacked projections.
   *
   * @param firstRow row of an expert's stacked weight, and so column of y, where the projection begins
   * @param firstRank row of an expert's stacked A where its A begins
   * @param b [experts·outFeatures, rank], expert after expert
   * @param scale {@code lora_alpha / r}, or {@code lora_alpha / sqrt(r)}
   */
  public record Adapter(long firstRow, long outFeatures, long firstRank, int rank, Param b, float scale) {}

  /** All adapters. {@code a}: [experts·sum of ranks, in], expert after expert. */
  public record Lora(Param a, List<Adapter> adapters) {
    public Lora {
      adapters = List.copyOf(adapters);
    }
  }

  private final String name;
  private final int experts;
  private final Param weight;
  private final Lora lora;

  /**
   * @param weight [experts·out, in], expert after expert
   * @param lora null where nothing is adapted
   */
  public ExpertLinear(String name, int experts, Param weight, Lora lora) {
    this.name = name;
    this.experts = experts;
    this.weight = weight;
    this.lora = lora;
  }

  @Override
  public String name() {
    return name;
  }

  public long outFeatures() {
    return weight.rows() / experts;
  }

  public long inFeatures() {
    return weight.cols();
  }

  /** True if anything here learns. */
  public boolean trainable() {
    return weight.trainable() || lora != null;
  }

  /** The weights of all experts, if any of them is in 4 bits or in the blocks of a GGUF file; else null. */
  @Override
  public FrozenStack in4Bits() {
    return weight.frozen();
  }

  /** The adapters' inner products of the rows, which the backward pass reads; null without adapters. */
  public Buffer h(Emit e, int chosen) {
    return lora == null ? null : e.experts().activation(name + ".h", chosen, ranks());
  }

  private long ranks() {
    return lora.a.rows() / experts;
  }

  /** h =, y = */
  public void emitForward(Emit e, Operand y, Operand x, Buffer h, Routing r) {
    if (lora != null) {
      Operand to = e.experts().sorted(h, r.chosen());
      e.experts().matmul(Kind.LORA, name + ".lora_A", to, x, of(lora.a.value()), r, 1, false);
    }
    emitAgain(e, y, x, h, r);
  }

  /** y = from x and the h that the forward pass made. */
  public void emitAgain(Emit e, Operand y, Operand x, Buffer h, Routing r) {
    EmitExperts x1 = e.experts();
    x1.matmul(Kind.EXPERTS, name, y, x, weight(e), r, 1, false);
    if (lora != null) {
      for (Adapter p : lora.adapters) {
        Operand yp = y.cols(p.firstRow, p.outFeatures);
        Operand hp = x1.sorted(h, r.chosen()).cols(p.firstRank, p.rank);
        x1.matmul(Kind.LORA, name + ".lora_B", yp, hp, of(p.b.value()), r, p.scale, true);
      }
    }
  }

  /**
   * dx =, dB += .
   *
   * @return g, which {@link #emitDw} reads; null without adapters
   */
  public Buffer emitDx(Emit e, Operand dx, Operand dy, Buffer h, Routing r) {
    EmitExperts x = e.experts();
    x.matmulDx(Kind.EXPERTS_DX, name, dx, dy, weight(e), r, 1, false);
    if (lora == null) {
      return null;
    }
    Buffer g = x.activation(name + ".g", r.chosen(), ranks());
    for (Adapter p : lora.adapters) {
      Operand dyp = dy.cols(p.firstRow, p.outFeatures);
      Operand gp = x.sorted(g, r.chosen()).cols(p.firstRank, p.rank);
      x.matmulDx(Kind.LORA_DX, name + ".lora_B", gp, dyp, of(p.b.value()), r, p.scale, false);
      Operand hp = x.sorted(h, r.chosen()).cols(p.firstRank, p.rank);
      x.matmulDw(Kind.LORA_DW, name + ".lora_B", of(p.b.grad()), dyp, hp, r, p.scale);
    }
    x.matmulDx(Kind.LORA_DX, name + ".lora_A", dx, x.sorted(g, r.chosen()), of(lora.a.value()), r, 1, true);
    return g;
  }

  /** dA +=, dW += : what needs x besides g. */
  public void emitDw(Emit e, Operand dy, Buffer g, Operand x, Routing r) {
    if (weight.trainable()) {
      e.experts().matmulDw(Kind.EXPERTS_DW, name, of(weight.grad()), dy, x, r, 1);
    }
    if (lora != null) {
      Operand from = e.experts().sorted(g, r.chosen());
      e.experts().matmulDw(Kind.LORA_DW, name + ".lora_A", of(lora.a.grad()), from, x, r, 1);
    }
  }

  private Matrices weight(Emit e) {
    return of(weight.frozen() == null ? weight.value() : View.of(e.lora().dequantize(name, weight.frozen())));
  }

  private Matrices of(View stack) {
    return Matrices.of(stack, experts);
  }
}
