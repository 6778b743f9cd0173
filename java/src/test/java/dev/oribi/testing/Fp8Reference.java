package dev.oribi.testing;

import dev.oribi.device.Device;
import dev.oribi.device.Mem;
import dev.oribi.kernel.Fp8;
import java.nio.ByteBuffer;

/** Matrices in e4m3 written out plainly from the definition in {@code oribi.h}, apart from the kernels. */
public final class Fp8Reference {
  private static final int CODES = 0x7f; // of one sign; the last is NaN

  private Fp8Reference() {}

  /** The number that a code stands for. */
  public static double value(int code) {
    int exponent = code >> 3 & 15;
    int fraction = code & 7;
    double magnitude = exponent == 0 ? Math.scalb(fraction, -9) : Math.scalb(8.0 + fraction, exponent - 10);
    return (code & CODES) == CODES ? Double.NaN : (code & 0x80) != 0 ? -magnitude : magnitude;
  }

  /** What rows of finite numbers become by being rounded to e4m3 with a scale each. */
  public static double[] roundTrip(float[] x, int cols) {
    double[] back = new double[x.length];
    for (int begin = 0; begin < x.length; begin += cols) {
      float most = 0;
      for (int i = begin; i < begin + cols; i++) {
        most = Math.max(most, Math.abs(x[i]));
      }
      float scale = Math.max(most / 448, 0x1p-126f);
      float inverse = 1 / scale;
      for (int i = begin; i < begin + cols; i++) {
        back[i] = scale * rounded(x[i] * inverse);
      }
    }
    return back;
  }

  /** The nearest number of e4m3; of two that are as near the one with the even code; beyond 448, 448. */
  private static double rounded(float x) {
    int best = 0;
    for (int code = 1; code < CODES; code++) {
      double distance = Math.abs(value(code) - Math.abs(x));
      double least = Math.abs(value(best) - Math.abs(x));
      if (distance < least || distance == least && code % 2 == 0) {
        best = code;
      }
    }
    return Math.copySign(value(best), x);
  }

  /** The numbers of a matrix [rows, cols] on a device. */
  public static double[] read(Device device, Fp8 q, int rows, int cols) {
    byte[] codes = bytes(device, q.codes(), rows * cols);
    float[] scale = new float[rows];
    device.read(q.scale(), scale, 0, rows);
    double[] values = new double[rows * cols];
    for (int i = 0; i < values.length; i++) {
      values[i] = scale[i / cols] * value(codes[i] & 0xff);
    }
    return values;
  }

  private static byte[] bytes(Device device, Mem from, int count) {
    ByteBuffer into = ByteBuffer.allocateDirect(count);
    device.read(from.slice(0, count), into);
    byte[] bytes = new byte[count];
    into.flip().get(bytes);
    return bytes;
  }
}
