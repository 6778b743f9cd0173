package dev.oribi.kernel;

import static dev.oribi.kernel.Kernels.f;
import static dev.oribi.kernel.Kernels.p;

import dev.oribi.device.Mem;
import dev.oribi.kernel.jni.OribiNative;
import dev.oribi.kernel.jni.oribi_ctx;
import dev.oribi.kernel.jni.oribi_fp8;
import org.bytedeco.javacpp.BytePointer;

/** The functions of {@code oribi.h} on matrices in e4m3, on the device of a {@link Kernels}. */
public final class Fp8Kernels {
  private final Kernels kernels;
  private final oribi_ctx ctx;

  Fp8Kernels(Kernels kernels, oribi_ctx ctx) {
    this.kernels = kernels;
    this.ctx = ctx;
  }

  /** q[rows,cols] = x[rows,cols] of type t, with {@code ld} elements from one row to the next. */
  public void quantize(Fp8 q, Mem x, long rows, long cols, long ld, DType t) {
    try (oribi_fp8 s = struct(q)) {
      kernels.check(OribiNative.oribi_fp8_quantize(ctx, s, p(x), rows, cols, ld, t.code()));
    }
  }

  /** q[cols,rows] = the transposed of x[rows,cols]: one scale for each column of x. */
  public void quantizeTransposed(Fp8 q, Mem x, long rows, long cols, long ld, DType t) {
    try (oribi_fp8 s = struct(q)) {
      kernels.check(OribiNative.oribi_fp8_quantize_transposed(ctx, s, p(x), rows, cols, ld, t.code()));
    }
  }

  private static oribi_fp8 struct(Fp8 q) {
    return new oribi_fp8().codes(new BytePointer(p(q.codes()))).scale(f(q.scale()));
  }
}
