package dev.oribi.testing;

/**
 * NF4 with double quantization written out plainly from bitsandbytes' definition, apart from the kernels and from {@code
 * dev.oribi.quant}: the nearest of the values, found by looking at all of them.
 */
public final class Nf4Reference {
  private static final double[] NF4 = {
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0
  };

  private Nf4Reference() {}

  /** What a matrix becomes by being quantized and dequantized; {@code w.length} is a multiple of 64. */
  public static double[] roundTrip(float[] w) {
    int blocks = w.length / 64;
    double[] absmax = new double[blocks];
    double mean = 0;
    for (int b = 0; b < blocks; b++) {
      for (int i = 64 * b; i < 64 * (b + 1); i++) {
        absmax[b] = Math.max(absmax[b], Math.abs(w[i]));
      }
      mean += absmax[b] / blocks;
    }
    double[] scales = scales(absmax, mean);
    double[] back = new double[w.length];
    for (int i = 0; i < w.length; i++) {
      back[i] = nearest(NF4, w[i] / absmax[i / 64]) * scales[i / 64];
    }
    return back;
  }

  /** The scales after their own quantization: 256 at a time, less their mean, in the dynamic 8-bit type. */
  private static double[] scales(double[] absmax, double mean) {
    double[] map = dynamicMap();
    double[] scales = new double[absmax.length];
    for (int begin = 0; begin < absmax.length; begin += 256) {
      int end = Math.min(absmax.length, begin + 256);
      double most = 0;
      for (int b = begin; b < end; b++) {
        most = Math.max(most, Math.abs(absmax[b] - mean));
      }
      for (int b = begin; b < end; b++) {
        scales[b] = nearest(map, (absmax[b] - mean) / most) * most + mean;
      }
    }
    return scales;
  }

  /** Seven decades, the i-th of them in 2^i steps, with both signs; 0 and 1. */
  private static double[] dynamicMap() {
    double[] map = new double[256];
    int n = 0;
    for (int i = 0; i < 7; i++) {
      double step = 0.9 / (1 << i);
      for (int k = 0; k < 1 << i; k++) {
        double value = (0.1 + step * k + step / 2) * Math.pow(10, i - 6);
        map[n++] = value;
        map[n++] = -value;
      }
    }
    map[n] = 1;
    return map;
  }

  private static double nearest(double[] values, double x) {
    double best = values[0];
    for (double v : values) {
      if (Math.abs(v - x) < Math.abs(best - x)) {
        best = v;
      }
    }
    return best;
  }
}
