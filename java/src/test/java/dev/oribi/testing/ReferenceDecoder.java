package dev.oribi.testing;

import dev.oribi.kernel.Kernels.NormWeight;
import dev.oribi.model.config.LoraConfig;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.config.RopeConfig;
import dev.oribi.model.family.Architecture;
import dev.oribi.model.family.Architecture.GatedMlpSpec;
import dev.oribi.model.family.Architecture.SelfAttentionSpec;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * A decoder as Hugging Face writes it, with PEFT's LoRA, in double precision, one token after the other: no packing, no cache,
 * no fusion, no backward pass. Its gradient is a difference of its loss. It shares no code with what it judges but the
 * configuration records and the frequencies of the rotary positions, which have tests of their own.
 */
public final class ReferenceDecoder {
  /** One row of a dataset: {@code labels[i]} belongs to {@code ids[i]} and is predicted from what stands before it. */
  public record Sequence(int[] ids, int[] labels) {}

  /** Step of the central differences: about step^2 is cut off, about 1e-15 / step is lost to rounding. */
  private static final double STEP = 3e-5;

  private final ModelConfig config;
  private final Architecture architecture;
  private final Map<String, Double> scales = new HashMap<>();
  private final Map<String, double[]> weights;
  private final Map<String, double[]> dropout;
  private int longest = 512;
  private int asLongAs;

  /** Tokens of the longest sequence that the model was made for; {@link StepFixture} makes them for 512. */
  public ReferenceDecoder longest(int tokens) {
    longest = tokens;
    return this;
  }

  /** Every text turns as the beginning of one of so many tokens, as in generation with a cache. */
  public ReferenceDecoder asBeginningOf(int tokens) {
    asLongAs = tokens;
    return longest(tokens);
  }

  /**
   * @param lora null without an adapter
   * @param weights by the names of the checkpoint and of PEFT, row-major; they are changed and put back by {@link #gradient}
   * @param dropout by module, [tokens of the batch, in]: 0 or 1/(1-p) for each input of the adapter; empty for none
   */
  public ReferenceDecoder(
      ModelConfig config, LoraConfig lora, Map<String, double[]> weights, Map<String, double[]> dropout) {
    this.config = config;
    this.architecture = config.architecture();
    if (lora != null) {
      adapted(config, lora).forEach(module -> scales.put(module, lora.scale(module)));
    }
    this.weights = weights;
    this.dropout = dropout;
  }

  /** Sum of the losses of all tokens whose label is not negative, in nats. */
  public double lossSum(List<Sequence> batch) {
    double sum = 0;
    int firstRow = 0;
    for (Sequence s : batch) {
      double[][] logits = logits(s.ids, firstRow);
      for (int t = 0; t + 1 < s.ids.length; t++) {
        int label = s.labels[t + 1];
        if (label >= 0) {
          sum += logSumExp(logits[t]) - logits[t][label];
        }
      }
      firstRow += s.ids.length;
    }
    return sum;
  }

  /** Gradient of {@code scale * lossSum} with respect to the named tensors. */
  public Map<String, double[]> gradient(List<Sequence> batch, Collection<String> names, double scale) {
    Map<String, double[]> gradient = new LinkedHashMap<>();
    for (String name : names) {
      double[] w = weights.get(name);
      double[] dw = new double[w.length];
      for (int i = 0; i < w.length; i++) {
        dw[i] = scale * (lossWith(batch, w, i, STEP) - lossWith(batch, w, i, -STEP)) / (2 * STEP);
      }
      gradient.put(name, dw);
    }
    return gradient;
  }

  private double lossWith(List<Sequence> batch, double[] w, int i, double change) {
    double kept = w[i];
    w[i] = kept + change;
    double loss = lossSum(batch);
    w[i] = kept;
    return loss;
  }

  /**
   * Logits [T, V] of one sequence.
   *
   * @param firstRow row of its first token in the batch, for the dropout masks
   */
  public double[][] logits(int[] ids, int firstRow) {
    double[] embedding = embedding();
    double[][] x = new double[ids.length][];
    for (int t = 0; t < ids.length; t++) {
      x[t] = row(embedding, ids[t], config.hiddenSize());
      for (int c = 0; c < x[t].length; c++) {
        x[t][c] *= (float) architecture.embeddingScale();
      }
    }
    for (int layer = 0; layer < config.numHiddenLayers(); layer++) {
      String name = "model.layers." + layer + ".";
      Architecture.Layer spec = architecture.layers().get(layer);
      add(x, attention(name, (SelfAttentionSpec) spec.attention(), norm(name + spec.inputNorm(), x), firstRow));
      add(x, mlp(name, (GatedMlpSpec) spec.mlp(), norm(name + spec.midNorm(), x), firstRow));
    }
    double[][] last = norm("model.norm", x);
    double[][] logits = new double[ids.length][];
    for (int t = 0; t < ids.length; t++) {
      logits[t] = times(head(), last[t]);
      for (int i = 0; i < logits[t].length; i++) {
        logits[t][i] = capped(logits[t][i] * architecture.logitScale(), architecture.logitSoftcap());
      }
    }
    return logits;
  }

  private double[] embedding() {
    return weights.getOrDefault(LoraConfig.savedName("model.embed_tokens"), weights.get("model.embed_tokens.weight"));
  }

  private double[] head() {
    double[] own = weights.getOrDefault(LoraConfig.savedName("lm_head"), weights.get("lm_head.weight"));
    return own != null ? own : embedding();
  }

  private double[][] norm(String name, double[][] x) {
    double[][] y = new double[x.length][];
    for (int t = 0; t < x.length; t++) {
      y[t] = norm(name, x[t], 0, x[t].length);
    }
    return y;
  }

  /** Of the channels from {@code begin} on; the others stay as they are. */
  private double[] norm(String name, double[] x, int begin, int size) {
    double[] w = weights.get(name + ".weight");
    double squares = 0;
    for (int c = begin; c < begin + size; c++) {
      squares += x[c] * x[c];
    }
    double rstd = 1 / Math.sqrt(squares / size + config.rmsNormEps());
    double[] y = x.clone();
    for (int c = 0; c < size; c++) {
      y[begin + c] *= rstd * (architecture.norm() == NormWeight.ONE_PLUS ? 1 + w[c] : w[c]);
    }
    return y;
  }

  private static double capped(double x, double cap) {
    return cap == 0 ? x : cap * Math.tanh(x / cap);
  }

  private double[][] attention(String name, SelfAttentionSpec spec, double[][] x, int firstRow) {
    int d = config.headDim();
    int heads = config.numAttentionHeads();
    int kvHeads = config.numKeyValueHeads();
    double[][] qkv = stacked(name, spec.qkv(), x, firstRow);
    double[][] q = turned(part(qkv, 0, heads * d), name, spec.qNorm(), spec.rope());
    double[][] k = turned(part(qkv, heads * d, kvHeads * d), name, spec.kNorm(), spec.rope());
    double[][] v = part(qkv, (heads + kvHeads) * d, kvHeads * d);
    double[][] o = new double[x.length][heads * d];
    for (int h = 0; h < heads; h++) {
      int qAt = h * d;
      int kAt = h / config.groupSize() * d;
      for (int t = 0; t < x.length; t++) {
        int first = spec.window() == 0 ? 0 : Math.max(0, t - spec.window() + 1);
        double[] scores = new double[t + 1 - first];
        for (int u = first; u <= t; u++) {
          double score = 0;
          for (int i = 0; i < d; i++) {
            score += q[t][qAt + i] * k[u][kAt + i] * spec.scale();
          }
          scores[u - first] = capped(score, spec.softcap());
        }
        double lse = logSumExp(scores);
        for (int u = first; u <= t; u++) {
          for (int i = 0; i < d; i++) {
            o[t][qAt + i] += Math.exp(scores[u - first] - lse) * v[u][kAt + i];
          }
        }
      }
    }
    double[][] y = linear(name + spec.o(), o, firstRow);
    return spec.outputNorm() == null ? y : norm(name + spec.outputNorm(), y);
  }

  private static double[][] part(double[][] x, int begin, int count) {
    double[][] y = new double[x.length][];
    for (int t = 0; t < x.length; t++) {
      y[t] = Arrays.copyOfRange(x[t], begin, begin + count);
    }
    return y;
  }

  /** Projections of one input side by side. */
  private double[][] stacked(String layer, List<String> modules, double[][] x, int firstRow) {
    double[][] all = new double[x.length][0];
    for (String module : modules) {
      double[][] y = linear(layer + module, x, firstRow);
      for (int t = 0; t < x.length; t++) {
        int old = all[t].length;
        all[t] = Arrays.copyOf(all[t], old + y[t].length);
        System.arraycopy(y[t], 0, all[t], old, y[t].length);
      }
    }
    return all;
  }

  /**
   * Each head normalised, if its norm has a name, and turned: half-split rotary positions, (x_i, x_{i+R/2}) turn by the angle t *
   * inv_freq[i] for the first R channels.
   */
  private double[][] turned(double[][] x, String layer, String headNorm, int ropeIndex) {
    if (ropeIndex == SelfAttentionSpec.NO_ROPE) {
      return x;
    }
    int d = config.headDim();
    RopeConfig rope = architecture.ropes().get(ropeIndex);
    boolean isLong = rope.dependsOnLength() && Math.max(asLongAs, x.length) > rope.originalMaxPositionEmbeddings();
    float[] invFreq = isLong ? rope.invFreqOfLong(d, longest) : rope.invFreq(d);
    int half = invFreq.length;
    double[][] y = new double[x.length][x[0].length];
    for (int t = 0; t < x.length; t++) {
      for (int at = 0; at < x[t].length; at += d) {
        double[] head = headNorm == null ? x[t] : norm(layer + headNorm, x[t], at, d);
        System.arraycopy(head, at, y[t], at, d);
        for (int i = 0; i < half; i++) {
          double cos = Math.cos(t * (double) invFreq[i]) * rope.attentionFactor();
          double sin = Math.sin(t * (double) invFreq[i]) * rope.attentionFactor();
          double a = head[at + i];
          double b = head[at + i + half];
          y[t][at + i] = a * cos - b * sin;
          y[t][at + i + half] = b * cos + a * sin;
        }
      }
    }
    return y;
  }

  private double[][] mlp(String name, GatedMlpSpec spec, double[][] x, int firstRow) {
    int size = config.intermediateSize();
    double[][] gateUp = stacked(name, spec.gateUp(), x, firstRow);
    double[][] f = part(gateUp, size, size);
    for (int t = 0; t < x.length; t++) {
      for (int i = 0; i < size; i++) {
        f[t][i] *= activation(gateUp[t][i]);
      }
    }
    double[][] y = linear(name + spec.down(), f, firstRow);
    return spec.outputNorm() == null ? y : norm(name + spec.outputNorm(), y);
  }

  private double activation(double x) {
    return switch (config.hiddenAct()) {
      case "silu" -> x / (1 + Math.exp(-x));
      case "gelu_pytorch_tanh" -> x / 2 * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x)));
      case "gelu" -> x / 2 * (1 + erf(x / Math.sqrt(2)));
      default -> throw new IllegalArgumentException(config.hiddenAct());
    };
  }

  /** Its Taylor series, which is exact enough for the small arguments of the tests. */
  public static double erf(double x) {
    double sum = 0;
    double term = x;
    for (int n = 0; n < 200; n++) {
      sum += term / (2 * n + 1);
      term *= -x * x / (n + 1);
    }
    return 2 / Math.sqrt(Math.PI) * sum;
  }

  /** y = W x + bias + scale * B A dropout(x) */
  private double[][] linear(String module, double[][] x, int firstRow) {
    double[] w = weights.get(module + ".weight");
    double[] bias = weights.get(module + ".bias");
    double[] a = weights.get(LoraConfig.tensorName(module, "lora_A"));
    double[] b = weights.get(LoraConfig.tensorName(module, "lora_B"));
    double[][] y = new double[x.length][];
    for (int t = 0; t < x.length; t++) {
      y[t] = times(w, x[t]);
      for (int i = 0; bias != null && i < bias.length; i++) {
        y[t][i] += bias[i];
      }
      if (a != null) {
        double[] update = times(b, times(a, dropped(module, x[t], firstRow + t)));
        for (int i = 0; i < y[t].length; i++) {
          y[t][i] += scales.get(module) * update[i];
        }
      }
    }
    return y;
  }

  private double[] dropped(String module, double[] x, int row) {
    double[] mask = dropout.get(module);
    if (mask == null) {
      return x;
    }
    double[] y = new double[x.length];
    for (int c = 0; c < x.length; c++) {
      y[c] = x[c] * mask[row * x.length + c];
    }
    return y;
  }

  // --------------------------------------------------------------------------------------------------------- algebra

  private static double[] times(double[] w, double[] x) {
    double[] y = new double[w.length / x.length];
    for (int i = 0; i < y.length; i++) {
      for (int j = 0; j < x.length; j++) {
        y[i] += w[i * x.length + j] * x[j];
      }
    }
    return y;
  }

  private static double[] row(double[] table, int index, int cols) {
    double[] r = new double[cols];
    System.arraycopy(table, index * cols, r, 0, cols);
    return r;
  }

  private static void add(double[][] x, double[][] y) {
    for (int t = 0; t < x.length; t++) {
      for (int c = 0; c < x[t].length; c++) {
        x[t][c] += y[t][c];
      }
    }
  }

  private static double logSumExp(double[] x) {
    double max = Double.NEGATIVE_INFINITY;
    for (double v : x) {
      max = Math.max(max, v);
    }
    double sum = 0;
    for (double v : x) {
      sum += Math.exp(v - max);
    }
    return max + Math.log(sum);
  }

  /** Modules that have an adapter, in the order of the model. */
  public static List<String> adapted(ModelConfig config, LoraConfig lora) {
    List<String> all = new ArrayList<>();
    List<Architecture.Layer> layers = config.architecture().layers();
    for (int layer = 0; layer < layers.size(); layer++) {
      SelfAttentionSpec attention = (SelfAttentionSpec) layers.get(layer).attention();
      GatedMlpSpec mlp = (GatedMlpSpec) layers.get(layer).mlp();
      List<String> modules = new ArrayList<>(attention.qkv());
      modules.add(attention.o());
      modules.addAll(mlp.gateUp());
      modules.add(mlp.down());
      for (String m : modules) {
        String path = "model.layers." + layer + "." + m;
        if (lora.targets(path)) {
          all.add(path);
        }
      }
    }
    return all;
  }
}
