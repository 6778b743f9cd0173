package dev.oribi.testing;

/** Weights in 8 bits written out plainly from the definition in {@code oribi.h}, apart from the kernels. */
public final class Int8Reference {
  private Int8Reference() {}

  /** What a matrix becomes by being quantized and dequantized; {@code w.length} is a multiple of 64. */
  public static double[] roundTrip(float[] w) {
    double[] back = new double[w.length];
    for (int begin = 0; begin < w.length; begin += 64) {
      float most = 0;
      for (int i = begin; i < begin + 64; i++) {
        most = Math.max(most, Math.abs(w[i]));
      }
      float scale = most / 127;
      for (int i = begin; i < begin + 64; i++) {
        back[i] = scale == 0 ? 0 : Math.rint(w[i] / scale) * scale;
      }
    }
    return back;
  }
}
