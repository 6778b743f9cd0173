package dev.oribi.program;

import dev.oribi.kernel.DType;
import dev.oribi.kernel.Fp8;
import dev.oribi.kernel.Kernels;
import dev.oribi.kernel.LoraPaths;
import dev.oribi.kernel.LoraShape;
import dev.oribi.kernel.Nf4;
import dev.oribi.program.Buffer.Lifetime;
import dev.oribi.program.Buffer.Rows;
import dev.oribi.program.Op.Kind;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;

/**
 * The part of {@link Emit} that weights in 4 bits and the fused kernels of adapters need. Shapes are those planned.
 *
 * <p>In the fused kernels the adapter's scale is in h and in g: h = s·x·Aᵀ, g = s·dy·B. The products one by one, {@link
 * dev.oribi.layer.Linear}'s other way, keep h without it. Derivation: docs/derivations/lora.md
 */
public final class EmitLora {
  /** Up to so many rows the blocks are read once for each; expanding costs a pass over four bytes a weight, written and read. */
  private static final long FEW_ROWS = 4;

  /**
   * The same where x is rounded, which makes a row take as long as reading the blocks: 2 ms for each of a model of 75 million weights in
   * Q8_0, which takes 45 ms to expand (AMD EPYC, one thread).
   */
  static final long FEW_ROUNDED_ROWS = 16;

  private final Emit emit;
  private final Kernels kernels;

  EmitLora(Emit emit, Kernels kernels) {
    this.emit = emit;
    this.kernels = kernels;
  }

  /**
   * w[rows,cols] in the storage of activations, for the products that follow; it shares memory with activations.
   *
   * <p>Every product with a weight in 4 bits has its own: the memory of one such weight is all that this costs. Where the plan
   * keeps the weight in 16 bits too, that is what the products read.
   */
  public Buffer dequantize(String name, FrozenStack stack) {
    Buffer copy = emit.copies().plain(stack);
    if (copy != null) {
      return copy;
    }
    Buffer w = new Buffer(name + ".dequantized", Lifetime.ACTIVATION, emit.type(), Rows.FIXED, stack.rows(), stack.cols());
    unpack(name, w, stack);
    return w;
  }

  /** Keeps the weight once more for products to read: in FP8 where that is asked for and its shape has such products. */
  public void copy(String name, FrozenStack stack, boolean inFp8, Copies copies) {
    if (inFp8 && Fp8.fits(stack.rows(), stack.cols())) {
      Fp8Matrix copy = Fp8Matrix.of(name, Lifetime.COPY_FP8, stack.rows(), stack.cols());
      Buffer plain = new Buffer(name + ".16bit", Lifetime.ACTIVATION, emit.type(), Rows.FIXED, stack.rows(), stack.cols());
      unpack(name, plain, stack);
      emit.fp8().quantize(name, copy, plain);
      copies.put(stack, copy);
      return;
    }
    Buffer copy = new Buffer(name + ".16bit", Lifetime.COPY, emit.type(), Rows.FIXED, stack.rows(), stack.cols());
    unpack(name, copy, stack);
    copies.put(stack, copy);
  }

  /** w = the weight in the storage of activations */
  public void unpack(String name, Buffer w, FrozenStack stack) {
    List<View> places = new ArrayList<>();
    long row = 0;
    for (FrozenStack.Part p : stack.parts()) {
      places.add(View.of(w).rows(row, p.rows()));
      row += p.rows();
    }
    long flops = 2 * stack.rows() * stack.cols();
    emit.add(Kind.DEQUANTIZE, name, stack.buffers(), List.of(w), stack.bytes() + w.bytes(), flops, r -> {
      for (int i = 0; i < places.size(); i++) {
        unpack(r.kernels(), places.get(i), stack.parts().get(i));
      }
    });
  }

  private static void unpack(Kernels kernels, View to, FrozenStack.Part p) {
    if (p.ggml() != null) {
      kernels.ggml().dequantize(to.mem(), p.ggml().place(0, p.rows()), p.rows(), to.cols(), to.cols(), p.ggml().type().id(), to.type());
      return;
    }
    if (p.nf4() == null) {
      kernels.cast(to.mem(), p.plain().mem(), to.elements(), to.type(), p.plain().type());
      return;
    }
    // A matrix lies without gaps, so its blocks may be taken for its rows where they do not fill rows.
    long cols = to.cols() % Nf4.BLOCK == 0 ? to.cols() : Nf4.BLOCK;
    kernels.lora().nf4Dequantize(to.mem(), p.nf4().place(), to.elements() / cols, cols, cols, to.type());
  }

  /**
   * y = x·Wᵀ with a weight that is all in ggml's blocks. A run of few rows on a CPU reads the blocks as they are; any other
   * expands the weight and multiplies by that.
   */
  public void matmul(String name, View y, View x, FrozenStack stack) {
    boolean direct = kernels.architecture() == 0 && emit.type() == DType.F32 && emit.copies().plain(stack) == null;
    if (!direct) {
      emit.matmul(Kind.MATMUL, name, y, x, View.of(dequantize(name, stack)), 1, 0);
      return;
    }
    Buffer w = new Buffer(name + ".dequantized", Lifetime.ACTIVATION, emit.type(), Rows.FIXED, stack.rows(), stack.cols());
    List<Buffer> reads = new ArrayList<>(stack.buffers());
    reads.add(x.buffer());
    emit.matmulOr(name, y, x, View.of(w), reads, stack.bytes(), r -> {
      long rows = r.rows(x);
      if (rows > (emit.roundsX() ? FEW_ROUNDED_ROWS : FEW_ROWS)) {
        long row = 0;
        for (FrozenStack.Part p : stack.parts()) {
          unpack(r.kernels(), View.of(w).rows(row, p.rows()), p);
          row += p.rows();
        }
        return false;
      }
      long first = 0;
      for (FrozenStack.Part p : stack.parts()) {
        p.ggml().multiply(r.kernels(), y.cols(first, p.rows()).mem(), x.mem(), rows, x.ld(), y.ld(), emit.roundsX());
        first += p.rows();
      }
      return true;
    });
  }

  // --------------------------------------------------------------------------------------------------- fused kernels

  /** Whether the kernels h, g and db, da of this stack are used: where the device has them, unless they are switched off. */
  public boolean fuses(LoraShape s) {
    return LoraPaths.wanted(kernels.architecture()) && kernels.lora().unsupported(s, false) == null;
  }

  /**
   * Whether the product with the weight takes the adapters in, or the library's product and thin ones follow each other.
   *
   * @param dx the backward product, dx = dy·W + g·A
   * @param nf4 the kernel reads the weight in 4 bits; otherwise one of 16 bits
   */
  public boolean fusesProduct(LoraShape s, boolean dx, boolean nf4) {
    return kernels.lora().unsupported(s, nf4) == null
        && LoraPaths.of(kernels.architecture(), s.n(), s.in(), s.out(), dx, nf4) == LoraPaths.Path.FUSED;
  }

  /** h = s·x·Aᵀ */
  public void h(String name, View h, View x, View a, LoraShape s) {
    Buffer space = workspace(name + ".lora_A", s);
    emit.add(Kind.LORA_H, name + ".lora_A", List.of(x.buffer(), a.buffer()), List.of(h.buffer(), space),
        bytes(x) + bytes(a) + bytes(h),
        2 * s.n() * s.in() * h.cols(), r ->
        ofRows(r, x, s, now -> r.kernels().lora().h(h.mem(), x.mem(), a.mem(), space.mem(), now)));
  }

  /** h = s·x·Aᵀ and y = x·Wᵀ + h·Bᵀ; either {@code w} or {@code nf4} is null. */
  public void forward(String name, View y, View h, View x, View w, Nf4Matrix nf4, View a, View b, LoraShape s) {
    Buffer space = workspace(name + ".lora_A", s);
    List<Buffer> reads = reads(w, nf4, x.buffer(), a.buffer(), b.buffer());
    emit.add(Kind.LORA_FORWARD, name, reads, List.of(y.buffer(), h.buffer(), space),
        bytes(x) + bytes(w, nf4) + bytes(a) + bytes(h) + bytes(b) + bytes(y), flops(s, b) + 2 * s.n() * s.in() * h.cols(), r ->
        ofRows(r, x, s, now ->
            r.kernels().lora().forward(
                y.mem(), h.mem(), x.mem(), w == null ? null : w.mem(), nf4 == null ? null : nf4.place(), a.mem(), b.mem(),
                space.mem(), now)));
  }

  /** y = x·Wᵀ + h·Bᵀ; either {@code w} or {@code nf4} is null. */
  public void matmul(String name, View y, View x, View w, Nf4Matrix nf4, View h, View b, LoraShape s) {
    List<Buffer> reads = reads(w, nf4, x.buffer(), h.buffer(), b.buffer());
    emit.add(Kind.LORA_MATMUL, name, reads, List.of(y.buffer()), bytes(x) + bytes(w, nf4) + bytes(h) + bytes(b) + bytes(y),
        flops(s, b), r ->
        ofRows(r, x, s, now ->
            r.kernels().lora().matmul(
                y.mem(), x.mem(), w == null ? null : w.mem(), nf4 == null ? null : nf4.place(), h.mem(), b.mem(), now)));
  }

  /** dx = dy·W + g·A; either {@code w} or {@code nf4} is null. */
  public void matmulDx(String name, View dx, View dy, View w, Nf4Matrix nf4, View g, View a, LoraShape s) {
    List<Buffer> reads = reads(w, nf4, dy.buffer(), g.buffer(), a.buffer());
    emit.add(Kind.LORA_MATMUL_DX, name, reads, List.of(dx.buffer()), bytes(dy) + bytes(w, nf4) + bytes(g) + bytes(a) + bytes(dx),
        flops(s, a), r ->
        ofRows(r, dy, s, now ->
            r.kernels().lora().matmulDx(
                dx.mem(), dy.mem(), w == null ? null : w.mem(), nf4 == null ? null : nf4.place(), g.mem(), a.mem(), now)));
  }

  /** g = s·dy·B, db += dyᵀ·h in one pass over dy */
  public void gDb(String name, View g, View db, View dy, View b, View h, LoraShape s) {
    Buffer space = workspace(name + ".lora_B", s);
    long adapted = b.rows();
    emit.add(Kind.LORA_G_DB, name + ".lora_B", List.of(dy.buffer(), b.buffer(), h.buffer(), db.buffer()), List.of(g.buffer(), db.buffer(), space),
        s.n() * adapted * dy.type().bytes() + bytes(b) + bytes(h) + bytes(g) + 2 * bytes(db),
        4 * s.n() * adapted * s.rank(), r ->
        ofRows(r, dy, s, now ->
            r.kernels().lora().gDb(g.mem(), db.mem(), dy.mem(), b.mem(), h.mem(), space.mem(), now)));
  }

  /** da += gᵀ·x */
  public void da(String name, View da, View g, View x, LoraShape s) {
    Buffer space = workspace(name + ".lora_A.da", s);
    emit.add(Kind.LORA_DA, name + ".lora_A", List.of(g.buffer(), x.buffer(), da.buffer()), List.of(da.buffer(), space),
        bytes(x) + bytes(g) + 2 * bytes(da), 2 * s.n() * s.in() * g.cols(), r ->
        ofRows(r, x, s, now -> r.kernels().lora().da(da.mem(), g.mem(), x.mem(), space.mem(), now)));
  }

  /** A tile may lie beyond this run's rows. */
  private static void ofRows(Run r, View rows, LoraShape s, Consumer<LoraShape> work) {
    long n = r.rows(rows);
    if (n > 0) {
      work.accept(s.rows(n));
    }
  }

  private Buffer workspace(String name, LoraShape s) {
    return new Buffer(name + ".workspace", Lifetime.WORKSPACE, DType.U8, Rows.FIXED, 1, kernels.lora().workspace(s));
  }

  private static List<Buffer> reads(View w, Nf4Matrix nf4, Buffer... others) {
    List<Buffer> reads = new ArrayList<>(List.of(others));
    if (w != null) {
      reads.add(w.buffer());
    } else {
      reads.addAll(nf4.buffers());
    }
    return reads;
  }

  private static long bytes(View v) {
    return Emit.bytes(v);
  }

  private static long bytes(View w, Nf4Matrix nf4) {
    return w != null ? bytes(w) : nf4.bytes();
  }

  /** The product with the weight, and the one with {@code adapter}: B of [sum of outs, rank], or A of [R, in]. */
  private static long flops(LoraShape s, View adapter) {
    return 2 * s.n() * s.in() * s.out() + 2 * s.n() * adapter.elements();
  }
}
