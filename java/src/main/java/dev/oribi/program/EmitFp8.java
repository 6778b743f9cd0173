package dev.oribi.program;

import dev.oribi.OribiException;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.Fp8;
import dev.oribi.kernel.Gemm;
import dev.oribi.program.Buffer.Lifetime;
import dev.oribi.program.Buffer.Rows;
import dev.oribi.program.Op.Kind;
import java.util.ArrayList;
import java.util.List;

/**
 * The part of {@link Emit} that products in FP8 need. Activations and gradients of outputs are rounded to e4m3 right before the
 * product that reads them, each row with a scale of its own; what they become lives for those two ops, beside the plain values,
 * which the adapters read. Derivation: docs/derivations/fp8.md
 */
public final class EmitFp8 {
  private final Emit emit;
  private final Gemm gemm;

  EmitFp8(Emit emit, Gemm gemm) {
    this.emit = emit;
    this.gemm = gemm;
  }

  /** y = x·Wᵀ; {@code beta} 1: y += x·Wᵀ */
  public void matmul(String name, View y, View x, Fp8Matrix w, float beta) {
    Rounded q = round(Kind.FP8_QUANTIZE, name + ".x", x);
    product(Kind.FP8_MATMUL, name, y, q, w.codes(), w.scale(), beta);
  }

  /** dx = dy·W; {@code beta} 1: dx += dy·W */
  public void matmulDx(String name, View dx, View dy, Fp8Matrix w, float beta) {
    Rounded q = round(Kind.FP8_QUANTIZE_DX, name + ".dy", dy);
    product(Kind.FP8_MATMUL_DX, name, dx, q, w.turnedCodes(), w.turnedScale(), beta);
  }

  /** Both forms of {@code w} = the weight in the storage of activations. */
  public void quantize(String name, Fp8Matrix w, Buffer from) {
    emit.add(Kind.FP8_QUANTIZE, name, List.of(from), w.buffers(), 3 * from.bytes() + w.bytes(), 0, r -> {
      r.kernels().fp8().quantize(w.place(), from.mem(), from.rows(), from.cols(), from.cols(), from.type());
      r.kernels().fp8().quantizeTransposed(w.turned(), from.mem(), from.rows(), from.cols(), from.cols(), from.type());
    });
  }

  /** Rows in e4m3 and their scales, for the tokens of a tile. */
  private record Rounded(View codes, View scale) {
    Fp8 place() {
      return new Fp8(codes.mem(), scale.mem());
    }
  }

  private Rounded round(Kind kind, String name, View x) {
    Rounded q = new Rounded(like(x, name + ".fp8", DType.E4M3, x.cols()), like(x, name + ".fp8_scale", DType.F32, 1));
    long bytes = Emit.bytes(x) + Emit.bytes(q.codes) + Emit.bytes(q.scale);
    emit.add(kind, name, List.of(x.buffer()), List.of(q.codes.buffer(), q.scale.buffer()), bytes, 2 * x.elements(), r -> {
      long rows = r.rows(x);
      if (rows > 0) {
        r.kernels().fp8().quantize(q.place(), x.mem(), rows, x.cols(), x.ld(), x.type());
      }
    });
    return q;
  }

  private static View like(View x, String name, DType type, long cols) {
    return View.of(new Buffer(name, Lifetime.ACTIVATION, type, x.buffer().rowsOf(), x.rows(), cols)).from(x.firstRow());
  }

  private void product(Kind kind, String name, View c, Rounded a, Buffer codes, Buffer scale, float beta) {
    if (!gemm.noFp8().isEmpty()) {
      throw new OribiException("--fp8: " + gemm.noFp8());
    }
    long k = codes.cols();
    Gemm.Shape planned = Gemm.Shape.fp8(c.rows(), c.cols(), k, c.ld(), c.type());
    List<Buffer> reads = new ArrayList<>(List.of(a.codes.buffer(), a.scale.buffer(), codes, scale));
    if (beta != 0) {
      reads.add(c.buffer());
    }
    Buffer space = Emit.workspace(name + ".fp8", gemm.workspace(planned));
    long bytes = Emit.bytes(a.codes) + codes.bytes() + Emit.bytes(c) * (beta == 0 ? 1 : 2);
    emit.add(kind, name, reads, List.of(c.buffer(), space), bytes, 2 * c.elements() * k, r -> {
      long rows = r.rows(c);
      if (rows > 0) {
        r.gemm().multiplyFp8(
            c.mem(), a.place(), new Fp8(codes.mem(), scale.mem()), space.mem(), planned.with(rows, k), beta);
      }
    });
  }
}
