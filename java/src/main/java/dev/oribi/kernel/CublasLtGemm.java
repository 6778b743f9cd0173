package dev.oribi.kernel;

import static org.bytedeco.cuda.global.cublas.CUBLAS_STATUS_SUCCESS;
import static org.bytedeco.cuda.global.cublas.cublasLtCreate;
import static org.bytedeco.cuda.global.cublas.cublasLtDestroy;
import static org.bytedeco.cuda.global.cublas.cublasLtGetStatusName;
import static org.bytedeco.cuda.global.cublas.cublasLtMatmul;

import dev.oribi.OribiException;
import dev.oribi.device.CudaSetup;
import dev.oribi.device.Mem;
import dev.oribi.kernel.jni.OribiNative;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.Map;
import java.util.Set;
import org.bytedeco.cuda.cublas.cublasLtContext;
import org.bytedeco.cuda.cudart.CUstream_st;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.Loader;

/**
 * Products by cublasLt on the kernels' stream. fp32 operands are multiplied in fp32, never in TF32; operands of 16 bits are
 * summed in fp32 and rounded once, to the type of C. Both operands have one type. Those in e4m3 are summed in fp32 too
 * ({@link CublasLtProduct}), and each sum is multiplied by the scales of its two rows.
 *
 * <p>cublasLt sees matrices by columns: a row-major C[m,n] is its Cᵀ, so it is asked for Cᵀ[n,m] = op(B)ᵀ·op(A)ᵀ, with our B
 * as its first operand.
 *
 * <p>Descriptors and the algorithm of each form of product are kept ({@link CublasLtProduct}). Row counts change from run to
 * run, so what was used least recently goes when there are too many. The algorithm is the first of cublasLt's heuristic, or
 * the fastest of several where {@link GemmTuner} has timed them.
 */
public final class CublasLtGemm implements Gemm {
  /** What NVIDIA recommends for an H100. */
  private static final long WORKSPACE = 32L << 20;

  /** Measured: at 64 bytes, and at 128, cublasLt answers CUBLAS_STATUS_INVALID_VALUE. */
  private static final long WORKSPACE_ALIGNMENT = 256;

  /** Small products split their sums over a few blocks at most; a model of toy size should not pay for large ones. */
  private static final long SMALL_WORKSPACE = 1L << 20;

  private static final int SPLITS = 16;

  private static final int FP8_ARCHITECTURE = 90;

  /** Forms that are kept: some 20 in a model, times the row counts of batches that come back. */
  private static final int KEPT = 2048;

  /** Most bytes to which vector loads and bulk copies want a pointer aligned. */
  private static final long MOST_ALIGNMENT = 16;

  /** What an algorithm may depend on: the shape, how its operands are aligned, the workspace, whether C is read. */
  record Form(Shape shape, int alignA, int alignB, int alignC, long workspace, boolean adds) {}

  private final CUstream_st stream;
  private final int architecture;
  private final cublasLtContext handle = new cublasLtContext();
  private final FloatPointer alpha = new FloatPointer(1);
  private final FloatPointer beta = new FloatPointer(1);
  private final Set<Shape> planned = new LinkedHashSet<>();
  private final Map<Form, CublasLtProduct> products =
      new LinkedHashMap<>(256, 0.75f, true) {
        @Override
        protected boolean removeEldestEntry(Map.Entry<Form, CublasLtProduct> eldest) {
          if (size() <= KEPT) {
            return false;
          }
          eldest.getValue().close();
          return true;
        }
      };

  /** For the device of {@code kernels}, which must be a GPU. */
  public CublasLtGemm(Kernels kernels) {
    try {
      Loader.load(org.bytedeco.cuda.global.cublas.class);
    } catch (LinkageError e) {
      throw new OribiException(CudaSetup.missingLibrary("cuBLAS", "libcublasLt.so.13", e), e);
    }
    stream = new CUstream_st(OribiNative.oribi_ctx_stream(kernels.context()));
    architecture = kernels.architecture();
    check(cublasLtCreate(handle), "opening cublasLt");
  }

  @Override
  public void multiply(Mem c, Mem a, Mem b, Mem workspace, Shape s, float alphaValue, float betaValue) {
    if (s.m() == 0 || s.n() == 0) {
      return;
    }
    if (s.k() == 0 && betaValue == 1) {
      return; // Nothing is added.
    }
    if (workspace != null && workspace.address() % WORKSPACE_ALIGNMENT != 0) {
      throw new OribiException(
          "the workspace of a product must be aligned to " + WORKSPACE_ALIGNMENT + " bytes, or cublasLt refuses it");
    }
    CublasLtProduct p = product(form(c, a, b, workspace, s, betaValue != 0));
    run(p, p.algorithm(), c, a, b, workspace, alphaValue, betaValue);
  }

  /** One scale a row is what cublasLt calls outer vectors; it has them for compute capability 9.0 alone. */
  @Override
  public String noFp8() {
    return architecture == FP8_ARCHITECTURE
        ? ""
        : "this card is of compute capability " + architecture / 10 + "." + architecture % 10
            + ", and cublasLt multiplies FP8 with a scale for each row on 9.0 (Hopper) alone";
  }

  @Override
  public void multiplyFp8(Mem c, Fp8 a, Fp8 b, Mem workspace, Shape s, float betaValue) {
    if (!noFp8().isEmpty()) {
      throw new OribiException(noFp8());
    }
    if (s.m() == 0 || s.n() == 0) {
      return;
    }
    CublasLtProduct p = product(form(c, a.codes(), b.codes(), workspace, s, betaValue != 0));
    p.scale(a.scale(), b.scale());
    run(p, p.algorithm(), c, a.codes(), b.codes(), workspace, 1, betaValue);
  }

  static Form form(Mem c, Mem a, Mem b, Mem workspace, Shape s, boolean adds) {
    long bytes = workspace == null ? 0 : workspace.bytes();
    return new Form(s, alignment(a), alignment(b), alignment(c), bytes, adds);
  }

  /** The largest power of two that divides the address, up to {@link #MOST_ALIGNMENT}. */
  private static int alignment(Mem m) {
    return (int) Long.lowestOneBit(m.address() | MOST_ALIGNMENT);
  }

  CublasLtProduct product(Form form) {
    CublasLtProduct p = products.get(form);
    if (p == null) {
      p = new CublasLtProduct(handle, form, architecture);
      products.put(form, p);
    }
    return p;
  }

  void run(
      CublasLtProduct p, CublasLtProduct.Algorithm how, Mem c, Mem a, Mem b, Mem workspace, float alphaValue,
      float betaValue) {
    // The two scalars are read while the call is issued, so one place for each will do.
    alpha.put(alphaValue);
    beta.put(betaValue);
    check(
        cublasLtMatmul(
            handle, p.operation(), alpha, b.pointer(), p.layoutB(), a.pointer(), p.layoutA(), beta, c.pointer(),
            p.layoutC(), c.pointer(), p.layoutC(), how.algo(), workspace == null ? null : workspace.pointer(),
            workspace == null ? 0 : workspace.bytes(), stream),
        "multiplying " + describe(p.form().shape()));
  }

  static String describe(Shape s) {
    return String.format(
        "%s[%d,%d] = %s%s · %s%s over %d, rows %d, %d, %d apart", s.typeC().label(), s.m(), s.n(), s.typeA().label(),
        s.transposeA() ? "ᵀ" : "", s.typeB().label(), s.transposeB() ? "ᵀ" : "", s.k(), s.lda(), s.ldb(), s.ldc());
  }

  static void check(int status, String what) {
    if (status != CUBLAS_STATUS_SUCCESS) {
      throw new OribiException(
          what + ": cublasLt reports " + cublasLtGetStatusName(status).getString()
              + "; run again with --debug-sync to learn which op is at fault");
    }
  }

  /** Logits in the type of the activations: half the memory and traffic in 16 bits; the loss is fp32 all the same. */
  @Override
  public DType logitsType(DType t) {
    return t;
  }

  /** Room for the partial sums of a product whose sum is split, up to what is usual. Also notes that the shape is planned. */
  @Override
  public long workspace(Shape s) {
    if (s.typeA() != s.typeB()) {
      throw new OribiException(
          "cublasLt multiplies operands of one type, not " + describe(s) + ": cast one of them first");
    }
    planned.add(s);
    long split = 4 * s.m() * s.n() * SPLITS;
    return Math.min(WORKSPACE, Math.max(SMALL_WORKSPACE, (split + MOST_ALIGNMENT - 1) / MOST_ALIGNMENT * MOST_ALIGNMENT));
  }

  /** The shapes that programs were planned with, each once. */
  Set<Shape> planned() {
    return Collections.unmodifiableSet(planned);
  }

  @Override
  public void close() {
    products.values().forEach(CublasLtProduct::close);
    products.clear();
    if (!handle.isNull()) {
      cublasLtDestroy(handle);
      handle.setNull();
    }
    alpha.close();
    beta.close();
  }
}
