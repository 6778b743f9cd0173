package dev.oribi.kernel;

import static dev.oribi.kernel.Kernels.f;
import static dev.oribi.kernel.Kernels.i;
import static dev.oribi.kernel.Kernels.p;

import dev.oribi.device.Mem;
import dev.oribi.kernel.jni.OribiNative;
import dev.oribi.kernel.jni.oribi_ctx;

/** The functions of {@code oribi.h} on weights in ggml's blocks, on the device of a {@link Kernels}. Types are ggml's numbers. */
public final class GgmlKernels {
  /** Longest rows that {@link #matmul} takes. */
  static final long MOST_IN = 1 << 18;

  /** ggml's number of plain fp32. */
  static final int F32 = 0;

  private final Kernels kernels;
  private final oribi_ctx ctx;

  GgmlKernels(Kernels kernels, oribi_ctx ctx) {
    this.kernels = kernels;
    this.ctx = ctx;
  }

  /** w[rows,cols] = with {@code ld} elements from one row to the next. */
  public void dequantize(Mem w, Mem blocks, long rows, long cols, long ld, int type, DType t) {
    kernels.check(OribiNative.oribi_ggml_dequantize(ctx, p(w), p(blocks), rows, cols, ld, type, t.code()));
  }

  /** y[n,c] = table[ids[n],:] of a table[v,c] in blocks. */
  public void embedding(Mem y, Mem table, Mem ids, long n, long c, long v, int type, DType t) {
    kernels.check(OribiNative.oribi_ggml_embedding(ctx, p(y), p(table), i(ids), n, c, v, type, t.code()));
  }

  /** y[n,out] = x[n,in]·Wᵀ in fp32 for few rows, on the CPU alone. */
  public void matmul(Mem y, Mem x, Mem w, long n, long in, long out, long ldX, long ldY, int type) {
    kernels.check(OribiNative.oribi_ggml_matmul(ctx, f(y), f(x), p(w), n, in, out, ldX, ldY, type));
  }

  /** The same with x rounded to 8 bits where W is in blocks, as llama.cpp does; for text, not for gradients. */
  public void matmulQ8(Mem y, Mem x, Mem w, long n, long in, long out, long ldX, long ldY, int type) {
    kernels.check(OribiNative.oribi_ggml_matmul_q8(ctx, f(y), f(x), p(w), n, in, out, ldX, ldY, type));
  }
}
