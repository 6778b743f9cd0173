package dev.oribi.train;

import dev.oribi.OribiException;
import dev.oribi.data.DataFiles;
import dev.oribi.data.DataOptions;
import dev.oribi.data.Dataset;
import dev.oribi.io.AtomicFiles;
import dev.oribi.model.FrozenStorage;
import dev.oribi.model.Decoder;
import dev.oribi.model.Decoder.Training;
import dev.oribi.model.Machine;
import dev.oribi.model.ModelFiles;
import dev.oribi.model.Weights;
import dev.oribi.model.config.LoraConfig;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.program.Emit;
import dev.oribi.program.EmitLoss;
import dev.oribi.program.Plan;
import java.io.PrintStream;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.stream.Collectors;

/**
 * One training run from its configuration to its result, for Java programs and for the command line.
 *
 * <pre>{@code
 * TrainConfig config = new TrainConfig();
 * config.model = Path.of("models/llama");
 * config.data = List.of(Path.of("train.jsonl"));
 * try (FineTuning run = FineTuning.open(config, System.out)) {
 *   Trainer.Result result = run.train();
 * }
 * }</pre>
 *
 * {@link #open} reads the data and plans; {@link #train} takes the memory, loads the weights and trains. One thread.
 */
public final class FineTuning implements AutoCloseable {
  private static final float INITIALIZER_RANGE = 0.02f;
  private static final int MOST_NAMED = 5;

  private final TrainConfig config;
  private final PrintStream out;
  private final RunData data;
  private final LoraConfig lora;
  private final Machine machine;
  private final Decoder model;
  private final ModelStep step;
  private final StartClock start;

  private FineTuning(
      TrainConfig config, PrintStream out, ModelConfig numbers, RunData data, LoraConfig lora, StartClock start) {
    this.start = start;
    this.config = config;
    this.out = out;
    this.data = data;
    this.lora = lora;
    this.machine = config.machine();
    start.end("device");
    Training training = lora == null ? Training.FULL : Training.adapter(lora);
    try {
      if (config.fp8) {
        machine.checkFp8();
      }
      FrozenStorage storage = FrozenStorage.of(numbers, config.loadIn4bit, config.headIn8bit).withFp8(config.fp8);
      this.model = new Decoder(numbers, config.dtype.on(machine, numbers), training, storage, longest(data));
      if (config.adapter == null) {
        model.checkEveryTargetIsThere();
      }
      this.step = new ModelStep(model, machine, options(config, data));
      start.end("plan");
    } catch (RuntimeException e) {
      machine.close();
      throw e;
    }
  }

  private static int longest(RunData data) {
    int eval = data.evalBatches() == null ? 0 : data.evalBatches().maxSequenceLength();
    return Math.max(1, Math.max(data.batches().maxSequenceLength(), eval));
  }

  private static ModelStep.Options options(TrainConfig c, RunData data) {
    boolean evaluates = data.evalBatches() != null;
    return new ModelStep.Options(
        data.batches().maxTokens(),
        data.batches().maxSequences(),
        evaluates ? data.evalBatches().maxTokens() : 0,
        evaluates ? data.evalBatches().maxSequences() : 0,
        c.gradientCheckpointing,
        c.memoryBytes(),
        false,
        EmitLoss.LOGITS_BUDGET,
        new Emit.AdamW(c.adamBeta1, c.adamBeta2, c.adamEpsilon, c.weightDecay),
        c.optim,
        c.maxGradNorm,
        c.seed);
  }

  /**
   * Reads the model's numbers and the data, and plans the step.
   *
   * @param config what the model settles is put in its place: the length it was made for, the numbers of the adapter,
   *     4 bits if its folder is in 4 bits
   * @param out where progress is told
   */
  public static FineTuning open(TrainConfig config, PrintStream out) {
    StartClock start = new StartClock();
    config.check();
    if (config.model == null || config.data.isEmpty()) {
      throw new OribiException("A model and data are needed: give --model and --data.");
    }
    ModelConfig numbers = ModelConfig.read(config.modelFolder());
    config.maxSeqLength = Math.min(config.maxSeqLength, numbers.contextLength());
    config.loadIn4bit |= numbers.quantization() != null;
    config.rows.adapter(config.adapter);
    LoraConfig lora = config.trainsAllWeights() ? null : lora(config);
    out.print(config.toYaml());
    start.end("configuration");
    RunData data = readData(config, numbers, out);
    start.end("data");
    return new FineTuning(config, out, numbers, data, lora, start);
  }

  private static LoraConfig lora(TrainConfig c) {
    if (c.adapter != null) {
      LoraConfig given = LoraConfig.read(c.adapter);
      c.loraR = given.r();
      c.loraAlpha = given.loraAlpha();
      c.loraDropout = given.loraDropout();
      c.useRslora = given.useRslora();
      return given;
    }
    return LoraConfig.of(
        c.loraR, c.loraAlpha, c.loraDropout, c.targetModulesValue(), c.useRslora, c.modulesToSave, c.model.toString());
  }

  private static RunData readData(TrainConfig c, ModelConfig numbers, PrintStream out) {
    int threads = c.machine.threads > 0 ? c.machine.threads : Runtime.getRuntime().availableProcessors();
    DataOptions options = new DataOptions(c.maxSeqLength, numbers.vocabSize(), threads, c.cacheDir);
    Dataset train = RunData.read(c.modelFolder(), c.data, DataFiles.Part.TRAIN, options, c.rows);
    out.println(train.report().sentence());
    if (train.inFile()) {
      out.println("The rows are read from a file as they are needed, since they would take too much of Java's memory.");
    }
    if (c.requireEnd) {
      train.requireEnds();
    }
    List<Path> held = c.evalData.isEmpty() && c.evalFraction == 0 ? DataFiles.validation(c.data) : c.evalData;
    List<Path> leftOut = DataFiles.leftOut(c.data, held);
    if (!leftOut.isEmpty()) {
      out.println("Left alone, by the names of the files: " + leftOut.stream().limit(MOST_NAMED).map(Path::toString).collect(Collectors.joining(", "))
          + (leftOut.size() > MOST_NAMED ? ", ..." : "") + ".");
    }
    Dataset eval = held.isEmpty() ? null : RunData.read(c.modelFolder(), held, DataFiles.Part.VALIDATION, options, c.rows);
    if (eval != null) {
      out.println("Held out" + (c.evalData.isEmpty() ? ", by the names of the files" : "") + ": " + eval.report().sentence());
    }
    RunData data = RunData.of(c, train, eval);
    if (c.packing) {
      out.println(String.format(Locale.ROOT, "Packed: %,d rows in %,d sequences of %,d tokens, %.1f %% of them filled.", data.train().size(),
          data.batches().bins(0), c.maxSeqLength, 100 * data.batches().fillRate(0)));
    }
    return data;
  }

  /** The memory of the run, known before it is taken. */
  public Plan plan() {
    return step.plan();
  }

  /** The step, with what its planner decided. */
  public ModelStep step() {
    return step;
  }

  public Decoder model() {
    return model;
  }

  public RunData data() {
    return data;
  }

  /** Takes the memory, fills it and trains to the end, or until the run is stopped. */
  public Trainer.Result train() {
    step.fp8Report().ifPresent(out::println);
    if (lora != null) {
      HeadCheck.warning(config.modelFolder(), lora, data.train()).ifPresent(out::println);
    }
    Weights weights = step.take();
    start.end("memory");
    fill(weights);
    start.endReading("weights", weights.bytesRead());
    weights.headReport().ifPresent(out::println);
    ModelFiles files = new ModelFiles(model, weights, config.modelFolder());
    ModelWriter writer = folder -> {
      files.write(folder);
      // The template that the answers were learned with belongs to the result, or talking to it would be done in another way.
      config.rows.chosenTemplate().ifPresent(t -> AtomicFiles.text(folder.resolve("chat_template.jinja"), t.source()));
    };
    return new Trainer(config, step, writer, data, out, start).run();
  }

  private void fill(Weights weights) {
    if (config.fromScratch) {
      weights.initRandom(INITIALIZER_RANGE, config.seed);
      return;
    }
    weights.load(config.modelFolder(), config.adapter);
    if (config.adapter == null && lora != null) {
      weights.initAdapter(lora, config.seed);
    }
  }

  @Override
  public void close() {
    step.close();
    machine.close();
  }
}
