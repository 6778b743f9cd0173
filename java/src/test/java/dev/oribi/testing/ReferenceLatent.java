package dev.oribi.testing;

import dev.oribi.kernel.LatentShape;
import java.util.Arrays;
import java.util.Map;

/**
 * Multi-head latent attention in double, as Hugging Face's DeepSeek writes it. Weights by the names that {@code
 * LatentAttentionTest} gives them; adapters, where {@code rank} is not 0, by those with lora_A and lora_B.
 *
 * @param hidden C
 * @param qRank q_lora_rank; 0: none
 * @param kvRank kv_lora_rank
 * @param lengths of the sequences
 * @param cos [positions, rope/2]
 */
public record ReferenceLatent(
    int hidden, int qRank, int kvRank, LatentShape shape, double eps, int rank, double loraScale, int[] lengths, double[] cos,
    double[] sin) {
  /** y[N,C] of x[N,C]. */
  public double[] forward(double[] x, Map<String, double[]> w) {
    double[] y = new double[x.length];
    int first = 0;
    for (int length : lengths) {
      sequence(x, y, first, length, w);
      first += length;
    }
    return y;
  }

  private void sequence(double[] x, double[] y, int first, int length, Map<String, double[]> w) {
    int d = shape.headDim();
    double[][] q = new double[length][];
    double[][] kv = new double[length][];
    double[][] kRope = new double[length][];
    for (int t = 0; t < length; t++) {
      double[] token = Arrays.copyOfRange(x, (first + t) * hidden, (first + t + 1) * hidden);
      q[t] = qRank == 0
          ? linear(token, w, "q_proj", shape.heads() * d)
          : linear(norm(linear(token, w, "q_a_proj", qRank), w.get("q_a_layernorm.weight")), w, "q_b_proj", shape.heads() * d);
      for (int h = 0; h < shape.heads(); h++) {
        rotate(q[t], h * d + shape.nope(), t);
      }
      double[] a = linear(token, w, "kv_a_proj_with_mqa", kvRank + shape.rope());
      kRope[t] = Arrays.copyOfRange(a, kvRank, a.length);
      rotate(kRope[t], 0, t);
      kv[t] = linear(norm(Arrays.copyOf(a, kvRank), w.get("kv_a_layernorm.weight")), w, "kv_b_proj", (int) shape.kv());
      double[] out = new double[(int) shape.out()];
      for (int h = 0; h < shape.heads(); h++) {
        attend(out, q[t], kv, kRope, h, t);
      }
      double[] result = linear(out, w, "o_proj", hidden);
      System.arraycopy(result, 0, y, (first + t) * hidden, hidden);
    }
  }

  private void attend(double[] out, double[] q, double[][] kv, double[][] kRope, int head, int last) {
    int d = shape.headDim();
    int row = head * (shape.nope() + shape.v());
    double[] p = new double[last + 1];
    double sum = 0;
    for (int t = 0; t <= last; t++) {
      double score = 0;
      for (int i = 0; i < shape.nope(); i++) {
        score += q[head * d + i] * kv[t][row + i];
      }
      for (int i = 0; i < shape.rope(); i++) {
        score += q[head * d + shape.nope() + i] * kRope[t][i];
      }
      sum += p[t] = Math.exp(score / Math.sqrt(d));
    }
    for (int t = 0; t <= last; t++) {
      for (int i = 0; i < shape.v(); i++) {
        out[head * shape.v() + i] += p[t] / sum * kv[t][row + shape.nope() + i];
      }
    }
  }

  private void rotate(double[] x, int at, int position) {
    int half = shape.rope() / 2;
    for (int i = 0; i < half; i++) {
      int low = at + (shape.interleaved() ? 2 * i : i);
      int high = shape.interleaved() ? low + 1 : low + half;
      double c = cos[position * half + i];
      double s = sin[position * half + i];
      double a = x[low];
      double b = x[high];
      x[low] = a * c - b * s;
      x[high] = b * c + a * s;
    }
  }

  private double[] norm(double[] x, double[] weight) {
    double squares = Arrays.stream(x).map(v -> v * v).sum();
    double scale = 1 / Math.sqrt(squares / x.length + eps);
    double[] y = new double[x.length];
    for (int i = 0; i < x.length; i++) {
      y[i] = x[i] * scale * weight[i];
    }
    return y;
  }

  private double[] linear(double[] x, Map<String, double[]> w, String name, int out) {
    double[] y = product(x, w.get(name + ".weight"), out);
    if (rank > 0) {
      double[] more = product(product(x, w.get(name + ".lora_A"), rank), w.get(name + ".lora_B"), out);
      for (int i = 0; i < out; i++) {
        y[i] += loraScale * more[i];
      }
    }
    return y;
  }

  private static double[] product(double[] x, double[] w, int rows) {
    double[] y = new double[rows];
    for (int i = 0; i < rows; i++) {
      for (int k = 0; k < x.length; k++) {
        y[i] += x[k] * w[i * x.length + k];
      }
    }
    return y;
  }
}
