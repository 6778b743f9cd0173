package dev.oribi.train;

import dev.oribi.optim.LossScale;

/**
 * Where a run stands between two optimizer steps; with the trained tensors all that is needed to go on.
 *
 * @param step optimizer steps made
 * @param epoch the epoch of the next micro-batch, from 0
 * @param microBatch the next micro-batch of that epoch, from 0
 * @param microBatches micro-batches trained on in all: the number that names the random numbers of dropout
 * @param tokens tokens of those
 * @param lossSum sum of the losses of the steps since the last line of the log
 * @param lossSteps their number
 * @param totalLoss sum of the losses of all steps
 * @param lossScale of the next step
 * @param skipped steps that changed nothing, because a gradient overflowed fp16
 */
record RunState(int step, int epoch, int microBatch, long microBatches, long tokens, double lossSum, int lossSteps,
    double totalLoss, LossScale lossScale, int skipped) {
  static RunState start(LossScale lossScale) {
    return new RunState(0, 0, 0, 0, 0, 0, 0, 0, lossScale, 0);
  }

  /** A checkpoint of before there was a loss scale has none. */
  RunState {
    lossScale = lossScale == null ? LossScale.NONE : lossScale;
  }

  /** Updates of the weights: the exponent of AdamW's bias correction. */
  int updates() {
    return step - skipped;
  }

  /** After one more step, which {@code updated} the weights or not. */
  RunState advance(StepPlan plan, double loss, LossScale next, boolean updated) {
    boolean epochEnds = plan.end() == plan.ofEpoch();
    return new RunState(step + 1, epochEnds ? epoch + 1 : epoch, epochEnds ? 0 : plan.end(),
        microBatches + plan.batches().size(), tokens + plan.tokens(), lossSum + loss, lossSteps + 1, totalLoss + loss,
        next, updated ? skipped : skipped + 1);
  }

  /** After a line of the log. */
  RunState logged() {
    return new RunState(step, epoch, microBatch, microBatches, tokens, 0, 0, totalLoss, lossScale, skipped);
  }

  /** With another loss scale. */
  RunState scaled(LossScale scale) {
    return new RunState(step, epoch, microBatch, microBatches, tokens, lossSum, lossSteps, totalLoss, scale, skipped);
  }
}
