package dev.oribi.kernel;

import static dev.oribi.kernel.Kernels.f;
import static dev.oribi.kernel.Kernels.p;

import dev.oribi.device.Mem;
import dev.oribi.kernel.jni.OribiNative;
import dev.oribi.kernel.jni.oribi_ctx;
import dev.oribi.kernel.jni.oribi_lora_shape;
import dev.oribi.kernel.jni.oribi_nf4;
import org.bytedeco.javacpp.BytePointer;

/** The functions of {@code oribi.h} on 4-bit weights and adapters, on the device of a {@link Kernels}. */
public final class LoraKernels {
  private final Kernels kernels;
  private final oribi_ctx ctx;

  LoraKernels(Kernels kernels, oribi_ctx ctx) {
    this.kernels = kernels;
    this.ctx = ctx;
  }

  // ------------------------------------------------------------------------------------------------------------ nf4

  /** The arrays of q =, from w[count] of type t. */
  public void nf4Quantize(Nf4 q, Mem w, Mem workspace, long count, DType t) {
    try (oribi_nf4 s = struct(q)) {
      kernels.check(OribiNative.oribi_nf4_quantize(ctx, s, p(w), p(workspace), count, t.code()));
    }
  }

  public static long nf4Workspace(long count) {
    NativeLibrary.load();
    return Kernels.size(OribiNative.oribi_nf4_workspace(count));
  }

  /** w[rows,cols] = with {@code ld} elements from one row to the next. */
  public void nf4Dequantize(Mem w, Nf4 q, long rows, long cols, long ld, DType t) {
    try (oribi_nf4 s = struct(q)) {
      kernels.check(OribiNative.oribi_nf4_dequantize(ctx, p(w), s, rows, cols, ld, t.code()));
    }
  }

  // ----------------------------------------------------------------------------------------------------------- lora

  /** y = x·Wᵀ + h·Bᵀ. Either {@code w} or {@code nf4} is null. */
  public void matmul(Mem y, Mem x, Mem w, Nf4 nf4, Mem h, Mem b, LoraShape shape) {
    try (oribi_nf4 q = struct(nf4);
        oribi_lora_shape s = struct(shape)) {
      kernels.check(OribiNative.oribi_lora_matmul(ctx, p(y), p(x), p(w), q, p(h), p(b), s));
    }
  }

  /** dx = dy·W + g·A. Either {@code w} or {@code nf4} is null. */
  public void matmulDx(Mem dx, Mem dy, Mem w, Nf4 nf4, Mem g, Mem a, LoraShape shape) {
    try (oribi_nf4 q = struct(nf4);
        oribi_lora_shape s = struct(shape)) {
      kernels.check(OribiNative.oribi_lora_matmul_dx(ctx, p(dx), p(dy), p(w), q, p(g), p(a), s));
    }
  }

  /** h = scale * x·Aᵀ and y = x·Wᵀ + h·Bᵀ, at once where the device can. Either {@code w} or {@code nf4} is null. */
  public void forward(Mem y, Mem h, Mem x, Mem w, Nf4 nf4, Mem a, Mem b, Mem workspace, LoraShape shape) {
    try (oribi_nf4 q = struct(nf4);
        oribi_lora_shape s = struct(shape)) {
      kernels.check(OribiNative.oribi_lora_forward(ctx, p(y), p(h), p(x), p(w), q, p(a), p(b), p(workspace), s));
    }
  }

  /** h = scale * x·Aᵀ */
  public void h(Mem h, Mem x, Mem a, Mem workspace, LoraShape shape) {
    try (oribi_lora_shape s = struct(shape)) {
      kernels.check(OribiNative.oribi_lora_h(ctx, p(h), p(x), p(a), p(workspace), s));
    }
  }

  /** g = scale * dy·B, db += dyᵀ·h, in one pass over dy. */
  public void gDb(Mem g, Mem db, Mem dy, Mem b, Mem h, Mem workspace, LoraShape shape) {
    try (oribi_lora_shape s = struct(shape)) {
      kernels.check(OribiNative.oribi_lora_g_db(ctx, p(g), f(db), p(dy), p(b), p(h), p(workspace), s));
    }
  }

  /** da += gᵀ·x */
  public void da(Mem da, Mem g, Mem x, Mem workspace, LoraShape shape) {
    try (oribi_lora_shape s = struct(shape)) {
      kernels.check(OribiNative.oribi_lora_da(ctx, f(da), p(g), p(x), p(workspace), s));
    }
  }

  /** Bytes that each of {@link #h}, {@link #forward}, {@link #gDb} and {@link #da} needs for at most this shape. */
  public long workspace(LoraShape shape) {
    try (oribi_lora_shape s = struct(shape)) {
      return OribiNative.oribi_lora_workspace(ctx, s);
    }
  }

  /** Why the device has no kernel for this shape and kind of weight, one sentence; null: it has one. */
  public String unsupported(LoraShape shape, boolean nf4) {
    try (oribi_lora_shape s = struct(shape);
        BytePointer reason = OribiNative.oribi_lora_unsupported(ctx, s, nf4 ? 1 : 0)) {
      return reason == null ? null : reason.getString();
    }
  }

  private static oribi_nf4 struct(Nf4 q) {
    if (q == null) {
      return null;
    }
    oribi_nf4 s = new oribi_nf4();
    s.codes(new BytePointer(p(q.codes()))).absmax(new BytePointer(p(q.absmax())));
    return s.absmax2(f(q.absmax2())).offset(f(q.offset()));
  }

  private static oribi_lora_shape struct(LoraShape l) {
    oribi_lora_shape s = new oribi_lora_shape();
    s.n(l.n()).in(l.in()).out(l.out()).ld_x(l.ldX()).ld_y(l.ldY());
    s.rank(l.rank()).adapters(l.adapters().size()).t(l.type().code());
    for (int i = 0; i < LoraShape.MAX_ADAPTERS; i++) {
      LoraShape.Adapter a = i < l.adapters().size() ? l.adapters().get(i) : new LoraShape.Adapter(0, 0, 0);
      s.first_out(i, a.firstOut()).outs(i, a.outs()).scale(i, a.scale());
    }
    return s;
  }
}
