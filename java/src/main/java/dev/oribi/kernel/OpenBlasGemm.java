package dev.oribi.kernel;

import static org.bytedeco.openblas.global.openblas_nolapack.CblasNoTrans;
import static org.bytedeco.openblas.global.openblas_nolapack.CblasRowMajor;
import static org.bytedeco.openblas.global.openblas_nolapack.CblasTrans;
import static org.bytedeco.openblas.global.openblas_nolapack.cblas_sgemm;
import static org.bytedeco.openblas.global.openblas_nolapack.cblas_sgemv;

import dev.oribi.device.Mem;
import org.bytedeco.openblas.global.openblas_nolapack;

/**
 * Products by OpenBLAS, in fp32. Its build has no 16-bit product, so 16-bit operands are widened first, a panel of the
 * weight at a time: the workspace stays small while the rows of the activations stay whole.
 */
public final class OpenBlasGemm implements Gemm {
  /** Rows of B that are widened at once: 512 keeps a panel of 4096 columns at 8 MiB, about the size of a cache. */
  private static final long PANEL = 512;

  private final Kernels kernels;

  public OpenBlasGemm(Kernels kernels) {
    this.kernels = kernels;
    openblas_nolapack.blas_set_num_threads(kernels.threads());
  }

  @Override
  public void multiply(Mem c, Mem a, Mem b, Mem workspace, Shape s, float alpha, float beta) {
    if (s.m() == 0 || s.n() == 0) {
      return;
    }
    if (s.typeA() == DType.F32 && s.typeB() == DType.F32 && s.typeC() == DType.F32) {
      sgemm(c, a, b, s, alpha, beta);
    } else {
      widened(c, a, b, workspace, s, alpha, beta);
    }
  }

  private void sgemm(Mem c, Mem a, Mem b, Shape s, float alpha, float beta) {
    if (s.m() == 1 && !s.transposeA() && s.transposeB()) {
      if (alpha == 1 && beta == 0 && s.ldb() == s.k() && s.k() <= GgmlKernels.MOST_IN) {
        // By Oribi's own kernel, whose threads stay awake between the products of a token.
        kernels.ggml().matmul(c, a, b, 1, s.k(), s.n(), s.k(), s.n(), GgmlKernels.F32);
        return;
      }
      // One row, as in generation: y = B x reads B once, row by row.
      cblas_sgemv(
          CblasRowMajor,
          CblasNoTrans,
          size(s.n()),
          size(s.k()),
          alpha,
          b.floats(),
          size(s.ldb()),
          a.floats(),
          1,
          beta,
          c.floats(),
          1);
      return;
    }
    cblas_sgemm(
        CblasRowMajor,
        s.transposeA() ? CblasTrans : CblasNoTrans,
        s.transposeB() ? CblasTrans : CblasNoTrans,
        size(s.m()),
        size(s.n()),
        size(s.k()),
        alpha,
        a.floats(),
        size(s.lda()),
        b.floats(),
        size(s.ldb()),
        beta,
        c.floats(),
        size(s.ldc()));
  }

  /** Panels over n: op(B)[k, panel] and C[m, panel] in fp32; op(A) whole. */
  private void widened(Mem c, Mem a, Mem b, Mem workspace, Shape s, float alpha, float beta) {
    long rowsA = s.transposeA() ? s.k() : s.m();
    long colsA = s.transposeA() ? s.m() : s.k();
    Mem wideA = workspace.slice(0, 4 * rowsA * colsA);
    kernels.castRows(wideA, a, rowsA, colsA, colsA, s.lda(), DType.F32, s.typeA(), false);
    Mem rest = workspace.slice(align(wideA.bytes()), workspace.bytes() - align(wideA.bytes()));
    for (long begin = 0; begin < s.n(); begin += PANEL) {
      long width = Math.min(PANEL, s.n() - begin);
      Mem wideB = rest.slice(0, 4 * s.k() * width);
      Mem wideC = rest.slice(align(wideB.bytes()), 4 * s.m() * width);
      long rowsB = s.transposeB() ? width : s.k();
      long colsB = s.transposeB() ? s.k() : width;
      Mem from = at(b, s.transposeB() ? begin * s.ldb() : begin, s.typeB());
      kernels.castRows(wideB, from, rowsB, colsB, colsB, s.ldb(), DType.F32, s.typeB(), false);
      Shape panel =
          new Shape(
              s.transposeA(), s.transposeB(), s.m(), width, s.k(), colsA, colsB, width, DType.F32, DType.F32, DType.F32);
      Mem to = at(c, begin, s.typeC());
      if (beta != 0) {
        kernels.castRows(wideC, to, s.m(), width, width, s.ldc(), DType.F32, s.typeC(), false);
      }
      sgemm(wideC, wideA, wideB, panel, alpha, beta);
      kernels.castRows(to, wideC, s.m(), width, s.ldc(), width, s.typeC(), DType.F32, false);
    }
  }

  @Override
  public long workspace(Shape s) {
    if (s.typeA() == DType.F32 && s.typeB() == DType.F32 && s.typeC() == DType.F32) {
      return 0;
    }
    long width = Math.min(PANEL, s.n());
    return align(4 * s.m() * s.k()) + align(4 * s.k() * width) + align(4 * s.m() * width);
  }

  /** fp32 is what the product makes; 16 bits would take a pass more. */
  @Override
  public DType logitsType(DType t) {
    return DType.F32;
  }

  private static Mem at(Mem m, long element, DType t) {
    long offset = element * t.bytes();
    return m.slice(offset, m.bytes() - offset);
  }

  private static long align(long bytes) {
    return (bytes + 63) / 64 * 64;
  }

  private static int size(long n) {
    if (n > Integer.MAX_VALUE) {
      throw new IllegalArgumentException("OpenBLAS takes sizes up to 2^31 - 1, not " + n);
    }
    return (int) n;
  }

  @Override
  public void close() {}
}
