package dev.oribi.train;

import dev.oribi.OribiException;
import dev.oribi.data.Batches;
import dev.oribi.data.MicroBatch;
import java.util.Optional;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/**
 * Makes the micro-batches of the next optimizer step on another thread while the present one is trained on; at the end of an
 * epoch also the order of the next. What comes next depends on the state alone, so the steps are those that would be made on
 * the spot.
 */
final class StepsAhead implements AutoCloseable {
  private final TrainConfig config;
  private final Batches order;
  private final int totalSteps;
  private final ExecutorService maker =
      Executors.newSingleThreadExecutor(
          work -> {
            Thread thread = new Thread(work, "oribi-data");
            thread.setDaemon(true);
            return thread;
          });
  private RunState ready;
  private Future<StepPlan> next;
  private int madeAhead;

  StepsAhead(TrainConfig config, Batches order, int totalSteps) {
    this.config = config;
    this.order = order;
    this.totalSteps = totalSteps;
  }

  /** The step after {@code state}; the one after it is begun. */
  StepPlan take(RunState state) {
    boolean made = next != null && ready.microBatch() == state.microBatch() && ready.epoch() == state.epoch();
    madeAhead += made ? 1 : 0;
    StepPlan plan = made ? get(next) : StepPlan.next(config, order, state);
    RunState after = state.advance(plan, 0, state.lossScale(), true);
    ready = after;
    next = after.step() < totalSteps ? maker.submit(() -> StepPlan.next(config, order, after)) : null;
    return plan;
  }

  /** The first micro-batch of the next step, if it is made already. */
  Optional<MicroBatch> peek() {
    try {
      return next != null && next.isDone() ? Optional.of(get(next).batches().get(0)) : Optional.empty();
    } catch (OribiException e) {
      return Optional.empty(); // told when it is that step's turn
    }
  }

  /** How many steps were made before they were asked for. */
  int madeAhead() {
    return madeAhead;
  }

  private static StepPlan get(Future<StepPlan> made) {
    try {
      return made.get();
    } catch (ExecutionException e) {
      if (e.getCause() instanceof RuntimeException cause) {
        throw cause; // Such as a step without a target: told when it is that step's turn.
      }
      throw new IllegalStateException(e.getCause());
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IllegalStateException("interrupted while data were made", e);
    }
  }

  @Override
  public void close() {
    maker.shutdownNow();
  }
}
