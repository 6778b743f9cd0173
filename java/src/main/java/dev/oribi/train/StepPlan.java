package dev.oribi.train;

import dev.oribi.OribiException;
import dev.oribi.data.Batches;
import dev.oribi.data.MicroBatch;
import java.math.BigDecimal;
import java.math.RoundingMode;
import java.util.ArrayList;
import java.util.List;

/**
 * The micro-batches of one optimizer step.
 *
 * @param batches in their order
 * @param end the micro-batch of the epoch after the last of these
 * @param ofEpoch micro-batches of the epoch
 * @param targetTokens target tokens of all of them: what the loss is divided by
 * @param tokens tokens of all of them
 */
record StepPlan(List<MicroBatch> batches, int end, int ofEpoch, long targetTokens, long tokens) {
  /** The next step after {@code state}; the last step of an epoch takes what is left of it. */
  static StepPlan next(TrainConfig config, Batches order, RunState state) {
    int ofEpoch = order.microBatches(state.epoch());
    int end = Math.min(state.microBatch() + config.gradientAccumulationSteps, ofEpoch);
    List<MicroBatch> batches = new ArrayList<>();
    long targetTokens = 0;
    long tokens = 0;
    for (int i = state.microBatch(); i < end; i++) {
      MicroBatch batch = config.overfitOneBatch ? order.get(0, 0) : order.get(state.epoch(), i);
      batches.add(batch);
      targetTokens += batch.targetTokens();
      tokens += batch.tokens();
    }
    if (targetTokens == 0) {
      throw new OribiException("Step " + (state.step() + 1) + " has no target token at all: its rows teach nothing.");
    }
    return new StepPlan(batches, end, ofEpoch, targetTokens, tokens);
  }

  /** Optimizer steps of a whole run: {@code max_steps}, or those of {@code num_train_epochs} epochs. */
  static int totalSteps(TrainConfig config, Batches order) {
    if (config.maxSteps > 0) {
      return config.maxSteps;
    }
    // In decimals, as it was written: a tenth of ten steps is one, which 2.1 - 2 in binary is a little more than.
    BigDecimal[] epochs = BigDecimal.valueOf(config.numTrainEpochs).divideAndRemainder(BigDecimal.ONE);
    long steps = 0;
    int epoch = 0;
    for (; epochs[0].compareTo(BigDecimal.valueOf(epoch)) > 0 && steps <= Integer.MAX_VALUE; epoch++) {
      steps += steps(config, order.microBatches(epoch));
    }
    if (epochs[1].signum() > 0) {
      BigDecimal rest = epochs[1].multiply(BigDecimal.valueOf(steps(config, order.microBatches(epoch))));
      steps += rest.setScale(0, RoundingMode.CEILING).longValueExact();
    }
    if (steps > Integer.MAX_VALUE) {
      throw new OribiException("--num-train-epochs is " + config.numTrainEpochs + ", which is more than " + Integer.MAX_VALUE
          + " optimizer steps: give fewer, or --max-steps.");
    }
    return (int) steps;
  }

  private static int steps(TrainConfig config, int microBatches) {
    return (microBatches + config.gradientAccumulationSteps - 1) / config.gradientAccumulationSteps;
  }
}
