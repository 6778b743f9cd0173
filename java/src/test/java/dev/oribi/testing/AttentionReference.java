package dev.oribi.testing;

import java.util.function.DoubleUnaryOperator;
import java.util.stream.IntStream;

/**
 * Causal attention of packed sequences in double, straight from the formulas: scores, softmax and gradients of one query row
 * at a time. Rows of q, o, dq have {@code heads * d} numbers, rows of k, v, dk, dv {@code kvHeads * d}.
 *
 * <p>With a rounding it is the plain implementation in a 16-bit type that kernels are measured against: what tensor cores read,
 * probabilities and gradients of scores, and what is stored, is rounded; all sums are exact.
 */
public final class AttentionReference {
  /** Sizes and masks; {@code window} 0 and {@code softcap} 0: none. */
  public record Shape(int[] cuSeqlens, int heads, int kvHeads, int d, double scale, int window, double softcap) {
    public int n() {
      return cuSeqlens[cuSeqlens.length - 1];
    }
  }

  public final double[] o;
  public final double[] lse;
  public double[] dq;
  public double[] dk;
  public double[] dv;

  private final Shape s;
  private final double[] q;
  private final double[] k;
  private final double[] v;
  private final DoubleUnaryOperator round;

  /** The forward pass, exact. */
  public AttentionReference(Shape shape, double[] q, double[] k, double[] v) {
    this(shape, q, k, v, x -> x);
  }

  /** The forward pass, rounded where a plain implementation rounds. */
  public AttentionReference(Shape shape, double[] q, double[] k, double[] v, DoubleUnaryOperator round) {
    this.round = round;
    this.s = shape;
    this.q = q;
    this.k = k;
    this.v = v;
    o = new double[q.length];
    lse = new double[shape.n() * shape.heads()];
    IntStream.range(0, shape.heads()).parallel().forEach(this::forwardHead);
    roundAll(o);
  }

  private void forwardHead(int h) {
    int d = s.d;
    int kh = h / (s.heads / s.kvHeads);
    for (int b = 0; b + 1 < s.cuSeqlens.length; b++) {
      for (int i = s.cuSeqlens[b]; i < s.cuSeqlens[b + 1]; i++) {
        int first = first(b, i);
        double[] scores = scores(i, first, h, kh);
        double max = Double.NEGATIVE_INFINITY;
        for (double x : scores) {
          max = Math.max(max, x);
        }
        double sum = 0;
        for (double x : scores) {
          sum += Math.exp(x - max);
        }
        lse[i * s.heads + h] = max + Math.log(sum);
        for (int j = first; j <= i; j++) {
          double p = round.applyAsDouble(Math.exp(scores[j - first] - max) / sum);
          for (int e = 0; e < d; e++) {
            o[(i * s.heads + h) * d + e] += p * v[(j * s.kvHeads + kh) * d + e];
          }
        }
      }
    }
  }

  private int first(int sequence, int row) {
    return s.window == 0 ? s.cuSeqlens[sequence] : Math.max(s.cuSeqlens[sequence], row - s.window + 1);
  }

  private double[] scores(int i, int first, int h, int kh) {
    double[] scores = new double[i - first + 1];
    for (int j = first; j <= i; j++) {
      double x = s.scale * dot(q, (i * s.heads + h) * s.d, k, (j * s.kvHeads + kh) * s.d);
      scores[j - first] = s.softcap == 0 ? x : s.softcap * Math.tanh(x / s.softcap);
    }
    return scores;
  }

  private double dot(double[] a, int at, double[] b, int bt) {
    double sum = 0;
    for (int e = 0; e < s.d; e++) {
      sum += a[at + e] * b[bt + e];
    }
    return sum;
  }

  /** The gradients, from that of o. */
  public void backward(double[] dOut) {
    dq = new double[q.length];
    dk = new double[k.length];
    dv = new double[v.length];
    // By key head: no two threads write the same row of dk or dv.
    IntStream.range(0, s.kvHeads).parallel().forEach(kh -> backwardGroup(kh, dOut));
    roundAll(dq);
    roundAll(dk);
    roundAll(dv);
  }

  private void roundAll(double[] x) {
    for (int i = 0; i < x.length; i++) {
      x[i] = round.applyAsDouble(x[i]);
    }
  }

  private void backwardGroup(int kh, double[] dOut) {
    int group = s.heads / s.kvHeads;
    for (int h = kh * group; h < (kh + 1) * group; h++) {
      for (int b = 0; b + 1 < s.cuSeqlens.length; b++) {
        for (int i = s.cuSeqlens[b]; i < s.cuSeqlens[b + 1]; i++) {
          backwardRow(i, first(b, i), h, kh, dOut);
        }
      }
    }
  }

  private void backwardRow(int i, int first, int h, int kh, double[] dOut) {
    int d = s.d;
    int row = (i * s.heads + h) * d;
    double[] scores = scores(i, first, h, kh);
    double sum = dot(dOut, row, o, row);
    for (int j = first; j <= i; j++) {
      int key = (j * s.kvHeads + kh) * d;
      double x = scores[j - first];
      double p = Math.exp(x - lse[i * s.heads + h]);
      double ds = p * (dot(dOut, row, v, key) - sum) * s.scale;
      if (s.softcap != 0) {
        ds *= 1 - x / s.softcap * (x / s.softcap);
      }
      p = round.applyAsDouble(p);
      ds = round.applyAsDouble(ds);
      for (int e = 0; e < d; e++) {
        dv[key + e] += p * dOut[row + e];
        dq[row + e] += ds * k[key + e];
        dk[key + e] += ds * q[row + e];
      }
    }
  }
}
