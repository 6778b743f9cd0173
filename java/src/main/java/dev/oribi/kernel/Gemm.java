package dev.oribi.kernel;

import dev.oribi.OribiException;
import dev.oribi.device.Mem;

/**
 * Dense products of row-major matrices: {@code C[m,n] = alpha * op(A)[m,k] * op(B)[k,n] + beta * C}, sums in fp32.
 *
 * <p>{@code op} is the matrix as it lies or its transpose; {@code lda}, {@code ldb}, {@code ldc} are elements from one row
 * to the next of the matrices as they lie. Operands that are not fp32 go through {@code workspace}.
 */
public interface Gemm extends AutoCloseable {
  /** One product: operands as they lie, and whether each is read transposed. */
  record Shape(
      boolean transposeA,
      boolean transposeB,
      long m,
      long n,
      long k,
      long lda,
      long ldb,
      long ldc,
      DType typeA,
      DType typeB,
      DType typeC) {
    /** C[m,n] = A[m,k] · B[n,k]ᵀ of matrices in e4m3. */
    public static Shape fp8(long m, long n, long k, long ldc, DType typeC) {
      return new Shape(false, true, m, n, k, k, k, ldc, DType.E4M3, DType.E4M3, typeC);
    }

    /** The same product with other numbers of rows of op(A) and of terms. */
    public Shape with(long newM, long newK) {
      return new Shape(transposeA, transposeB, newM, n, newK, lda, ldb, ldc, typeA, typeB, typeC);
    }
  }

  void multiply(Mem c, Mem a, Mem b, Mem workspace, Shape shape, float alpha, float beta);

  /** Why there are no products of matrices in e4m3 here, for a message; empty where there are. */
  default String noFp8() {
    return "a CPU has no products in FP8, only GPUs of compute capability 9.0 (Hopper)";
  }

  /**
   * {@code C[m,n] = A[m,k] * B[n,k]ᵀ + beta * C} of e4m3 matrices with a scale for each of their rows. {@code shape}, as {@link
   * Shape#fp8} makes it, has the types {@link DType#E4M3} and the strides k.
   */
  default void multiplyFp8(Mem c, Fp8 a, Fp8 b, Mem workspace, Shape shape, float beta) {
    throw new OribiException(noFp8());
  }

  /** Type of the logits of activations of type {@code t}: what this library can both write and read as an operand. */
  DType logitsType(DType t);

  /** Bytes of workspace, aligned to 256, for a product of at most this size; 0 where none is needed. */
  long workspace(Shape shape);

  @Override
  void close();
}
