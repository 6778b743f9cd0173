package dev.oribi.kernel;

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
    /** The same product with other numbers of rows of op(A) and of terms. */
    public Shape with(long newM, long newK) {
      return new Shape(transposeA, transposeB, newM, n, newK, lda, ldb, ldc, typeA, typeB, typeC);
    }
  }

  void multiply(Mem c, Mem a, Mem b, Mem workspace, Shape shape, float alpha, float beta);

  /** Type of the logits of activations of type {@code t}: what this library can both write and read as an operand. */
  DType logitsType(DType t);

  /** Bytes of workspace, aligned to 256, for a product of at most this size; 0 where none is needed. */
  long workspace(Shape shape);

  @Override
  void close();
}
