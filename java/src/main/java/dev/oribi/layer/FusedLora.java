package dev.oribi.layer;

import dev.oribi.kernel.LoraShape;
import dev.oribi.layer.Linear.Adapter;
import dev.oribi.layer.Linear.Lora;
import dev.oribi.layer.Parameters.Param;
import dev.oribi.program.Emit;
import dev.oribi.program.EmitLora;
import dev.oribi.program.Fp8Matrix;
import dev.oribi.program.Nf4Matrix;
import dev.oribi.program.Op.Kind;
import dev.oribi.program.View;

/**
 * A stack of adapted projections written with the kernels that pass over memory once for what the products of {@link Linear}
 * pass over it several times.
 *
 * <pre>
 * forward   h = s·x·Aᵀ          y = x·Wᵀ + h·Bᵀ          at once where the same kernel makes y
 * backward  g = s·dy·B, dB += dyᵀ·h in one pass      dx = dy·W + g·A      dA += gᵀ·x
 * </pre>
 *
 * The scale is in h and g, each of which is rounded to 16 bits with it; y and dx are rounded once, after the adapter's part.
 * The large products go to the fused kernel or to the library, whichever was faster where it was measured ({@link
 * dev.oribi.kernel.LoraPaths}). A weight in 4 bits is read by the fused kernel only if it is one matrix: a stack of several
 * has several offsets, and is dequantized first. One in FP8 is multiplied by the library, and the adapters' products stand
 * before it: it adds to what they wrote.
 */
final class FusedLora {
  private final Emit e;
  private final EmitLora kernels;
  private final String name;
  private final Param weight;
  private final Lora lora;
  private final LoraShape shape;

  private FusedLora(Emit e, String name, Param weight, Lora lora, LoraShape shape) {
    this.e = e;
    this.kernels = e.lora();
    this.name = name;
    this.weight = weight;
    this.lora = lora;
    this.shape = shape;
  }

  /** For adapters of one rank, without dropout, on a frozen weight; null where the device has no kernels for the shape. */
  static FusedLora of(Emit e, long rows, String name, Param weight, Lora lora) {
    if (lora.adapters().size() > LoraShape.MAX_ADAPTERS) {
      return null;
    }
    LoraShape shape =
        new LoraShape(
            rows, weight.cols(), weight.rows(), weight.cols(), weight.rows(), lora.adapters().get(0).rank(), e.type(),
            lora.adapters().stream().map(p -> new LoraShape.Adapter(p.firstRow(), p.outFeatures(), p.scale())).toList());
    return e.lora().fuses(shape) ? new FusedLora(e, name, weight, lora, shape) : null;
  }

  /** h =, with the scale in it, and y = */
  void emitForward(View y, View h, View x) {
    if (weight.fp8(e) == null) {
      Nf4Matrix nf4 = in4Bits(false);
      if (nf4 != null || kernels.fusesProduct(shape, false, false)) {
        View w = nf4 == null ? plainWeight() : null;
        kernels.forward(name, y, h, x, w, nf4, lora.a().value(), lora.b().value(), shape.ldY(y.ld()));
        return;
      }
    }
    kernels.h(name, h, x, lora.a().value(), shape);
    emitProduct(y, x, h);
  }

  /** y = from x and h */
  void emitProduct(View y, View x, View h) {
    Fp8Matrix fp8 = weight.fp8(e);
    if (fp8 != null) {
      // The smaller part first, where it fills all of y: the product with the weight hides some of reading it, a thin one none.
      boolean everywhere = lora.adapters().stream().mapToLong(Adapter::outFeatures).sum() == weight.rows();
      if (!everywhere) {
        e.fp8().matmul(name, y, x, fp8, 0);
      }
      emitB(y, h, everywhere ? 0 : 1);
      if (everywhere) {
        e.fp8().matmul(name, y, x, fp8, 1);
      }
      return;
    }
    Nf4Matrix nf4 = in4Bits(false);
    if (nf4 != null) {
      kernels.matmul(name, y, x, null, nf4, h, lora.b().value(), shape.ldY(y.ld()));
      return;
    }
    View w = plainWeight();
    if (kernels.fusesProduct(shape, false, false)) {
      kernels.matmul(name, y, x, w, null, h, lora.b().value(), shape.ldY(y.ld()));
      return;
    }
    e.matmul(Kind.MATMUL, name, y, x, w, 1, 0);
    emitB(y, h, 1);
  }

  /** y = or += h·Bᵀ, in the columns that have an adapter. */
  private void emitB(View y, View h, float beta) {
    for (Adapter p : lora.adapters()) {
      View yp = y.cols(p.firstRow(), p.outFeatures());
      e.matmul(Kind.LORA, name + ".lora_B", yp, h.cols(p.firstRank(), p.rank()), p.b().value(), 1, beta);
    }
  }

  /** g =, dB +=, dx = unless it is null */
  void emitDx(View dx, View dy, View g, View h) {
    kernels.gDb(name, g, lora.b().grad(), dy, lora.b().value(), h, shape.ldY(dy.ld()));
    if (dx == null) {
      return;
    }
    Fp8Matrix fp8 = weight.fp8(e);
    if (fp8 != null) {
      e.matmulDx(Kind.LORA_DX, name + ".lora_A", dx, g, lora.a().value(), 1, 0);
      e.fp8().matmulDx(name, dx, dy, fp8, 1);
      return;
    }
    Nf4Matrix nf4 = in4Bits(true);
    if (nf4 != null) {
      kernels.matmulDx(name, dx, dy, null, nf4, g, lora.a().value(), shape.ldY(dy.ld()));
      return;
    }
    View w = plainWeight();
    if (kernels.fusesProduct(shape, true, false)) {
      kernels.matmulDx(name, dx, dy, w, null, g, lora.a().value(), shape.ldY(dy.ld()));
      return;
    }
    e.matmulDx(Kind.MATMUL_DX, name, dx, dy, w, 1, 0);
    e.matmulDx(Kind.LORA_DX, name + ".lora_A", dx, g, lora.a().value(), 1, 1);
  }

  /** dA += */
  void emitDw(View g, View x) {
    kernels.da(name, lora.a().grad(), g, x, shape);
  }

  /** The weight in 4 bits, if it is one matrix and the fused kernel is to read it; else null. */
  private Nf4Matrix in4Bits(boolean dx) {
    Nf4Matrix whole = weight.frozen() == null || e.copies().plain(weight.frozen()) != null ? null : weight.frozen().whole();
    return whole != null && kernels.fusesProduct(shape, dx, true) ? whole : null;
  }

  private View plainWeight() {
    return weight.frozen() == null ? weight.value() : View.of(kernels.dequantize(name, weight.frozen()));
  }
}
