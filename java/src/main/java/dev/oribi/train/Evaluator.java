package dev.oribi.train;

import dev.oribi.OribiException;
import dev.oribi.data.Batches;
import dev.oribi.data.MicroBatch;
import dev.oribi.kernel.DType;
import dev.oribi.model.FrozenStorage;
import dev.oribi.model.Decoder;
import dev.oribi.model.Decoder.Inputs;
import dev.oribi.model.Decoder.Training;
import dev.oribi.model.Machine;
import dev.oribi.model.Weights;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.program.Emit;
import dev.oribi.program.EmitLoss;
import dev.oribi.program.Executor;
import dev.oribi.program.Plan;
import dev.oribi.program.Program;
import dev.oribi.program.RowBuckets;
import java.util.List;
import java.util.function.DoubleSupplier;

/** Measures a model on a dataset: forward passes alone. Making one plans; {@link #take} takes the memory. */
public final class Evaluator implements AutoCloseable {
  /**
   * What came out.
   *
   * @param loss mean negative log-likelihood of a target token, in nats
   * @param tokens target tokens
   */
  public record Result(double loss, long tokens) {
    public double perplexity() {
      return Math.exp(loss);
    }
  }

  private final Decoder model;
  private final Machine machine;
  private final Batches batches;
  private final Inputs inputs;
  private final Program program = new Program("evaluate");
  private final Plan plan;
  private final Executor executor;

  /**
   * @param training which adapter runs on top of the base, or {@link Training#NONE}
   * @param storage how the weights of the base are held
   */
  public Evaluator(
      ModelConfig config, DType type, Training training, FrozenStorage storage, Machine machine, Batches batches) {
    this.machine = machine;
    this.executor = machine.executor();
    this.batches = batches;
    this.model = new Decoder(config, type, training, storage, batches.maxSequenceLength());
    Emit.Sizes sizes =
        new Emit.Sizes(
            batches.maxTokens(), batches.maxTokens(), batches.maxSequences(), batches.maxSequenceLength(), type, false, 0);
    sizes = executor.records() ? sizes.roomy() : sizes;
    inputs = model.inputs(sizes);
    model.emitEvaluate(new Emit(program, sizes, machine.library()), inputs, 0, EmitLoss.LOGITS_BUDGET);
    plan = new Plan(List.of(program), model.parameters().buffers(), model.loadingBytes());
  }

  /** Takes the memory and returns what fills it. */
  public Weights take() {
    plan.take(machine.device(), "evaluation");
    return new Weights(model, machine, plan.shared());
  }

  /** Runs every row once. */
  public Result run() {
    double sum = 0;
    long targets = 0;
    DoubleSupplier previous = null;
    for (int i = 0; i < batches.microBatches(0); i++) {
      MicroBatch batch = batches.get(0, i);
      BatchRows rows =
          executor.records(program)
              ? BatchRows.of(batch, new RowBuckets(batches.maxTokens(), model.maxPositions()))
              : BatchRows.of(batch);
      rows.write(machine.device(), inputs, 0);
      executor.run(program, rows.run(machine.library(), rows.targets(), 0));
      DoubleSupplier now = machine.device().readDoubleLater(inputs.loss().lossSum().mem());
      sum += previous == null ? 0 : finite(previous.getAsDouble(), i - 1); // the device has the next batch already
      previous = now;
      targets += rows.targets();
    }
    sum += previous == null ? 0 : finite(previous.getAsDouble(), batches.microBatches(0) - 1);
    return new Result(sum / targets, targets);
  }

  private static double finite(double loss, int batch) {
    if (!Double.isFinite(loss)) {
      throw new OribiException(
          "the loss of batch " + batch + " is " + loss + ": the model's weights or its adapter are damaged");
    }
    return loss;
  }

  @Override
  public void close() {
    executor.close();
    plan.close();
  }
}
