package dev.oribi.train;

import dev.oribi.data.MicroBatch;
import java.util.List;

/**
 * What the {@link Trainer} asks of a model on a device: gradients of a micro-batch, and one update of the weights.
 *
 * <p>Gradients add up from {@link #microStep} to {@link #microStep} until {@link #update} uses and clears them. The
 * same calls in the same order from the same state give the same bits.
 *
 * <p>One thread at a time may use a step. Closing it frees the memory of its plan.
 */
public interface TrainStep extends AutoCloseable {
  /**
   * Forward and backward of one micro-batch; adds to the gradients those of {@code gradScale * (sum of the target
   * losses)}.
   *
   * @param gradScale one over the number of target tokens of the whole optimizer step, times the loss scale
   * @param dropoutStream names the random numbers of dropout; distinct for every micro-batch of the run
   * @return its loss; the pass need not be done yet
   */
  Loss startMicroStep(MicroBatch batch, double gradScale, long dropoutStream);

  /** Forward alone, without dropout. */
  Loss startEvaluation(MicroBatch batch);

  /**
   * The loss of a pass that may still be under way, so that the next can be issued before this one is done. Valid in any
   * order, also after later passes.
   */
  @FunctionalInterface
  interface Loss {
    /** The sum of the target losses, in nats, not scaled. Waits for this pass. */
    double sum();
  }

  /**
   * Tells which micro-batch {@link #startMicroStep} will be given next, so that its copies can be issued while the device is
   * at work. A hint: another may follow, or an evaluation.
   */
  default void prepare(MicroBatch next) {}

  /** {@link #startMicroStep} and its loss. */
  default double microStep(MicroBatch batch, double gradScale, long dropoutStream) {
    return startMicroStep(batch, gradScale, dropoutStream).sum();
  }

  /** {@link #startEvaluation} and its loss. */
  default double evaluate(MicroBatch batch) {
    return startEvaluation(batch).sum();
  }

  /**
   * Divides the gradients by the loss scale, clips them to {@link TrainConfig#maxGradNorm} (0: off), makes one AdamW update
   * and clears them. If the norm is not finite nothing is updated.
   *
   * @param step number of this update, from 1, those that were left out not counted: the exponent of AdamW's bias correction
   * @param lossScale how much larger than theirs the gradients are
   * @return the norm of the gradients, without the loss scale, before clipping
   */
  double update(long step, double learningRate, double lossScale);

  default double update(long step, double learningRate) {
    return update(step, learningRate, 1);
  }

  /** Whether the storage type is one whose gradients need a loss scale: fp16. */
  default boolean scalesLoss() {
    return false;
  }

  /** Loss of every target of the last micro-batch, in the order of the rows that have a target. Waits for it. */
  float[] lastLosses();

  /** Every tensor that {@link #update} changes, in an order that is the same for every run of a configuration. */
  List<TrainableTensor> trainable();

  /**
   * What else the optimizer remembers from update to update. Where it is empty AdamW's moments are parts of the tensors;
   * otherwise they are here, and the tensors have no moments of their own.
   */
  default List<StateColumn> stateColumns() {
    return List.of();
  }

  /** Sets the gradients to zero, as they are at first and after every {@link #update}. */
  void clearGradients();

  /** Bytes that the plan took: the peak, known before the first step. */
  long memoryBytes();

  /** Device and threads, in a few words for the log: {@code "CPU avx512, 2 threads, float32"}. */
  String describe();

  @Override
  void close();
}
