package dev.oribi.kernel;

import static dev.oribi.kernel.CublasLtGemm.check;
import static org.bytedeco.cuda.global.cublas.CUBLASLT_MATMUL_DESC_A_SCALE_MODE;
import static org.bytedeco.cuda.global.cublas.CUBLASLT_MATMUL_DESC_A_SCALE_POINTER;
import static org.bytedeco.cuda.global.cublas.CUBLASLT_MATMUL_DESC_B_SCALE_MODE;
import static org.bytedeco.cuda.global.cublas.CUBLASLT_MATMUL_DESC_B_SCALE_POINTER;
import static org.bytedeco.cuda.global.cublas.CUBLASLT_MATMUL_DESC_TRANSA;
import static org.bytedeco.cuda.global.cublas.CUBLASLT_MATMUL_DESC_TRANSB;
import static org.bytedeco.cuda.global.cublas.CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
import static org.bytedeco.cuda.global.cublas.CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
import static org.bytedeco.cuda.global.cublas.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
import static org.bytedeco.cuda.global.cublas.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES;
import static org.bytedeco.cuda.global.cublas.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES;
import static org.bytedeco.cuda.global.cublas.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES;
import static org.bytedeco.cuda.global.cublas.CUBLAS_COMPUTE_32F;
import static org.bytedeco.cuda.global.cublas.CUBLAS_OP_N;
import static org.bytedeco.cuda.global.cublas.CUBLAS_OP_T;
import static org.bytedeco.cuda.global.cublas.CUBLAS_STATUS_SUCCESS;
import static org.bytedeco.cuda.global.cublas.cublasLtMatmulAlgoGetHeuristic;
import static org.bytedeco.cuda.global.cublas.cublasLtMatmulDescCreate;
import static org.bytedeco.cuda.global.cublas.cublasLtMatmulDescDestroy;
import static org.bytedeco.cuda.global.cublas.cublasLtMatmulDescSetAttribute;
import static org.bytedeco.cuda.global.cublas.cublasLtMatmulPreferenceCreate;
import static org.bytedeco.cuda.global.cublas.cublasLtMatmulPreferenceDestroy;
import static org.bytedeco.cuda.global.cublas.cublasLtMatmulPreferenceSetAttribute;
import static org.bytedeco.cuda.global.cublas.cublasLtMatrixLayoutCreate;
import static org.bytedeco.cuda.global.cublas.cublasLtMatrixLayoutDestroy;
import static org.bytedeco.cuda.global.cudart.CUDA_R_16BF;
import static org.bytedeco.cuda.global.cudart.CUDA_R_16F;
import static org.bytedeco.cuda.global.cudart.CUDA_R_32F;
import static org.bytedeco.cuda.global.cudart.CUDA_R_8F_E4M3;

import dev.oribi.OribiException;
import dev.oribi.device.Mem;
import dev.oribi.kernel.CublasLtGemm.Form;
import dev.oribi.kernel.Gemm.Shape;
import java.util.ArrayList;
import java.util.List;
import org.bytedeco.cuda.cublas.cublasLtContext;
import org.bytedeco.cuda.cublas.cublasLtMatmulAlgo_t;
import org.bytedeco.cuda.cublas.cublasLtMatmulDescOpaque_t;
import org.bytedeco.cuda.cublas.cublasLtMatmulHeuristicResult_t;
import org.bytedeco.cuda.cublas.cublasLtMatmulPreferenceOpaque_t;
import org.bytedeco.cuda.cublas.cublasLtMatrixLayoutOpaque_t;
import org.bytedeco.javacpp.IntPointer;
import org.bytedeco.javacpp.LongPointer;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.PointerPointer;

/** cublasLt's descriptors of one form of product, and the algorithms that it offers for it. */
final class CublasLtProduct implements AutoCloseable {
  private static final int BF16_ARCHITECTURE = 80;

  /** One way to compute the product. {@code results} holds the memory of {@code algo}. */
  record Algorithm(cublasLtMatmulAlgo_t algo, cublasLtMatmulHeuristicResult_t results) implements AutoCloseable {
    @Override
    public void close() {
      results.close();
    }
  }

  private final cublasLtContext handle;
  private final Form form;
  private final cublasLtMatmulDescOpaque_t operation;
  private final cublasLtMatrixLayoutOpaque_t layoutA;
  private final cublasLtMatrixLayoutOpaque_t layoutB;
  private final cublasLtMatrixLayoutOpaque_t layoutC;
  private Algorithm algorithm;

  CublasLtProduct(cublasLtContext handle, Form form, int architecture) {
    this.handle = handle;
    this.form = form;
    Shape s = form.shape();
    if (architecture < BF16_ARCHITECTURE && s.typeA() == DType.BF16) {
      throw new OribiException(
          "this card has no bfloat16 products (compute capability " + architecture / 10 + "." + architecture % 10
              + "): use --dtype float16 or float32");
    }
    operation = new cublasLtMatmulDescOpaque_t(made(p -> cublasLtMatmulDescCreate(p, CUBLAS_COMPUTE_32F, CUDA_R_32F)));
    set(CUBLASLT_MATMUL_DESC_TRANSA, s.transposeB() ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, s.transposeA() ? CUBLAS_OP_T : CUBLAS_OP_N);
    // By columns, the matrix that lies as [rows, cols] has cols rows.
    layoutB = layout(s.typeB(), s.transposeB() ? s.k() : s.n(), s.transposeB() ? s.n() : s.k(), s.ldb());
    layoutA = layout(s.typeA(), s.transposeA() ? s.m() : s.k(), s.transposeA() ? s.k() : s.m(), s.lda());
    layoutC = layout(s.typeC(), s.n(), s.m(), s.ldc());
    if (s.typeA() == DType.E4M3) {
      set(CUBLASLT_MATMUL_DESC_A_SCALE_MODE, CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F);
      set(CUBLASLT_MATMUL_DESC_B_SCALE_MODE, CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F);
      // CUBLASLT_MATMUL_DESC_FAST_ACCUM stays 0: the tensor cores' own sums, which keep some 14 bits, go to fp32 every few terms.
    }
  }

  /** Where the scales of the rows of e4m3 operands lie; to be told before an algorithm is asked for, and before each call. */
  void scale(Mem rowsOfA, Mem rowsOfB) {
    set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, rowsOfB.pointer());
    set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, rowsOfA.pointer());
  }

  private interface Maker {
    int make(PointerPointer<Pointer> into);
  }

  private static Pointer made(Maker maker) {
    try (PointerPointer<Pointer> into = new PointerPointer<>(1)) {
      check(maker.make(into), "describing a product");
      return into.get();
    }
  }

  private static cublasLtMatrixLayoutOpaque_t layout(DType t, long rows, long cols, long ld) {
    return new cublasLtMatrixLayoutOpaque_t(made(p -> cublasLtMatrixLayoutCreate(p, cudaType(t), rows, cols, ld)));
  }

  private static int cudaType(DType t) {
    return switch (t) {
      case F32 -> CUDA_R_32F;
      case BF16 -> CUDA_R_16BF;
      case F16 -> CUDA_R_16F;
      case E4M3 -> CUDA_R_8F_E4M3;
      default -> throw new IllegalArgumentException("no product of " + t);
    };
  }

  private void set(int attribute, int value) {
    try (IntPointer v = new IntPointer(1).put(value)) {
      check(cublasLtMatmulDescSetAttribute(operation, attribute, v, Integer.BYTES), "describing a product");
    }
  }

  private void set(int attribute, Pointer value) {
    try (PointerPointer<Pointer> v = new PointerPointer<>(1)) {
      v.put(0, value);
      check(cublasLtMatmulDescSetAttribute(operation, attribute, v, Long.BYTES), "describing a product");
    }
  }

  Form form() {
    return form;
  }

  cublasLtMatmulDescOpaque_t operation() {
    return operation;
  }

  cublasLtMatrixLayoutOpaque_t layoutA() {
    return layoutA;
  }

  cublasLtMatrixLayoutOpaque_t layoutB() {
    return layoutB;
  }

  cublasLtMatrixLayoutOpaque_t layoutC() {
    return layoutC;
  }

  /** The one in use: the heuristic's first, unless another was chosen. */
  Algorithm algorithm() {
    if (algorithm == null) {
      algorithm = candidates(1).get(0);
    }
    return algorithm;
  }

  void choose(Algorithm chosen) {
    if (algorithm != null) {
      algorithm.close();
    }
    algorithm = chosen;
  }

  /** The best {@code most} by cublasLt's own reckoning, best first; the caller closes what it does not choose. */
  List<Algorithm> candidates(int most) {
    Pointer memory = made(p -> cublasLtMatmulPreferenceCreate(p));
    cublasLtMatmulPreferenceOpaque_t preference = new cublasLtMatmulPreferenceOpaque_t(memory);
    try (LongPointer workspace = new LongPointer(1).put(form.workspace());
        IntPointer found = new IntPointer(1).put(0);
        cublasLtMatmulHeuristicResult_t results = new cublasLtMatmulHeuristicResult_t(most)) {
      check(
          cublasLtMatmulPreferenceSetAttribute(
              preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace, Long.BYTES),
          "asking for algorithms");
      align(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, form.alignB());
      align(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, form.alignA());
      align(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, form.alignC());
      align(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, form.alignC());
      int status =
          cublasLtMatmulAlgoGetHeuristic(
              handle, operation, layoutB, layoutA, layoutC, layoutC, preference, most, results, found);
      if (status != CUBLAS_STATUS_SUCCESS || found.get() == 0) {
        throw new OribiException("cublasLt has no algorithm for " + CublasLtGemm.describe(form.shape()));
      }
      List<Algorithm> all = new ArrayList<>();
      for (int i = 0; i < found.get(); i++) {
        cublasLtMatmulHeuristicResult_t one = new cublasLtMatmulHeuristicResult_t(1);
        Pointer.memcpy(one, results.getPointer(i), one.sizeof());
        if (one.state() == CUBLAS_STATUS_SUCCESS) {
          all.add(new Algorithm(one.algo(), one));
        } else {
          one.close();
        }
      }
      return all;
    } finally {
      cublasLtMatmulPreferenceDestroy(preference);
    }
  }

  private static void align(cublasLtMatmulPreferenceOpaque_t preference, int attribute, int bytes) {
    try (IntPointer v = new IntPointer(1).put(bytes)) {
      check(cublasLtMatmulPreferenceSetAttribute(preference, attribute, v, Integer.BYTES), "asking for algorithms");
    }
  }

  @Override
  public void close() {
    if (algorithm != null) {
      algorithm.close();
    }
    cublasLtMatrixLayoutDestroy(layoutA);
    cublasLtMatrixLayoutDestroy(layoutB);
    cublasLtMatrixLayoutDestroy(layoutC);
    cublasLtMatmulDescDestroy(operation);
  }
}
