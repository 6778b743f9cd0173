package dev.oribi.gguf;

/**
 * How the K types find the scale of a group: they try several and keep the one with the least weighted square error.
 *
 * <p>For a trial scale the elements are rounded; then the scale (and the smallest value) that fit those integers best are the
 * solution of a weighted least squares problem of one (two) unknowns. The weights favour large elements. This is ggml's
 * choice where no importance matrix is given, in its order of operations and in fp32, so that the same scale wins.
 */
final class KSearch {
  /** Groups smaller than this are taken for zero. */
  static final float NOTHING = 1e-15f;

  private static final int GROUP = 32;
  private static final float STEP = 0.1f;

  /** Q6_K: trials with from -0.9 to 0.9 steps more than the range needs. */
  private static final int SIGNED_TRIALS = 9;

  private KSearch() {}

  /** Nearest integer, ties to even, of a number below 2^22 in size. */
  static int nearest(float value) {
    return (int) Math.rint(value);
  }

  /** x = scale q - min. */
  record Found(float scale, float min) {}

  /**
   * Which scales are tried for groups with a smallest value: the range of the group over {@code largest + first},
   * {@code largest + first + 0.1} ... steps.
   */
  enum Trials {
    FOUR_BITS(15, -1, 20),
    FIVE_BITS(31, -0.5f, 15);

    final int largest;
    final float first;
    final int count;

    Trials(int largest, float first, int count) {
      this.largest = largest;
      this.first = first;
      this.count = count;
    }
  }

  /** Scale and smallest value of 32 elements, and their integers from 0 on. */
  static Found withMin(Trials how, float[] x, int at, byte[] q, int into) {
    float squares = 0;
    float min = x[at];
    float max = x[at];
    for (int i = 0; i < GROUP; i++) {
      squares += x[at + i] * x[at + i];
      min = Math.min(min, x[at + i]);
      max = Math.max(max, x[at + i]);
    }
    float size = (float) Math.sqrt(squares / GROUP);
    float[] weight = new float[GROUP];
    float sumW = 0;
    float sumX = 0;
    for (int i = 0; i < GROUP; i++) {
      weight[i] = size + Math.abs(x[at + i]);
      sumW += weight[i];
      sumX += weight[i] * x[at + i];
    }
    min = Math.min(min, 0);
    if (max == min) {
      return new Found(0, -min); // q is zero already
    }
    return new Search(how, x, at, weight, sumW, sumX, min, max).run(q, into);
  }

  /** The trials on one group. */
  private static final class Search {
    private final Trials how;
    private final float[] x;
    private final int at;
    private final float[] weight;
    private final float sumW;
    private final float sumX;
    private final float max;
    private float min;
    private final int[] trial = new int[GROUP];
    private float sumL;
    private float sumLl;
    private float sumXl;

    Search(Trials how, float[] x, int at, float[] weight, float sumW, float sumX, float min, float max) {
      this.how = how;
      this.x = x;
      this.at = at;
      this.weight = weight;
      this.sumW = sumW;
      this.sumX = sumX;
      this.min = min;
      this.max = max;
    }

    Found run(byte[] q, int into) {
      float inverse = how.largest / (max - min);
      round(inverse);
      float scale = 1 / inverse;
      float least = error(scale, min);
      keep(q, into);
      for (int i = 0; i <= how.count; i++) {
        // From the smallest value that is the best so far, which need not be an element.
        round((how.first + STEP * i + how.largest) / (max - min));
        float determinant = sumW * sumLl - sumL * sumL;
        if (determinant <= 0) {
          continue;
        }
        float thisScale = (sumW * sumXl - sumX * sumL) / determinant;
        float thisMin = (sumLl * sumX - sumL * sumXl) / determinant;
        if (thisMin > 0) {
          thisMin = 0;
          thisScale = sumXl / sumLl;
        }
        float error = error(thisScale, thisMin);
        if (error < least) {
          keep(q, into);
          least = error;
          scale = thisScale;
          min = thisMin;
        }
      }
      return new Found(scale, -min);
    }

    private void round(float inverse) {
      sumL = sumLl = sumXl = 0;
      for (int i = 0; i < GROUP; i++) {
        int l = Math.max(0, Math.min(how.largest, nearest(inverse * (x[at + i] - min))));
        trial[i] = l;
        float w = weight[i];
        sumL += w * l;
        sumLl += w * l * l;
        sumXl += w * l * x[at + i];
      }
    }

    private float error(float scale, float min) {
      float error = 0;
      for (int i = 0; i < GROUP; i++) {
        float difference = scale * trial[i] + min - x[at + i];
        error += weight[i] * (difference * difference);
      }
      return error;
    }

    private void keep(byte[] q, int into) {
      for (int i = 0; i < GROUP; i++) {
        q[into + i] = (byte) trial[i];
      }
    }
  }

  /** The scale of 16 elements and their integers from -32 to 31, kept with 32 added. */
  static float signedSixBits(float[] x, int at, byte[] q, int into) {
    float extreme = 0;
    for (int i = 0; i < 16; i++) {
      extreme = Math.abs(x[at + i]) > Math.abs(extreme) ? x[at + i] : extreme;
    }
    if (Math.abs(extreme) < NOTHING) {
      return 0;
    }
    float[] sums = new float[2];
    signed(-32 / extreme, x, at, sums);
    float scale = sums[1] == 0 ? 0 : sums[0] / sums[1];
    float best = scale * sums[0];
    float inverse = -32 / extreme;
    for (int i = -SIGNED_TRIALS; i <= SIGNED_TRIALS; i++) {
      float trial = -(32 + STEP * i) / extreme;
      signed(trial, x, at, sums);
      if (i != 0 && sums[1] > 0 && sums[0] * sums[0] > best * sums[1]) {
        inverse = trial;
        scale = sums[0] / sums[1];
        best = scale * sums[0];
      }
    }
    for (int i = 0; i < 16; i++) {
      q[into + i] = (byte) (32 + sixBits(inverse * x[at + i]));
    }
    return scale;
  }

  /** Sums of w x q and w q q with the weights w = x x. */
  private static void signed(float inverse, float[] x, int at, float[] sums) {
    sums[0] = sums[1] = 0;
    for (int i = 0; i < 16; i++) {
      int l = sixBits(inverse * x[at + i]);
      float w = x[at + i] * x[at + i];
      sums[0] += w * x[at + i] * l;
      sums[1] += w * l * l;
    }
  }

  private static int sixBits(float value) {
    return Math.max(-32, Math.min(31, nearest(value)));
  }
}
