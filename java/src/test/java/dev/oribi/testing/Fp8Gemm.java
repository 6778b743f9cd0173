package dev.oribi.testing;

import dev.oribi.device.Device;
import dev.oribi.device.Mem;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.Fp8;
import dev.oribi.kernel.Gemm;
import dev.oribi.model.Machine;

/**
 * A CPU's products, and those of matrices in e4m3 as their definition says, in double and rounded once: so what is written with
 * products in FP8 can be tested where there is no card that has them. fp32 alone.
 */
public final class Fp8Gemm implements Gemm {
  private final Device device;
  private final Gemm plain;

  private Fp8Gemm(Device device, Gemm plain) {
    this.device = device;
    this.plain = plain;
  }

  /** The device under test with products in FP8: a card's own, or these. */
  public static Machine open() {
    Machine m = TestMachine.open(2);
    return m.isCuda() ? m : on(m);
  }

  /** {@code m} with these products; closing one closes the other. */
  public static Machine on(Machine m) {
    return new Machine(
        m.device(), m.kernels(), new Fp8Gemm(m.device(), m.gemm()), m.attention(), m.ahead(), m.lanes(), m.options(), "");
  }

  @Override
  public String noFp8() {
    return "";
  }

  @Override
  public void multiplyFp8(Mem c, Fp8 a, Fp8 b, Mem workspace, Shape s, float beta) {
    double[] x = Fp8Reference.read(device, a, (int) s.m(), (int) s.k());
    double[] w = Fp8Reference.read(device, b, (int) s.n(), (int) s.k());
    float[] y = new float[(int) ((s.m() - 1) * s.ldc() + s.n())];
    device.read(c, y, 0, y.length);
    for (int i = 0; i < s.m(); i++) {
      for (int j = 0; j < s.n(); j++) {
        double sum = 0;
        for (int l = 0; l < s.k(); l++) {
          sum += x[(int) (i * s.k() + l)] * w[(int) (j * s.k() + l)];
        }
        int at = (int) (i * s.ldc() + j);
        y[at] = (float) (beta == 0 ? sum : sum + beta * y[at]);
      }
    }
    device.write(c, y, 0, y.length);
  }

  @Override
  public void multiply(Mem c, Mem a, Mem b, Mem workspace, Shape shape, float alpha, float beta) {
    plain.multiply(c, a, b, workspace, shape, alpha, beta);
  }

  @Override
  public DType logitsType(DType t) {
    return plain.logitsType(t);
  }

  @Override
  public long workspace(Shape shape) {
    return shape.typeA() == DType.E4M3 ? 0 : plain.workspace(shape);
  }

  @Override
  public void close() {
    plain.close();
  }
}
