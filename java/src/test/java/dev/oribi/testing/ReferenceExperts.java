package dev.oribi.testing;

import dev.oribi.kernel.RouterShape;
import dev.oribi.kernel.RouterShape.Score;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;

/**
 * Routed experts in double, token by token and expert by expert, as Hugging Face writes them: the weight multiplies an expert's
 * output. SiLU only. Weights by the names that {@code ExpertsTest} gives them.
 */
public final class ReferenceExperts {
  /** Sizes: C hidden, F of an expert, S of the shared one (0: none), R rank (0: no adapters) and its scale. */
  public record Sizes(int hidden, int intermediate, int shared, int rank, double scale) {}

  private final Sizes sizes;
  private final RouterShape router;
  private final double[] bias;

  public ReferenceExperts(Sizes sizes, RouterShape router, double[] bias) {
    this.sizes = sizes;
    this.router = router;
    this.bias = bias;
  }

  /** delta[N,C] of x[N,C]. */
  public double[] forward(double[] x, Map<String, double[]> w) {
    int c = sizes.hidden;
    double[] delta = new double[x.length];
    for (int n = 0; n < x.length / c; n++) {
      double[] token = java.util.Arrays.copyOfRange(x, n * c, (n + 1) * c);
      double[] p = scores(product(token, w.get("gate.weight"), 0, router.experts()));
      List<Integer> chosen = choose(p);
      double sum = router.normalize() ? chosen.stream().mapToDouble(e -> p[e]).sum() : 1;
      for (int e : chosen) {
        add(delta, n * c, expert(token, e, w), p[e] / sum * router.scale());
      }
      if (sizes.shared > 0) {
        add(delta, n * c, mlp(token, w.get("shared.gate_up.weight"), w.get("shared.down.weight"), 0, sizes.shared), 1);
      }
    }
    return delta;
  }

  /** How many tokens chose each expert. */
  public int[] rows(double[] x, Map<String, double[]> w) {
    int[] rows = new int[router.experts()];
    for (int n = 0; n < x.length / sizes.hidden; n++) {
      double[] token = java.util.Arrays.copyOfRange(x, n * sizes.hidden, (n + 1) * sizes.hidden);
      choose(scores(product(token, w.get("gate.weight"), 0, router.experts()))).forEach(e -> rows[e]++);
    }
    return rows;
  }

  private double[] scores(double[] logits) {
    if (router.score() == Score.SIGMOID) {
      return IntStream.range(0, logits.length).mapToDouble(i -> 1 / (1 + Math.exp(-logits[i]))).toArray();
    }
    double sum = java.util.Arrays.stream(logits).map(Math::exp).sum();
    return java.util.Arrays.stream(logits).map(z -> Math.exp(z) / sum).toArray();
  }

  private List<Integer> choose(double[] p) {
    double[] choice = IntStream.range(0, p.length).mapToDouble(i -> p[i] + (bias == null ? 0 : bias[i])).toArray();
    int ofGroup = p.length / router.groups();
    double[] worth = new double[router.groups()];
    for (int g = 0; g < worth.length; g++) {
      int first = g * ofGroup;
      worth[g] = largest(choice, range(first, first + ofGroup), router.groupBest()).stream().mapToDouble(i -> choice[i]).sum();
    }
    List<Integer> allowed = new ArrayList<>();
    for (int g : largest(worth, range(0, worth.length), router.topGroups())) {
      allowed.addAll(range(g * ofGroup, (g + 1) * ofGroup));
    }
    return largest(choice, allowed, router.chosen());
  }

  private static List<Integer> range(int begin, int end) {
    return IntStream.range(begin, end).boxed().toList();
  }

  private static List<Integer> largest(double[] of, List<Integer> among, int count) {
    List<Integer> sorted = new ArrayList<>(among);
    sorted.sort(Comparator.comparingDouble(i -> -of[i]));
    return sorted.subList(0, count);
  }

  private double[] expert(double[] x, int e, Map<String, double[]> w) {
    int f = sizes.intermediate;
    int c = sizes.hidden;
    int r = sizes.rank;
    double[] gu = product(x, w.get("gate_up.weight"), e * 2 * f, 2 * f);
    if (r > 0) {
      double[] h = product(x, w.get("gate_up.lora_A"), e * 2 * r, 2 * r);
      addProduct(gu, 0, java.util.Arrays.copyOfRange(h, 0, r), w.get("gate.lora_B"), e * f, f);
      addProduct(gu, f, java.util.Arrays.copyOfRange(h, r, 2 * r), w.get("up.lora_B"), e * f, f);
    }
    double[] a = activated(gu, f);
    double[] y = product(a, w.get("down.weight"), e * c, c);
    if (r > 0) {
      addProduct(y, 0, product(a, w.get("down.lora_A"), e * r, r), w.get("down.lora_B"), e * c, c);
    }
    return y;
  }

  private double[] mlp(double[] x, double[] gateUp, double[] down, int first, int size) {
    return product(activated(product(x, gateUp, first, 2 * size), size), down, 0, sizes.hidden);
  }

  private static double[] activated(double[] gu, int f) {
    return IntStream.range(0, f).mapToDouble(i -> gu[i] / (1 + Math.exp(-gu[i])) * gu[f + i]).toArray();
  }

  private void addProduct(double[] y, int at, double[] h, double[] b, int firstRow, int rows) {
    double[] more = product(h, b, firstRow, rows);
    for (int i = 0; i < rows; i++) {
      y[at + i] += sizes.scale * more[i];
    }
  }

  private static void add(double[] y, int at, double[] x, double factor) {
    for (int i = 0; i < x.length; i++) {
      y[at + i] += factor * x[i];
    }
  }

  /** Rows firstRow .. of w, of the length of x, times x. */
  private static double[] product(double[] x, double[] w, int firstRow, int rows) {
    double[] y = new double[rows];
    for (int i = 0; i < rows; i++) {
      for (int k = 0; k < x.length; k++) {
        y[i] += x[k] * w[(firstRow + i) * x.length + k];
      }
    }
    return y;
  }
}
