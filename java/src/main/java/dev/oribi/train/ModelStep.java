package dev.oribi.train;

import dev.oribi.data.MicroBatch;
import dev.oribi.kernel.DType;
import dev.oribi.layer.Parameters.Group;
import dev.oribi.layer.Parameters.Tensor;
import dev.oribi.layer.Saving;
import dev.oribi.model.Decoder;
import dev.oribi.model.Decoder.Inputs;
import dev.oribi.model.Machine;
import dev.oribi.model.Weights;
import dev.oribi.optim.OptimizerType;
import dev.oribi.program.Buffer;
import dev.oribi.program.Buffer.Rows;
import dev.oribi.program.Copies;
import dev.oribi.program.Emit;
import dev.oribi.program.Executor;
import dev.oribi.program.Op;
import dev.oribi.program.Plan;
import dev.oribi.program.Prefetch;
import dev.oribi.program.Program;
import dev.oribi.program.RowBuckets;
import dev.oribi.program.Run;
import java.nio.FloatBuffer;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.Optional;
import java.util.Set;

/**
 * A model's training step: four programs that share one plan.
 *
 * <ul>
 *   <li>{@code micro_step}: forward, loss, backward of one micro-batch; gradients are added.
 *   <li>{@code evaluate}: losses alone.
 *   <li>{@code norm}: the norm of the gradients and the factor that clips them.
 *   <li>{@code update}: AdamW, then the gradients are cleared.
 * </ul>
 *
 * Making one plans; {@link #take} takes the memory. Between the two, {@link #plan} tells the peak to the byte.
 */
public final class ModelStep implements TrainStep {
  /**
   * What is planned for.
   *
   * @param tokens most tokens in a micro-batch of training, {@code sequences} most sequences
   * @param evalTokens most tokens in one of evaluation; 0 where nothing is evaluated
   * @param checkpointing keep only the inputs of each layer and run its forward pass twice
   * @param memory bytes that the plan may take of the device; 0: what is free
   * @param prefetch dequantize weights in 4 bits beside the product before, where the device can
   * @param logitsBudget most bytes of logits at once
   * @param optimizer how AdamW's moments are stored
   * @param maxGradNorm 0: no clipping
   */
  public record Options(
      int tokens,
      int sequences,
      int evalTokens,
      int evalSequences,
      boolean checkpointing,
      long memory,
      boolean prefetch,
      long logitsBudget,
      Emit.AdamW adamw,
      OptimizerType optimizer,
      double maxGradNorm,
      long dropoutSeed) {}

  /**
   * The programs that a choice decides, and the memory of all.
   *
   * @param unpack fills the second copies of weights in 4 bits, in 16 bits or FP8, once they are loaded
   */
  private record Written(Program micro, Program evaluate, Program unpack, Plan plan) {}

  /** A micro-batch whose rows are on their way to the device, or there. */
  private record Prepared(MicroBatch batch, BatchRows rows) {}

  /** Where the numbers of a group's update lie, and those that stay the same. */
  private record Hyper(Buffer place, Emit.AdamW numbers) {}

  private final Decoder model;
  private final Machine machine;
  private final Inputs inputs;
  private final Options options;
  private final Emit.Sizes sizes;
  private final Program norm = new Program("norm");
  private final Program update = new Program("update");
  private final Program clear = new Program("clear");
  private final Buffer gradNorm = Decoder.io("grad_norm", DType.F32, Rows.FIXED, 1);
  private final Buffer clip = Decoder.io("clip_scale", DType.F32, Rows.FIXED, 1);
  private final double maxGradNorm;
  private final List<Hyper> hypers = new ArrayList<>();
  private final List<Moments> moments = new ArrayList<>();
  private final Written written;
  private final MemoryPlan memory;
  private final MemoryPlan.Point point;
  private final Plan plan;
  private final Executor executor;
  private Calibration calibration;
  private boolean unpacked;
  private Prepared prepared;
  private int lastTargets;

  /** With the fastest plan that fits the memory. */
  public ModelStep(Decoder model, Machine machine, Options o) {
    this(model, machine, o, null);
  }

  /** @param choice what to keep, rebuild and send to the host; null: what the planner finds */
  public ModelStep(Decoder model, Machine machine, Options o, MemoryPlan.Choice choice) {
    this.model = model;
    this.machine = machine;
    this.maxGradNorm = o.maxGradNorm;
    this.executor = machine.executor();
    long longest = model.maxPositions();
    int tokens = Math.max(o.tokens, o.evalTokens);
    int sequences = Math.max(o.sequences, o.evalSequences);
    DType type = model.parameters().type();
    inputs = model.inputs(planned(new Emit.Sizes(tokens, tokens, sequences, longest, type, false, 0)));

    options = o;
    sizes = planned(new Emit.Sizes(o.tokens, o.tokens, o.sequences, longest, type, true, o.dropoutSeed));
    emitUpdate(sizes, o);
    memory = new MemoryPlan(planned(), new Estimates());
    long budget = o.memory > 0 ? o.memory : machine.device().freeBytes();
    point = choice != null ? new Estimates().of(choice) : o.checkpointing ? memory.fitCheckpointed(budget) : memory.fit(budget);
    written = write(point.choice());
    plan = written.plan;
  }

  /** With room for what batches are rounded up to where runs are recorded. */
  private Emit.Sizes planned(Emit.Sizes s) {
    return executor.records() ? s.roomy() : s;
  }

  private MemoryPlan.Options planned() {
    boolean frozen4Bit = machine.isCuda() && model.layers().stream().anyMatch(l -> !l.in4Bits().isEmpty());
    return new MemoryPlan.Options(
        model.layers().size(), options.tokens, frozen4Bit, machine.isCuda(), model.embeddingIsAlone(), options.prefetch,
        options.logitsBudget, machine.device().freeHostBytes(), saved());
  }

  /** The tensors that some layer saves. */
  private Set<Saving.Tensor> saved() {
    Set<Saving.Tensor> there = EnumSet.noneOf(Saving.Tensor.class);
    for (Saving.Tensor t : Saving.Tensor.values()) {
      if (model.cols(t) > 0) {
        there.add(t);
      }
    }
    return there;
  }

  /** The programs of a choice, and their memory. */
  private Written write(MemoryPlan.Choice choice) {
    Program micro = new Program("micro_step");
    Program evaluate = new Program("evaluate");
    Program unpack = new Program("unpack");
    Emit.Library library = machine.library();
    model.placeEmbedding(choice.embeddingOnHost());
    Copies copies = model.emitCopies(new Emit(unpack, sizes, library), choice.copies());
    model.emitTrain(new Emit(micro, sizes, library, copies), inputs, choice.savings(), choice.logitsBudget());
    if (choice.prefetch()) {
      micro = Prefetch.of(micro);
    }
    if (options.evalTokens > 0) {
      Emit.Sizes evalSizes =
          planned(
              new Emit.Sizes(
                  options.evalTokens, options.evalTokens, options.evalSequences, sizes.longest(), sizes.type(), false, 0));
      long tile = choice.savings().get(0).tileRows();
      model.emitEvaluate(new Emit(evaluate, evalSizes, library, copies), inputs, tile, choice.logitsBudget());
    }
    List<Buffer> held = new ArrayList<>(model.parameters().buffers());
    held.add(gradNorm);
    Plan whole = new Plan(List.of(micro, evaluate, norm, update, clear, unpack), held, model.loadingBytes());
    return new Written(micro, evaluate, unpack, whole);
  }

  /** Choices written out and placed; times once something was calibrated. */
  private final class Estimates implements MemoryPlan.Estimate {
    @Override
    public MemoryPlan.Point of(MemoryPlan.Choice choice) {
      Written w = write(choice);
      return point(w, choice);
    }

    @Override
    public void calibrate() {
      calibrated();
    }

    @Override
    public long bytes(Saving.Tensor t) {
      return options.tokens * model.cols(t) * sizes.type().bytes();
    }

    @Override
    public double link() {
      return calibrated().link();
    }
  }

  Calibration calibrated() {
    if (calibration == null) {
      calibration = Calibration.measure(model, machine, sizes, options.logitsBudget);
    }
    return calibration;
  }

  private void emitUpdate(Emit.Sizes sizes, Options o) {
    Emit n = new Emit(norm, sizes, machine.library());
    Emit u = new Emit(update, sizes, machine.library());
    Emit c = new Emit(clear, sizes, machine.library());
    Buffer sumSquares = Decoder.io("sum_squares", DType.F64, Rows.FIXED, 1);
    boolean more = false;
    for (Group g : model.parameters().groups()) {
      n.sumSquares(g.name(), sumSquares, g.grad(), more);
      more = true;
      Emit.AdamW numbers =
          g.decay() ? o.adamw : new Emit.AdamW(o.adamw.beta1(), o.adamw.beta2(), o.adamw.epsilon(), 0);
      Hyper hyper = new Hyper(Emit.hyper("adamw." + g.name()), numbers);
      hypers.add(hyper);
      Moments held = Moments.of(g, o.optimizer);
      moments.add(held);
      held.emitUpdate(u, clip, hyper.place);
      u.fill(g.name(), g.grad(), 0);
      c.fill(g.name(), g.grad(), 0);
    }
    n.clipScale(clip, gradNorm, sumSquares, (float) o.maxGradNorm);
  }

  /** What was decided to fit the budget. */
  public MemoryPlan.Point point() {
    return point;
  }

  /** The same with its predicted time. To be asked before the memory is taken: ops are timed in memory of their own. */
  public MemoryPlan.Point predicted() {
    calibrated();
    return point(written, point.choice());
  }

  /** Points of predicted speed against memory, from the largest plan to the smallest; to be asked before it is taken. */
  List<MemoryPlan.Point> curve(int count) {
    calibrated();
    List<MemoryPlan.Point> points = memory.curve(count);
    model.placeEmbedding(point.choice().embeddingOnHost());
    return points;
  }

  /** A choice in a few words. */
  public String describe(MemoryPlan.Choice choice) {
    return choice.describe(model.layers().size(), model.fp8());
  }

  /** Which products are in FP8, as a sentence; empty where none is asked for. */
  public Optional<String> fp8Report() {
    return model.fp8() ? Optional.of(Fp8Report.of(model, point.choice().copies())) : Optional.empty();
  }

  /** Tokens of the micro-batch that is planned. */
  public int plannedTokens() {
    return options.tokens;
  }

  private MemoryPlan.Point point(Written w, MemoryPlan.Choice choice) {
    boolean timed = calibration != null;
    return new MemoryPlan.Point(
        choice, w.plan.bytes(), w.plan.hostBytes(), timed ? calibration.of(w.micro.ops()) + updateSeconds() : Double.NaN,
        timed ? calibration.of(w.micro.ops().subList(0, loss(w.micro))) : Double.NaN);
  }

  /** Where the forward pass ends. */
  private static int loss(Program micro) {
    int i = 0;
    while (micro.ops().get(i).kind() != Op.Kind.CROSS_ENTROPY) {
      i++;
    }
    return i;
  }

  private double updateSeconds() {
    return (norm.bytes() + update.bytes()) / calibration.bandwidth();
  }

  /** The memory and the ops; known before {@link #take}. */
  public Plan plan() {
    return plan;
  }

  public Decoder model() {
    return model;
  }

  /** For profilers and tests. */
  public Executor executor() {
    return executor;
  }

  /** Takes the memory and returns what fills it; the weights are undefined until then. */
  public Weights take() {
    machine.tuneProducts();
    plan.take(machine.device(), "training");
    moments.forEach(m -> m.begin(machine.device()));
    return new Weights(model, machine, plan.shared());
  }

  @Override
  public void prepare(MicroBatch next) {
    prepared = new Prepared(next, rows(written.micro, options.tokens, next));
    prepared.rows.writeRows(machine.device(), inputs);
  }

  @Override
  public Loss startMicroStep(MicroBatch batch, double gradScale, long dropoutStream) {
    if (prepared != null && prepared.batch == batch) {
      return run(written.micro, prepared.rows, gradScale, dropoutStream);
    }
    return run(written.micro, rows(written.micro, options.tokens, batch), gradScale, dropoutStream);
  }

  @Override
  public Loss startEvaluation(MicroBatch batch) {
    return run(written.evaluate, rows(written.evaluate, options.evalTokens, batch), 0, 0);
  }

  /** Rounded up where that makes a recording serve many batches. */
  private BatchRows rows(Program program, int tokens, MicroBatch batch) {
    return executor.records(program)
        ? BatchRows.of(batch, new RowBuckets(tokens, model.maxPositions()))
        : BatchRows.of(batch);
  }

  private Loss run(Program program, BatchRows rows, double gradScale, long dropoutStream) {
    if (prepared == null || prepared.rows != rows) {
      rows.writeRows(machine.device(), inputs);
    }
    prepared = null;
    BatchRows.writeScale(machine.device(), inputs, gradScale);
    if (!unpacked) {
      executor.run(written.unpack, Run.fixed(machine.library())); // the weights are there now
      unpacked = true;
    }
    executor.run(program, rows.run(machine.library(), rows.targets(), dropoutStream));
    lastTargets = rows.targets();
    return machine.device().readDoubleLater(inputs.loss().lossSum().mem())::getAsDouble;
  }

  @Override
  public double update(long step, double learningRate, double lossScale) {
    for (Hyper h : hypers) {
      machine.device().write(h.place.mem(), h.numbers.at(step, learningRate).bytes());
    }
    Run run = Run.fixed(machine.library());
    executor.run(norm, run);
    float[] value = new float[1];
    machine.device().read(gradNorm.mem(), value, 0, 1);
    double norm = value[0] / lossScale;
    if (Float.isFinite(value[0])) {
      if (lossScale != 1) {
        machine.device().write(clip.mem(), new float[] {(float) (clipFactor(norm) / lossScale)}, 0, 1);
      }
      executor.run(update, run);
    }
    return norm;
  }

  /** What {@code oribi_clip_scale} writes, for a norm that it could not know. */
  private double clipFactor(double norm) {
    return maxGradNorm > 0 ? Math.min(1, maxGradNorm / (norm + 1e-6)) : 1;
  }

  @Override
  public boolean scalesLoss() {
    return model.parameters().type() == DType.F16;
  }

  @Override
  public float[] lastLosses() {
    float[] losses = new float[lastTargets]; // read only when asked for: whatever is read, the device waits for the host
    machine.device().read(inputs.loss().losses().mem(), losses, 0, losses.length);
    return losses;
  }

  @Override
  public void clearGradients() {
    executor.run(clear, Run.fixed(machine.library()));
  }

  @Override
  public long memoryBytes() {
    return plan.bytes();
  }

  @Override
  public String describe() {
    return machine.describe() + ", " + model.parameters().type().label();
  }

  @Override
  public List<TrainableTensor> trainable() {
    List<TrainableTensor> all = new ArrayList<>();
    for (Tensor t : model.parameters().trainable()) {
      all.add(new OnDevice(t));
    }
    return all;
  }

  @Override
  public List<StateColumn> stateColumns() {
    return moments.stream().flatMap(m -> m.columns(machine.device()).stream()).toList();
  }

  @Override
  public void close() {
    executor.close();
    plan.close();
  }

  /** A tensor of the parameter table, read and written where it lies. */
  private final class OnDevice implements TrainableTensor {
    private final Tensor tensor;

    OnDevice(Tensor tensor) {
      this.tensor = tensor;
    }

    @Override
    public String name() {
      return tensor.name();
    }

    @Override
    public long[] shape() {
      return tensor.shape().clone();
    }

    private Buffer column(Part part) {
      Group g = tensor.group();
      return switch (part) {
        case VALUE -> g.value();
        case MOMENT1 -> g.m();
        case MOMENT2 -> g.v();
        case GRADIENT -> g.grad();
      };
    }

    @Override
    public void read(Part part, FloatBuffer into) {
      Weights.read(machine, tensor, tensor.part(column(part)), 0, into);
    }

    @Override
    public void write(Part part, FloatBuffer from) {
      float[] values = new float[from.remaining()];
      from.get(values);
      values = tensor.order() == null ? values : tensor.order().fromFile(values);
      machine.device().write(tensor.part(column(part)).mem(), values, 0, values.length);
      if (part == Part.VALUE && tensor.group().value16() != null) {
        machine
            .kernels()
            .cast(
                tensor.part(tensor.group().value16()).mem(),
                tensor.part(tensor.group().value()).mem(),
                tensor.elements(),
                tensor.group().value16().type(),
                DType.F32);
      }
    }
  }
}
