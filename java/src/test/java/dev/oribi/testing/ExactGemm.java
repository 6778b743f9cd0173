package dev.oribi.testing;

import dev.oribi.device.Device;
import dev.oribi.device.Mem;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.Gemm;

/** Products of fp32 matrices summed in double and rounded once: what is left of a difference is not theirs. */
public final class ExactGemm implements Gemm {
  private final Device device;

  /** Operands are read from and written to {@code device}. */
  public ExactGemm(Device device) {
    this.device = device;
  }

  @Override
  public void multiply(Mem c, Mem a, Mem b, Mem workspace, Shape s, float alpha, float beta) {
    if (s.typeA() != DType.F32 || s.typeB() != DType.F32 || s.typeC() != DType.F32) {
      throw new IllegalArgumentException("fp32 only: " + s);
    }
    float[] left = read(a, s.transposeA() ? s.k() : s.m(), s.lda(), s.transposeA() ? s.m() : s.k());
    float[] right = read(b, s.transposeB() ? s.n() : s.k(), s.ldb(), s.transposeB() ? s.k() : s.n());
    float[] result = read(c, s.m(), s.ldc(), s.n());
    for (int i = 0; i < s.m(); i++) {
      int row = (int) (i * s.ldc());
      for (int j = 0; j < s.n(); j++) {
        double sum = 0;
        for (int l = 0; l < s.k(); l++) {
          long x = s.transposeA() ? l * s.lda() + i : i * s.lda() + l;
          long y = s.transposeB() ? j * s.ldb() + l : l * s.ldb() + j;
          sum += (double) left[(int) x] * right[(int) y];
        }
        result[row + j] = (float) (alpha * sum + (beta == 0 ? 0 : (double) beta * result[row + j]));
      }
    }
    if (result.length > 0) {
      device.write(c, result, 0, result.length);
    }
  }

  private float[] read(Mem m, long rows, long ld, long cols) {
    if (rows == 0 || cols == 0) {
      return new float[0];
    }
    float[] values = new float[(int) ((rows - 1) * ld + cols)];
    device.read(m, values, 0, values.length);
    return values;
  }

  @Override
  public DType logitsType(DType t) {
    return DType.F32;
  }

  @Override
  public long workspace(Shape shape) {
    return 0;
  }

  @Override
  public void close() {}
}
