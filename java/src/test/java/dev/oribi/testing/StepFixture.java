package dev.oribi.testing;

import dev.oribi.device.Mem;
import dev.oribi.io.Half;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.LoraKernels;
import dev.oribi.layer.Parameters.Fp8Rows;
import dev.oribi.layer.Parameters.Tensor;
import dev.oribi.model.FrozenStorage;
import dev.oribi.model.Decoder;
import dev.oribi.model.Decoder.Training;
import dev.oribi.model.Machine;
import dev.oribi.model.Weights;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.config.QuantizationConfig;
import dev.oribi.optim.OptimizerType;
import dev.oribi.program.Emit;
import dev.oribi.program.Fp8Matrix;
import dev.oribi.program.View;
import dev.oribi.testing.ReferenceDecoder.Sequence;
import dev.oribi.train.MemoryPlan;
import dev.oribi.train.ModelStep;
import dev.oribi.train.TrainableTensor;
import dev.oribi.train.TrainableTensor.Part;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;

/** A training step of a model with random weights, and the same weights as doubles for the reference. */
public final class StepFixture implements AutoCloseable {
  /** How the step is planned. The defaults: fp32, everything kept, one chunk of logits, two threads. */
  public record Plan(
      DType type, int tokens, int sequences, boolean checkpointing, long logitsBudget, long dropoutSeed, double weightDecay,
      double maxGradNorm, int threads, MemoryPlan.Choice choice, OptimizerType optim) {
    public static final Plan DEFAULT = new Plan(DType.F32, 256, 16, false, 1L << 24, 17, 0.01, 0, 2, null, OptimizerType.ADAMW_TORCH);

    /** What is kept, rebuilt and sent to the host, in place of what the planner would choose. */
    public Plan choice(MemoryPlan.Choice c) {
      return new Plan(type, tokens, sequences, checkpointing, logitsBudget, dropoutSeed, weightDecay, maxGradNorm, threads, c, optim);
    }

    public Plan optim(OptimizerType o) {
      return new Plan(type, tokens, sequences, checkpointing, logitsBudget, dropoutSeed, weightDecay, maxGradNorm, threads, choice, o);
    }

    public Plan type(DType t) {
      return new Plan(t, tokens, sequences, checkpointing, logitsBudget, dropoutSeed, weightDecay, maxGradNorm, threads, choice, optim);
    }

    public Plan tokens(int n) {
      return new Plan(type, n, sequences, checkpointing, logitsBudget, dropoutSeed, weightDecay, maxGradNorm, threads, choice, optim);
    }

    public Plan checkpointing(boolean on) {
      return new Plan(type, tokens, sequences, on, logitsBudget, dropoutSeed, weightDecay, maxGradNorm, threads, choice, optim);
    }

    public Plan logitsBudget(long bytes) {
      return new Plan(type, tokens, sequences, checkpointing, bytes, dropoutSeed, weightDecay, maxGradNorm, threads, choice, optim);
    }

    public Plan maxGradNorm(double norm) {
      return new Plan(type, tokens, sequences, checkpointing, logitsBudget, dropoutSeed, weightDecay, norm, threads, choice, optim);
    }

    ModelStep.Options options() {
      return new ModelStep.Options(
          tokens, sequences, tokens, sequences, checkpointing, 0, false, logitsBudget,
          new Emit.AdamW(0.9, 0.999, 1e-8, weightDecay), optim, maxGradNorm, dropoutSeed);
    }
  }

  private static final FrozenStorage PLAIN = new FrozenStorage(null, false);

  private final Machine machine;
  private final Decoder model;
  private final ModelStep step;
  private final Weights weights;
  private final Map<String, double[]> values = new LinkedHashMap<>();

  public StepFixture(ModelConfig config, Training training, Plan plan, long seed) {
    this(config, training, plan, seed, TestMachine.open(plan.threads));
  }

  /** With guards around the arena, and every error told with its op. */
  public StepFixture(ModelConfig config, Training training, Plan plan, long seed, GuardedDevice guard) {
    this(config, training, (QuantizationConfig) null, plan, seed, guard);
  }

  /** The same with weights in 4 bits. */
  public StepFixture(
      ModelConfig config, Training training, QuantizationConfig quantization, Plan plan, long seed, GuardedDevice guard) {
    this(config, training, new FrozenStorage(quantization, false), plan, seed, guarded(plan, guard));
  }

  private static Machine guarded(Plan plan, GuardedDevice guard) {
    Machine.Options options = Machine.Options.DEFAULT.withDebugSync(true).withCudaGraph(false);
    Machine m = TestMachine.open(plan.threads, options);
    return new Machine(guard.around(m.device()), m.kernels(), m.gemm(), m.attention(), m.ahead(), m.lanes(), options, "");
  }

  /** On {@code machine}, which is closed with this. */
  public StepFixture(ModelConfig config, Training training, Plan plan, long seed, Machine machine) {
    this(config, training, PLAIN, plan, seed, machine);
  }

  /** {@code quantization}: which weights are in 4 bits; their {@link #values} are those that the reference makes of them. */
  public StepFixture(ModelConfig config, Training training, QuantizationConfig quantization, Plan plan, long seed) {
    this(config, training, new FrozenStorage(quantization, false), plan, seed);
  }

  /** {@code storage}: how frozen weights are held; {@link #values} are what the references make of those in few bits. */
  public StepFixture(ModelConfig config, Training training, FrozenStorage storage, Plan plan, long seed) {
    this(config, training, storage, plan, seed, TestMachine.open(plan.threads));
  }

  /** The same on {@code machine}, which is closed with this. */
  public StepFixture(
      ModelConfig config, Training training, FrozenStorage storage, Plan plan, long seed, Machine machine) {
    this.machine = machine;
    model = new Decoder(config, plan.type, training, storage, 512);
    step = new ModelStep(model, machine, plan.options(), plan.choice);
    weights = step.take();
    for (Tensor t : model.parameters().tensors()) {
      fill(t, new Random(seed ^ t.name().hashCode()));
    }
    weights.refresh16();
  }

  /** Values of order 1 after every product, norms around 1, and a B that is not zero but small, as adapters are. */
  private void fill(Tensor t, Random random) {
    boolean norm = t.shape().length == 1;
    boolean table = t.name().contains("embed_tokens");
    double std = norm ? 0.3 : table ? 1 : t.name().contains("lora_B") ? 0.05 : 1 / Math.sqrt(t.shape()[1]);
    float[] w = new float[(int) t.elements()];
    double[] exact = new double[w.length];
    for (int i = 0; i < w.length; i++) {
      w[i] = (float) ((norm ? 1 : 0) + std * random.nextGaussian());
      exact[i] = w[i];
    }
    if (t.nf4() != null) {
      quantize(t, w);
      exact = Nf4Reference.roundTrip(w);
    } else if (t.int8() != null) {
      quantizeTo8Bits(t, w);
      exact = Int8Reference.roundTrip(w);
    } else if (t.fp8() != null) {
      roundToFp8(t.fp8(), w);
      exact = Fp8Reference.roundTrip(stored(w), (int) t.shape()[1]);
    } else {
      View to = t.trainable() ? t.part(t.group().value()) : t.value();
      write(to.mem(), to.type(), w);
    }
    values.put(t.name(), exact);
  }

  private void quantize(Tensor t, float[] w) {
    Mem values = step.plan().shared().slice(0, 4L * w.length);
    Mem workspace = step.plan().shared().slice((values.bytes() + 63) / 64 * 64, LoraKernels.nf4Workspace(w.length));
    machine.device().write(values, w, 0, w.length);
    machine.kernels().lora().nf4Quantize(t.nf4().place(), values, workspace, w.length, DType.F32);
  }

  private void quantizeTo8Bits(Tensor t, float[] w) {
    Mem values = step.plan().shared().slice(0, 4L * w.length);
    machine.device().write(values, w, 0, w.length);
    long rows = t.int8().rows();
    machine.kernels().int8().quantize(t.int8().place(0, rows), null, null, values, rows, t.int8().cols(), DType.F32);
  }

  /** With the last tensor of its stack, as the loader does. The values are those of rows; the columns have their own scales. */
  private void roundToFp8(Fp8Rows rows, float[] w) {
    Fp8Matrix q = rows.stack();
    DType type = model.parameters().type();
    Mem all = step.plan().shared();
    write(all.slice(rows.first() * q.cols() * type.bytes(), (long) w.length * type.bytes()), type, w);
    if (rows.last()) {
      machine.kernels().fp8().quantize(q.place(), all, q.rows(), q.cols(), q.cols(), type);
      machine.kernels().fp8().quantizeTransposed(q.turned(), all, q.rows(), q.cols(), q.cols(), type);
    }
  }

  /** As the storage type holds them. */
  private float[] stored(float[] w) {
    float[] all = w.clone();
    for (int i = 0; i < all.length; i++) {
      all[i] = switch (model.parameters().type()) {
        case BF16 -> Half.fromBf16(Half.toBf16(w[i]));
        case F16 -> Half.fromF16(Half.toF16(w[i]));
        default -> w[i];
      };
    }
    return all;
  }

  private void write(Mem to, DType type, float[] w) {
    if (type == DType.F32) {
      machine.device().write(to, w, 0, w.length);
      return;
    }
    ByteBuffer half = ByteBuffer.allocate(2 * w.length).order(ByteOrder.nativeOrder());
    for (float x : w) {
      half.putShort(type == DType.F16 ? Half.toF16(x) : Half.toBf16(x));
    }
    machine.device().write(to, half.flip());
  }

  public Machine machine() {
    return machine;
  }

  public Decoder model() {
    return model;
  }

  public ModelStep step() {
    return step;
  }

  public Weights weights() {
    return weights;
  }

  /** The weights as they were made, by name. */
  public Map<String, double[]> values() {
    return values;
  }

  /** One micro-batch, its gradients scaled by 1 / targets; returns the sum of the losses. */
  public double microStep(List<Sequence> batch) {
    return step.microStep(TinyModels.batch(batch), 1.0 / Math.max(1, TinyModels.targets(batch)), 3);
  }

  /** Every gradient, by name. */
  public Map<String, float[]> gradients() {
    return parts(Part.GRADIENT);
  }

  public Map<String, float[]> parts(Part part) {
    Map<String, float[]> all = new LinkedHashMap<>();
    for (TrainableTensor t : step.trainable()) {
      FloatBuffer into = FloatBuffer.allocate((int) t.elements());
      t.read(part, into);
      all.put(t.name(), into.array());
    }
    return all;
  }

  @Override
  public void close() {
    step.close();
    machine.close();
  }
}
