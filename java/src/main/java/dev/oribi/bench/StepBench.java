package dev.oribi.bench;

import dev.oribi.data.MicroBatch;
import dev.oribi.model.FrozenStorage;
import dev.oribi.model.Decoder;
import dev.oribi.model.Decoder.Training;
import dev.oribi.model.Machine;
import dev.oribi.model.Weights;
import dev.oribi.model.config.LoraConfig;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.optim.OptimizerType;
import dev.oribi.program.Emit;
import dev.oribi.program.EmitLoss;
import dev.oribi.program.Op;
import dev.oribi.program.Profile;
import dev.oribi.program.Profile.Sum;
import dev.oribi.train.MemoryPlan;
import dev.oribi.train.MemorySize;
import dev.oribi.train.ModelStep;
import dev.oribi.train.StartClock;
import dev.oribi.train.StorageType;
import dev.oribi.train.TrainStep.Loss;
import java.io.PrintStream;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Random;
import java.util.Set;

/**
 * Times whole optimizer steps (forward, loss, backward, clip, update) on random weights and tokens, every token a target,
 * and sets them beside what the machine's own products and memory would allow.
 */
public final class StepBench implements AutoCloseable {
  /** Tokens by which {@link #longest} tells sequences apart. */
  private static final int LONGEST_STEP = 1024;

  private static final int LONGEST = 16 << 20;

  /** Dense products with the model's weights: what no trainer can do without. */
  private static final Set<Op.Kind> GEMMS =
      Set.of(
          Op.Kind.MATMUL, Op.Kind.MATMUL_DX, Op.Kind.MATMUL_DW, Op.Kind.LORA_FORWARD, Op.Kind.LORA_MATMUL, Op.Kind.LORA_MATMUL_DX,
          Op.Kind.FP8_MATMUL, Op.Kind.FP8_MATMUL_DX, Op.Kind.CROSS_ENTROPY);

  /** Products in time: those of the adapters too. */
  private static final Set<Op.Kind> PRODUCTS =
      Set.of(
          Op.Kind.MATMUL, Op.Kind.MATMUL_DX, Op.Kind.MATMUL_DW, Op.Kind.LORA, Op.Kind.LORA_DX, Op.Kind.LORA_DW,
          Op.Kind.LORA_H, Op.Kind.LORA_FORWARD, Op.Kind.LORA_MATMUL, Op.Kind.LORA_MATMUL_DX, Op.Kind.LORA_G_DB, Op.Kind.LORA_DA,
          Op.Kind.FP8_MATMUL, Op.Kind.FP8_MATMUL_DX);

  /**
   * What to run.
   *
   * @param full every weight learns; otherwise LoRA of rank {@code r} on all linear layers
   * @param loadIn4bit the linear layers are in 4 bits
   * @param headIn8bit the head is in 8 bits
   * @param fp8 products with frozen weights are in FP8
   * @param layers how many run; 0: all
   * @param optim how AdamW's moments are stored
   * @param json where the numbers go too; null: nowhere
   */
  public record Options(
      String shape, int batch, int seq, int r, boolean full, boolean loadIn4bit, boolean headIn8bit,
      boolean fp8, boolean checkpointing, long memory, boolean prefetch, int layers, StorageType dtype, OptimizerType optim, int steps, Path json) {}

  private final Options options;
  private final Machine machine;
  private final ModelStep step;
  private final MicroBatch batch;
  private final double predicted;
  private final long whole;
  private final StartClock start = new StartClock();
  private long made;

  private StepBench(Options o, Machine machine) {
    this.options = o;
    this.machine = machine;
    start.end("device");
    Decoder whole = model(o, machine, o.seq);
    if (o.layers > 0 && o.layers < whole.layers().size()) {
      ModelStep all = new ModelStep(whole, machine, plan(o, o.seq));
      this.whole = all.memoryBytes();
      this.step = new ModelStep(whole.withLayers(o.layers), machine, plan(o, o.seq), all.point().choice().firstLayers(o.layers));
    } else {
      this.step = new ModelStep(whole, machine, plan(o, o.seq));
      this.whole = step.memoryBytes();
    }
    this.predicted = machine.isCuda() ? step.predicted().seconds() : Double.NaN;
    start.end("plan and calibration");
    this.batch = randomBatch(o, whole.config());
  }

  private static Decoder model(Options o, Machine machine, int seq) {
    ModelConfig config = Shapes.of(o.shape);
    LoraConfig lora = LoraConfig.of(o.r, o.r, 0, LoraConfig.ALL_LINEAR, false, List.of(), null);
    Training training = o.full ? Training.FULL : Training.adapter(lora);
    if (o.fp8) {
      machine.checkFp8();
    }
    FrozenStorage storage = FrozenStorage.of(config, o.loadIn4bit, o.headIn8bit).withFp8(o.fp8);
    return new Decoder(config, o.dtype.on(machine, config), training, storage, seq);
  }

  private static ModelStep.Options plan(Options o, int seq) {
    return new ModelStep.Options(
        o.batch * seq, o.batch, 0, 0, o.checkpointing, o.memory, o.prefetch, EmitLoss.LOGITS_BUDGET,
        new Emit.AdamW(0.9, 0.999, 1e-8, 0), o.optim, 1, 1);
  }

  /** The longest sequence whose smallest plan fits, in one line; nothing is run. */
  public static String longest(Options o, Machine machine) {
    long budget = o.memory > 0 ? o.memory : machine.device().freeBytes();
    long host = machine.isCuda() ? machine.device().freeHostBytes() : 0;
    int low = 0;
    int high = LONGEST / LONGEST_STEP / Math.max(1, o.batch);
    while (high - low > 1) {
      int middle = (low + high) >>> 1;
      if (smallest(o, machine, middle * LONGEST_STEP, host) <= budget) {
        low = middle;
      } else {
        high = middle;
      }
    }
    int seq = low * LONGEST_STEP;
    return String.format(
        Locale.ROOT, "%s, %s weights, batch %d: the longest sequence that fits %s is %,d tokens (it takes %s; the model was made"
            + " for %,d)",
        o.shape, o.loadIn4bit ? "nf4" : "16-bit", o.batch, MemorySize.format(budget), seq,
        seq == 0 ? "nothing" : MemorySize.format(smallest(o, machine, seq, host)), Shapes.of(o.shape).maxPositionEmbeddings());
  }

  private static long smallest(Options o, Machine machine, int seq, long host) {
    Decoder model = model(o, machine, seq);
    long inputOfLayer = (long) o.batch * seq * model.config().hiddenSize() * model.parameters().type().bytes();
    boolean embedding = machine.isCuda() && model.embeddingIsAlone();
    MemoryPlan.Choice choice =
        MemoryPlan.smallest(model.layers().size(), (long) o.batch * seq, (int) Math.min(host / inputOfLayer, model.layers().size()), embedding);
    return new ModelStep(model, machine, plan(o, seq), choice).memoryBytes();
  }

  /** A model with random weights on {@code machine}, ready for {@link #step}; it does not close the machine. */
  public static StepBench open(Options o, Machine machine) {
    return begin(new StepBench(o, machine));
  }

  private static StepBench begin(StepBench bench) {
    Options o = bench.options;
    try {
      Weights weights = bench.step.take();
      bench.start.end("memory");
      weights.initRandom(0.02f, 1);
      if (!o.full) {
        weights.initAdapter(bench.step.model().training().lora(), 1);
      }
      bench.start.end("random weights");
      return bench;
    } catch (RuntimeException e) {
      bench.close();
      throw e;
    }
  }

  /** Runs on {@code machine} and prints; returns tokens per second. */
  public static double run(Options o, Machine machine, PrintStream out) {
    Ceilings ceilings = Ceilings.measure(machine);
    long free = machine.device().freeBytes();
    StepBench planned = new StepBench(o, machine);
    if (machine.isCuda() && o.steps == 0) { // a step that is worth a run of its own may take minutes
      ModelStep step = planned.step;
      out.printf(
          Locale.ROOT, "planned: %s; %s, %s on the host, %.1f s a step%n", step.describe(step.point().choice()),
          MemorySize.format(step.memoryBytes()), MemorySize.format(step.plan().hostBytes()), planned.predicted);
    }
    try (StepBench bench = begin(planned);
        Profile profile = new Profile(machine.device())) {
      if (machine.isCuda()) {
        return new GpuStepReport(bench, ceilings, profile).measure(free, out);
      }
      return bench.measure(ceilings, profile, out);
    }
  }

  Options options() {
    return options;
  }

  Machine machine() {
    return machine;
  }

  ModelStep modelStep() {
    return step;
  }

  /** What passed before the first step. */
  StartClock start() {
    return start;
  }

  /** Seconds of a step as the planner predicts them. */
  double predicted() {
    return predicted;
  }

  /** Bytes of the plan of all layers, also where fewer are run. */
  long wholeBytes() {
    return whole;
  }

  int tokens() {
    return batch.tokens();
  }

  /** One optimizer step of one micro-batch: forward, loss, backward, clip, update; issued and waited for as a trainer does. */
  public void step() {
    Loss loss = step.startMicroStep(batch, 1.0 / batch.tokens(), made);
    step.prepare(batch);
    step.update(++made, 1e-4);
    loss.sum();
  }

  @Override
  public void close() {
    step.close();
  }

  private static MicroBatch randomBatch(Options o, ModelConfig config) {
    Random random = new Random(1);
    int n = o.batch * o.seq;
    MicroBatch b = new MicroBatch(new int[n], new int[n], new int[n], new int[o.batch + 1], new int[o.batch]);
    for (int i = 0; i < n; i++) {
      b.inputIds()[i] = random.nextInt(config.vocabSize());
      b.targets()[i] = random.nextInt(config.vocabSize());
      b.positions()[i] = i % o.seq;
    }
    for (int s = 0; s <= o.batch; s++) {
      b.cuSeqlens()[s] = s * o.seq;
    }
    return b;
  }

  private double measure(Ceilings c, Profile profile, PrintStream out) {
    Options o = options;
    step();
    step.executor().listen(profile);
    double[] seconds = new double[o.steps];
    for (int i = 0; i < o.steps; i++) {
      long begun = System.nanoTime();
      step();
      seconds[i] = (System.nanoTime() - begun) / 1e9;
    }
    step.executor().listen(null);
    Arrays.sort(seconds);
    double p50 = seconds[o.steps / 2];
    double gemmFlops = sum(profile, GEMMS, true) / o.steps;
    double gemmSeconds = nanos(profile, PRODUCTS) / 1e9 / o.steps;
    double headSeconds = crossEntropy(profile, o.steps, c);
    double streamBytes = sum(profile, complement(), false) / o.steps;
    double bound = gemmFlops / c.gemm();
    double roof = gemmSeconds + headSeconds + streamBytes / c.bandwidth();
    out.printf(Locale.ROOT, "%s, %d x %d tokens, %s%n", o.shape, o.batch, o.seq, step.describe());
    out.printf(Locale.ROOT, "machine: sgemm %.1f GFLOP/s, memory %.1f GB/s%n", c.gemm() / 1e9, c.bandwidth() / 1e9);
    out.print(profile.table(o.steps));
    out.printf(
        Locale.ROOT, "step: p20 %.1f ms, p50 %.1f ms, p80 %.1f ms; %.1f tok/s; %.2f GiB%n", 1e3 * seconds[o.steps / 5],
        1e3 * p50, 1e3 * seconds[o.steps * 4 / 5], batch.tokens() / p50, step.memoryBytes() / (double) (1L << 30));
    out.printf(
        Locale.ROOT, "products with the model's weights alone (%.3f GFLOP a token at the machine's sgemm rate): %.1f ms, %.1f"
            + " tok/s; the step reaches %.1f %%%n",
        gemmFlops / 1e9 / batch.tokens(), 1e3 * bound, batch.tokens() / bound, 100 * bound / p50);
    out.printf(
        Locale.ROOT, "products as they ran %.1f ms + head %.1f ms + %.2f GB of other traffic at the memory's rate %.1f ms ="
            + " %.1f ms; the step takes %.2f x that%n",
        1e3 * gemmSeconds, 1e3 * headSeconds, streamBytes / 1e9, 1e3 * streamBytes / c.bandwidth(), 1e3 * roof, p50 / roof);
    return batch.tokens() / p50;
  }

  /** The products of the head, which run inside the op of the loss, at the machine's rate, and its softmax as traffic. */
  private static double crossEntropy(Profile profile, int steps, Ceilings c) {
    Sum s = profile.sums().get(Op.Kind.CROSS_ENTROPY);
    return s.flops() / c.gemm() / steps + s.bytes() / c.bandwidth() / steps;
  }

  private static Set<Op.Kind> complement() {
    Set<Op.Kind> rest = java.util.EnumSet.allOf(Op.Kind.class);
    rest.removeAll(PRODUCTS);
    rest.remove(Op.Kind.CROSS_ENTROPY);
    return rest;
  }

  private static double sum(Profile profile, Set<Op.Kind> kinds, boolean flops) {
    return profile.sums().entrySet().stream()
        .filter(e -> kinds.contains(e.getKey()))
        .mapToDouble(e -> flops ? e.getValue().flops() : e.getValue().bytes())
        .sum();
  }

  private static double nanos(Profile profile, Set<Op.Kind> kinds) {
    return profile.sums().entrySet().stream()
        .filter(e -> kinds.contains(e.getKey()))
        .mapToDouble(e -> e.getValue().nanos())
        .sum();
  }
}
