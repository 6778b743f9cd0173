package dev.oribi.kernel;

import static dev.oribi.kernel.Kernels.f;
import static dev.oribi.kernel.Kernels.p;

import dev.oribi.device.Mem;
import dev.oribi.kernel.jni.OribiNative;
import dev.oribi.kernel.jni.oribi_ctx;
import dev.oribi.kernel.jni.oribi_int8;
import org.bytedeco.javacpp.BytePointer;

/** The functions of {@code oribi.h} on weights in 8 bits, on the device of a {@link Kernels}. */
public final class Int8Kernels {
  private final Kernels kernels;
  private final oribi_ctx ctx;

  Int8Kernels(Kernels kernels, oribi_ctx ctx) {
    this.kernels = kernels;
    this.ctx = ctx;
  }

  /**
   * The arrays of q =, from w[rows,cols] of type t.
   *
   * @param lost [rows*cols/64] fp32 = sums over each block of the squares of what rounding changed; null: not wanted
   * @param all the same of the squares of w
   */
  public void quantize(Int8 q, Mem lost, Mem all, Mem w, long rows, long cols, DType t) {
    try (oribi_int8 s = struct(q)) {
      kernels.check(OribiNative.oribi_int8_quantize(ctx, s, f(lost), f(all), p(w), rows, cols, t.code()));
    }
  }

  /** w[rows,cols] = with {@code ld} elements from one row to the next. */
  public void dequantize(Mem w, Int8 q, long rows, long cols, long ld, DType t) {
    try (oribi_int8 s = struct(q)) {
      kernels.check(OribiNative.oribi_int8_dequantize(ctx, p(w), s, rows, cols, ld, t.code()));
    }
  }

  private static oribi_int8 struct(Int8 q) {
    return new oribi_int8().codes(new BytePointer(p(q.codes()))).scale(f(q.scale()));
  }
}
