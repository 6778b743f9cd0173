package dev.oribi.train;

import dev.oribi.OribiException;
import dev.oribi.data.Batches;
import dev.oribi.data.MicroBatch;
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
    int whole = (int) Math.floor(config.numTrainEpochs);
    long steps = 0;
    for (int epoch = 0; epoch < whole; epoch++) {
      steps += steps(config, order.microBatches(epoch));
    }
    double rest = config.numTrainEpochs - whole;
    if (rest > 0) {
      steps += (long) Math.ceil(rest * steps(config, order.microBatches(whole)));
    }
    return Math.toIntExact(steps);
  }

  private static int steps(TrainConfig config, int microBatches) {
    return (microBatches + config.gradientAccumulationSteps - 1) / config.gradientAccumulationSteps;
  }
}
