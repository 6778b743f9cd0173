package dev.oribi.train;

import dev.oribi.data.MicroBatch;
import java.nio.FloatBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import java.util.function.DoubleFunction;

/**
 * A model small enough to check by eye: the next token depends on the present one alone, by a table of logits w[V,V].
 * Dropout zeroes single logits' gradients, so that a wrong stream of random numbers shows.
 */
final class BigramStep implements TrainStep {
  private final TrainConfig config;
  private final int vocabulary;
  private final float[] value;
  private final float[] moment1;
  private final float[] moment2;
  private final float[] gradient;
  private float[] lastLosses = {};

  /** Tokens of this id have a loss of NaN. */
  int poisonToken = -1;
  /** A gradient of infinity from this micro-batch on. */
  long poisonStream = Long.MAX_VALUE;
  /** A gradient above this is infinite, as in fp16; positive: the loss is scaled. */
  double largest;
  /** Called before each forward and backward pass. */
  Runnable beforeMicroStep = () -> {};
  /** Called before each update. */
  Runnable beforeUpdate = () -> {};
  int microSteps;
  /** The numbers of the updates that changed something. */
  final List<Long> updates = new ArrayList<>();
  /** Makes the loss that a pass returns. */
  DoubleFunction<Loss> losses = sum -> () -> sum;

  BigramStep(TrainConfig config, int vocabulary) {
    this.config = config;
    this.vocabulary = vocabulary;
    value = new float[vocabulary * vocabulary];
    moment1 = new float[value.length];
    moment2 = new float[value.length];
    gradient = new float[value.length];
    SplittableRandom random = new SplittableRandom(config.seed);
    for (int i = 0; i < value.length; i++) {
      value[i] = (float) (random.nextDouble() - 0.5);
    }
  }

  @Override
  public Loss startMicroStep(MicroBatch batch, double gradScale, long dropoutStream) {
    beforeMicroStep.run();
    microSteps++;
    SplittableRandom dropout = new SplittableRandom(config.seed * 31 + dropoutStream);
    double sum = forward(batch);
    for (int i = 0; i < batch.tokens(); i++) {
      if (batch.targets()[i] != MicroBatch.IGNORE) {
        double[] p = probabilities(batch.inputIds()[i]);
        p[batch.targets()[i]] -= 1;
        for (int j = 0; j < vocabulary; j++) {
          boolean kept = dropout.nextDouble() >= config.loraDropout;
          gradient[batch.inputIds()[i] * vocabulary + j] += kept ? (float) (gradScale * p[j]) : 0;
        }
      }
    }
    for (int i = 0; largest > 0 && i < gradient.length; i++) {
      gradient[i] = Math.abs(gradient[i]) > largest ? Float.POSITIVE_INFINITY : gradient[i];
    }
    if (dropoutStream >= poisonStream) {
      gradient[0] = Float.POSITIVE_INFINITY;
    }
    return losses.apply(sum);
  }

  @Override
  public Loss startEvaluation(MicroBatch batch) {
    return losses.apply(forward(batch));
  }

  private double forward(MicroBatch batch) {
    lastLosses = new float[batch.targetTokens()];
    double sum = 0;
    int target = 0;
    for (int i = 0; i < batch.tokens(); i++) {
      if (batch.targets()[i] != MicroBatch.IGNORE) {
        double loss = -Math.log(probabilities(batch.inputIds()[i])[batch.targets()[i]]);
        lastLosses[target] = batch.inputIds()[i] == poisonToken ? Float.NaN : (float) loss;
        sum += lastLosses[target++];
      }
    }
    return sum;
  }

  private double[] probabilities(int token) {
    double[] p = new double[vocabulary];
    double total = 0;
    for (int j = 0; j < vocabulary; j++) {
      p[j] = Math.exp(value[token * vocabulary + j]);
      total += p[j];
    }
    for (int j = 0; j < vocabulary; j++) {
      p[j] /= total;
    }
    return p;
  }

  @Override
  public double update(long step, double learningRate, double lossScale) {
    beforeUpdate.run();
    double square = 0;
    for (float g : gradient) {
      square += (double) g * g;
    }
    double norm = Math.sqrt(square) / lossScale;
    if (!Double.isFinite(norm)) {
      return norm;
    }
    updates.add(step);
    double scale = (config.maxGradNorm > 0 && norm > config.maxGradNorm ? config.maxGradNorm / norm : 1) / lossScale;
    for (int i = 0; i < value.length; i++) {
      double g = gradient[i] * scale;
      moment1[i] = (float) (config.adamBeta1 * moment1[i] + (1 - config.adamBeta1) * g);
      moment2[i] = (float) (config.adamBeta2 * moment2[i] + (1 - config.adamBeta2) * g * g);
      double m = moment1[i] / (1 - Math.pow(config.adamBeta1, step));
      double v = moment2[i] / (1 - Math.pow(config.adamBeta2, step));
      value[i] -= (float) (learningRate * (m / (Math.sqrt(v) + config.adamEpsilon) + config.weightDecay * value[i]));
    }
    clearGradients();
    return norm;
  }

  @Override
  public float[] lastLosses() {
    return lastLosses;
  }

  @Override
  public List<TrainableTensor> trainable() {
    return List.of(new Table());
  }

  @Override
  public void clearGradients() {
    Arrays.fill(gradient, 0);
  }

  @Override
  public boolean scalesLoss() {
    return largest > 0;
  }

  float[] values() {
    return value.clone();
  }

  float[] gradients() {
    return gradient.clone();
  }

  @Override
  public long memoryBytes() {
    return 16L * value.length;
  }

  @Override
  public String describe() {
    return "plain Java";
  }

  @Override
  public void close() {}

  private final class Table implements TrainableTensor {
    @Override
    public String name() {
      return "bigram.weight";
    }

    @Override
    public long[] shape() {
      return new long[] {vocabulary, vocabulary};
    }

    @Override
    public void read(Part part, FloatBuffer into) {
      into.put(array(part));
    }

    @Override
    public void write(Part part, FloatBuffer from) {
      from.get(array(part));
    }

    private float[] array(Part part) {
      return switch (part) {
        case VALUE -> value;
        case MOMENT1 -> moment1;
        case MOMENT2 -> moment2;
        case GRADIENT -> gradient;
      };
    }
  }
}
