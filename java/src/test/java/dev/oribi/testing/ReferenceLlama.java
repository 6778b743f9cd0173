package dev.oribi.testing;

import dev.oribi.model.config.LoraConfig;
import dev.oribi.model.config.ModelConfig;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Hugging Face's Llama with PEFT's LoRA, in double precision, one token after the other: no packing, no cache, no fusion, no
 * backward pass. Its gradient is a difference of its loss. It shares no code with what it judges but the
 * configuration records.
 */
public final class ReferenceLlama {
  /** One row of a dataset: {@code labels[i]} belongs to {@code ids[i]} and is predicted from what stands before it. */
  public record Sequence(int[] ids, int[] labels) {}

  /** Step of the central differences: about step^2 is cut off, about 1e-15 / step is lost to rounding. */
  private static final double STEP = 3e-5;

  private final ModelConfig config;
  private final Map<String, Double> scales = new HashMap<>();
  private final Map<String, double[]> weights;
  private final Map<String, double[]> dropout;

  /**
   * @param lora null without an adapter
   * @param weights by the names of the checkpoint and of PEFT, row-major; they are changed and put back by {@link #gradient}
   * @param dropout by module, [tokens of the batch, in]: 0 or 1/(1-p) for each input of the adapter; empty for none
   */
  public ReferenceLlama(
      ModelConfig config, LoraConfig lora, Map<String, double[]> weights, Map<String, double[]> dropout) {
    this.config = config;
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
    }
    for (int layer = 0; layer < config.numHiddenLayers(); layer++) {
      String name = "model.layers." + layer;
      add(x, attention(name + ".self_attn", norm(name + ".input_layernorm", x), firstRow));
      add(x, mlp(name + ".mlp", norm(name + ".post_attention_layernorm", x), firstRow));
    }
    double[][] last = norm("model.norm", x);
    double[][] logits = new double[ids.length][];
    for (int t = 0; t < ids.length; t++) {
      logits[t] = times(head(), last[t]);
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
    double[] w = weights.get(name + ".weight");
    double[][] y = new double[x.length][w.length];
    for (int t = 0; t < x.length; t++) {
      double squares = 0;
      for (double v : x[t]) {
        squares += v * v;
      }
      double rstd = 1 / Math.sqrt(squares / w.length + config.rmsNormEps());
      for (int c = 0; c < w.length; c++) {
        y[t][c] = x[t][c] * rstd * w[c];
      }
    }
    return y;
  }

  private double[][] attention(String name, double[][] x, int firstRow) {
    int d = config.headDim();
    double[][] q = rotated(linear(name + ".q_proj", x, firstRow));
    double[][] k = rotated(linear(name + ".k_proj", x, firstRow));
    double[][] v = linear(name + ".v_proj", x, firstRow);
    double[][] o = new double[x.length][config.numAttentionHeads() * d];
    for (int h = 0; h < config.numAttentionHeads(); h++) {
      int qAt = h * d;
      int kAt = h / config.groupSize() * d;
      for (int t = 0; t < x.length; t++) {
        double[] scores = new double[t + 1];
        for (int u = 0; u <= t; u++) {
          for (int i = 0; i < d; i++) {
            scores[u] += q[t][qAt + i] * k[u][kAt + i] / Math.sqrt(d);
          }
        }
        double lse = logSumExp(scores);
        for (int u = 0; u <= t; u++) {
          for (int i = 0; i < d; i++) {
            o[t][qAt + i] += Math.exp(scores[u] - lse) * v[u][kAt + i];
          }
        }
      }
    }
    return linear(name + ".o_proj", o, firstRow);
  }

  /** Half-split rotary positions: (x_i, x_{i+D/2}) turn by the angle t * inv_freq[i]. */
  private double[][] rotated(double[][] x) {
    int d = config.headDim();
    float[] invFreq = config.rope().invFreq(d);
    double[][] y = new double[x.length][x[0].length];
    for (int t = 0; t < x.length; t++) {
      for (int at = 0; at < x[t].length; at += d) {
        for (int i = 0; i < d / 2; i++) {
          double cos = Math.cos(t * (double) invFreq[i]);
          double sin = Math.sin(t * (double) invFreq[i]);
          double a = x[t][at + i];
          double b = x[t][at + i + d / 2];
          y[t][at + i] = a * cos - b * sin;
          y[t][at + i + d / 2] = b * cos + a * sin;
        }
      }
    }
    return y;
  }

  private double[][] mlp(String name, double[][] x, int firstRow) {
    double[][] gate = linear(name + ".gate_proj", x, firstRow);
    double[][] up = linear(name + ".up_proj", x, firstRow);
    for (int t = 0; t < x.length; t++) {
      for (int i = 0; i < up[t].length; i++) {
        up[t][i] *= activation(gate[t][i]);
      }
    }
    return linear(name + ".down_proj", up, firstRow);
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

  /** y = W x + scale * B A dropout(x) */
  private double[][] linear(String module, double[][] x, int firstRow) {
    double[] w = weights.get(module + ".weight");
    double[] a = weights.get(LoraConfig.tensorName(module, "lora_A"));
    double[] b = weights.get(LoraConfig.tensorName(module, "lora_B"));
    double[][] y = new double[x.length][];
    for (int t = 0; t < x.length; t++) {
      y[t] = times(w, x[t]);
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
    for (int layer = 0; layer < config.numHiddenLayers(); layer++) {
      for (String m : LoraConfig.LINEAR_MODULES) {
        String path = "model.layers." + layer + (m.matches("[qkvo]_proj") ? ".self_attn." : ".mlp.") + m;
        if (lora.targets(path)) {
          all.add(path);
        }
      }
    }
    return all;
  }
}
