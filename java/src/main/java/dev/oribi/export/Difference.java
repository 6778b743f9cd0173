package dev.oribi.export;

import java.util.Locale;

/**
 * How far the logits of one form of a model are from those of another.
 *
 * @param positions how many distributions were compared
 * @param largest largest difference of any logit
 * @param kl mean Kullback-Leibler divergence of the second from the first, in nats
 * @param sameToken share of positions at which both find the same token most likely
 */
public record Difference(int positions, double largest, double kl, double sameToken) {
  static Difference between(float[][] first, float[][] second) {
    double largest = 0;
    double kl = 0;
    int same = 0;
    for (int i = 0; i < first.length; i++) {
      double a = logSumExp(first[i]);
      double b = logSumExp(second[i]);
      int bestA = 0;
      int bestB = 0;
      for (int v = 0; v < first[i].length; v++) {
        double p = first[i][v] - a;
        largest = Math.max(largest, Math.abs((double) first[i][v] - second[i][v]));
        kl += Math.exp(p) * (p - (second[i][v] - b));
        bestA = first[i][v] > first[i][bestA] ? v : bestA;
        bestB = second[i][v] > second[i][bestB] ? v : bestB;
      }
      same += bestA == bestB ? 1 : 0;
    }
    return new Difference(first.length, largest, Math.max(0, kl / first.length), (double) same / first.length);
  }

  private static double logSumExp(float[] row) {
    double most = Double.NEGATIVE_INFINITY;
    for (float x : row) {
      most = Math.max(most, x);
    }
    double sum = 0;
    for (float x : row) {
      sum += Math.exp(x - most);
    }
    return most + Math.log(sum);
  }

  /** One line for a user. */
  public String sentence() {
    return String.format(Locale.ROOT, "Against the trained model at %d positions: largest difference of a logit %.3g, KL %.3g, the same"
        + " likeliest token at %.1f %%.", positions, largest, kl, 100 * sameToken);
  }
}
