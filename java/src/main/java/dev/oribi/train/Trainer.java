package dev.oribi.train;

import dev.oribi.OribiException;
import dev.oribi.data.MicroBatch;
import dev.oribi.io.AtomicFiles;
import dev.oribi.io.Json;
import dev.oribi.optim.LossScale;
import dev.oribi.optim.Schedule;
import dev.oribi.train.TrainStep.Loss;
import java.io.PrintStream;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;

/**
 * Trains a model: batch, forward, loss, backward, clip, update, log.
 *
 * <p>{@link #run} goes through all steps of the run, or through those that are left after a checkpoint. Ctrl-C and
 * SIGTERM let it finish the passes that are under way, two at most, save a checkpoint and return; the process then ends with
 * 130 or 143.
 *
 * <p>The device is kept busy: the micro-batches of the next step are made on another thread ({@link StepsAhead}), a pass is issued
 * before the loss of the one before it is read, and a step waits once, for the norm of its gradients.
 *
 * <p>One run, one thread, which calls the {@link TrainStep}; {@link #stop} may be called from any thread.
 */
public final class Trainer {
  /** The resolved configuration, beside the result. */
  public static final String CONFIG_FILE = "oribi-config.yaml";

  private final TrainConfig config;
  private final TrainStep step;
  private final ModelWriter model;
  private final RunData data;
  private final Console console;

  private final Map<String, Object> resolved;
  private final Checkpoints checkpoints;
  private final SpeedMeter meter = new SpeedMeter();
  private Checkpoints.Identity identity;
  private int totalSteps;
  private StepsAhead ahead;
  private Schedule schedule;
  private TrainLog log;
  private RunState state;
  private volatile boolean stopRequested;
  private StartClock start;

  /**
   * @param config the options; {@link TrainConfig#check} is called
   * @param step the model on its device; stays the caller's, who closes it
   * @param model writes the result, and the part of a checkpoint that is usable by itself
   * @param out where progress is shown
   */
  public Trainer(TrainConfig config, TrainStep step, ModelWriter model, RunData data, PrintStream out) {
    this(config, step, model, data, out, null);
  }

  /** @param start tells after the first step what its parts took; null: nothing is told */
  Trainer(TrainConfig config, TrainStep step, ModelWriter model, RunData data, PrintStream out, StartClock start) {
    this.start = start;
    config.check();
    this.config = config;
    this.step = step;
    this.model = model;
    this.data = data;
    this.console = Console.of(out, config.disableTqdm);
    this.resolved = ResolvedConfig.values(config);
    this.checkpoints = new Checkpoints(config.outputDir, config.saveTotalLimit);
  }

  /**
   * What came of a run.
   *
   * @param finished false if it was stopped before its last step
   * @param step optimizer steps made, with those before a checkpoint
   * @param trainLoss mean of the losses of all steps, NaN if there was none
   * @param checkpoint the last one written or found, if any
   */
  public record Result(boolean finished, int step, double trainLoss, Optional<Path> checkpoint) {}

  /** Asks a run to stop after the passes that are under way, and to save. */
  public void stop() {
    stopRequested = true;
  }

  /**
   * Trains to the end of the run, or until it is stopped.
   *
   * @throws OribiException if the output folder is taken, the checkpoint belongs to another run, the loss or the
   *     gradient is not a finite number, or the disk refuses
   */
  public Result run() {
    try (StopSignal signal = new StopSignal(this::stop)) {
      prepare();
      while (true) {
        if (evaluationIsDue()) {
          evaluate();
          endStart("held-out loss");
        }
        if (stopRequested || checkpointIsDue()) {
          saveCheckpoint();
        }
        if (stopRequested || state.step() >= totalSteps) {
          break;
        }
        trainStep();
      }
      return finish();
    } finally {
      if (ahead != null) {
        ahead.close();
      }
      console.end();
    }
  }

  // ---------------------------------------------------------------------------------------------------- one optimizer step

  private void trainStep() {
    meter.begin();
    StepPlan plan = ahead.take(state);
    LossScale scale = state.lossScale();
    double lossSum = 0;
    Loss previous = null;
    for (int i = 0; i < plan.batches().size(); i++) {
      if (stopRequested) {
        // The step is made again from its first micro-batch when the run goes on.
        step.clearGradients();
        return;
      }
      // A pass is issued before the loss of the one before it is read, so that the device always has work.
      Loss now = startMicroStep(plan, i);
      lossSum += previous == null ? 0 : finite(previous.sum(), plan, i - 1);
      previous = now;
    }
    ahead.peek().ifPresent(step::prepare);
    double rate = schedule.rate(state.step());
    // The only wait of a step is in here, for the norm. The last loss is read after it: where that is no number the norm is none
    // either and nothing is updated, and the run ends before anything is saved.
    double gradNorm = step.update(state.updates() + 1, rate, scale.value());
    lossSum += finite(previous.sum(), plan, plan.batches().size() - 1);
    boolean updated = Double.isFinite(gradNorm);
    LossScale next = updated ? scale.afterUpdate() : overflow(scale, gradNorm, plan);
    double loss = lossSum / plan.targetTokens();
    state = state.advance(plan, loss, next, updated);
    meter.end(plan.tokens());
    report(loss, gradNorm, rate);
    if (start != null) {
      reportStart();
    }
  }

  private Loss startMicroStep(StepPlan plan, int i) {
    double gradScale = state.lossScale().value() / plan.targetTokens();
    return step.startMicroStep(plan.batches().get(i), gradScale, state.microBatches() + i);
  }

  /** Where the loss of a micro-batch is no number the pass is made once more to find the row. */
  private double finite(double loss, StepPlan plan, int i) {
    if (!Double.isFinite(loss)) {
      startMicroStep(plan, i).sum();
      throw notFinite("loss", loss, NotFinite.sample(plan.batches().get(i), step.lastLosses(), data.train()));
    }
    return loss;
  }

  private void endStart(String part) {
    if (start != null) {
      start.end(part);
    }
  }

  private void reportStart() {
    start.end("first step");
    console.say(start.line());
    Map<String, Number> entry = entry();
    start.parts().forEach((part, seconds) -> entry.put("start_" + part.replace(' ', '_'), seconds));
    log.add(entry);
    start = null;
  }

  /** In fp16 the step counts but changes nothing, and the next is made with a smaller loss scale. */
  private LossScale overflow(LossScale scale, double gradNorm, StepPlan plan) {
    if (!scale.canShrink()) {
      throw notFinite("gradient norm", gradNorm, NotFinite.samples(plan.batches(), data.train()));
    }
    step.clearGradients();
    LossScale next = scale.afterOverflow();
    console.say(String.format(Locale.ROOT, "step %d: gradients overflow fp16, nothing is updated; the loss scale falls from %.0f to %.0f",
        state.step() + 1, scale.value(), next.value()));
    return next;
  }

  private void report(double loss, double gradNorm, double rate) {
    boolean logging = state.step() % config.loggingSteps == 0;
    double shownLoss = logging ? state.lossSum() / state.lossSteps() : loss;
    console.show(new Progress(state.step(), totalSteps, epoch(), shownLoss, gradNorm, rate, meter.tokensPerSecond(),
        step.memoryBytes(), meter.secondsFor(totalSteps - state.step())), logging);
    if (logging) {
      Map<String, Number> entry = entry();
      entry.put("loss", shownLoss);
      if (Double.isFinite(gradNorm)) { // JSON has no infinity, and an fp16 step that overflowed has no norm
        entry.put("grad_norm", gradNorm);
      }
      entry.put("learning_rate", rate);
      entry.put("tokens", state.tokens());
      entry.put("tokens_per_second", meter.tokensPerSecond());
      entry.put("memory", step.memoryBytes());
      log.add(entry);
      meter.logged();
      state = state.logged();
    }
  }

  private Map<String, Number> entry() {
    Map<String, Number> entry = new LinkedHashMap<>();
    entry.put("step", state.step());
    entry.put("epoch", epoch());
    return entry;
  }

  private double epoch() {
    return state.epoch() + (double) state.microBatch() / data.batches().microBatches(state.epoch());
  }

  private OribiException notFinite(String what, double value, String where) {
    step.clearGradients();
    String checkpoint = checkpoints.last().map(path -> "; the last good checkpoint is " + path).orElse("");
    return new OribiException("The " + what + " is " + value + " at step " + (state.step() + 1) + ", in " + where
        + ": look at that sample, lower --learning-rate, lengthen --warmup-steps or lower --max-grad-norm" + checkpoint
        + ".");
  }

  // -------------------------------------------------------------------------------------------------------- evaluation

  private boolean evaluationIsDue() {
    if (data.evalBatches() == null || log.hasEvaluation(state.step())) {
      return false;
    }
    if (state.step() == 0) {
      return config.evalOnStart;
    }
    return switch (config.evalStrategy) {
      case NO -> false;
      case STEPS -> state.step() % config.evalSteps == 0 || state.step() >= totalSteps;
      case EPOCH -> state.microBatch() == 0 || state.step() >= totalSteps;
    };
  }

  /** Mean loss over all held-out target tokens. A stop request ends it without a result. */
  private void evaluate() {
    long begun = System.nanoTime();
    double lossSum = 0;
    long targets = 0;
    Loss previous = null;
    for (int i = 0; i < data.evalBatches().microBatches(0); i++) {
      if (stopRequested) {
        return;
      }
      MicroBatch batch = data.evalBatches().get(0, i);
      Loss now = step.startEvaluation(batch);
      lossSum += previous == null ? 0 : previous.sum();
      previous = now;
      targets += batch.targetTokens();
    }
    lossSum += previous == null ? 0 : previous.sum();
    double loss = lossSum / targets;
    if (!Double.isFinite(loss)) {
      throw notFinite("held-out loss", loss, "the evaluation before it");
    }
    double seconds = (System.nanoTime() - begun) / 1e9;
    Map<String, Number> entry = entry();
    entry.put("eval_loss", loss);
    if (Double.isFinite(Math.exp(loss))) { // JSON has no infinity, and above 709 nats there is no other word for it
      entry.put("eval_perplexity", Math.exp(loss));
    }
    entry.put("eval_tokens", targets);
    entry.put("eval_runtime", seconds);
    entry.put("eval_samples_per_second", data.eval().size() / seconds);
    log.add(entry);
    console.say(String.format(Locale.ROOT, "step %d  held-out loss %.6f  perplexity %.4f  (%,d tokens)",
        state.step(), loss, Math.exp(loss), targets));
  }

  // ------------------------------------------------------------------------------------------- beginning, saving, ending

  private void prepare() {
    console.say(step.describe() + ", " + Progress.bytes(step.memoryBytes()) + " planned");
    identity = new Checkpoints.Identity(resolved, data.fingerprint(), step.describe());
    totalSteps = StepPlan.totalSteps(config, data.batches());
    ahead = new StepsAhead(config, data.batches(), totalSteps);
    int warmup = Schedule.warmupSteps(config.warmupSteps, config.warmupRatio, totalSteps);
    schedule = new Schedule(config.lrSchedulerType, config.peakLearningRate(), warmup, totalSteps, config.minLrRate);
    state = RunState.start(firstScale());
    List<Map<String, Number>> history = List.of();
    Optional<Path> checkpoint = OutputFolder.prepare(config, checkpoints);
    if (checkpoint.isPresent()) {
      history = resume(checkpoint.get());
    }
    log = new TrainLog(config.outputDir, history);
    AtomicFiles.text(config.outputDir.resolve(CONFIG_FILE), config.toYaml());
  }

  private LossScale firstScale() {
    return step.scalesLoss() ? LossScale.FIRST : LossScale.NONE;
  }

  private List<Map<String, Number>> resume(Path checkpoint) {
    Checkpoints.Loaded loaded = Checkpoints.load(checkpoint, step, identity);
    state = loaded.state();
    if (state.lossScale().scales() != step.scalesLoss()) {
      state = state.scaled(firstScale()); // made on a device that stores activations in another type
    }
    console.say("Going on from " + checkpoint + ", step " + state.step() + " of " + totalSteps);
    if (!loaded.device().equals(step.describe())) {
      console.say("The checkpoint was made on " + loaded.device() + ": this run may round in another way.");
    }
    return loaded.history();
  }

  private boolean checkpointIsDue() {
    if (state.step() == 0) {
      return false;
    }
    return switch (config.saveStrategy) {
      case NO -> false;
      case STEPS -> state.step() % config.saveSteps == 0 || state.step() >= totalSteps;
      case EPOCH -> state.microBatch() == 0 || state.step() >= totalSteps;
    };
  }

  private Path saveCheckpoint() {
    return checkpoints.save(state, step, model, identity, log.trainerState(config, state, epoch(), totalSteps));
  }

  private Result finish() {
    boolean finished = state.step() >= totalSteps;
    double trainLoss = state.step() == 0 ? Double.NaN : state.totalLoss() / state.step();
    if (finished) {
      writeResult();
    } else {
      console.say("Stopped after step " + state.step() + " of " + totalSteps + "; saved " + checkpoints.folder(state.step())
          + ". The same command with --resume goes on.");
    }
    return new Result(finished, state.step(), trainLoss, checkpoints.last());
  }

  private void writeResult() {
    OutputFolder.publish(config.outputDir, model);
    Json.write(config.outputDir.resolve(Checkpoints.TRAINER_STATE), log.trainerState(config, state, epoch(), totalSteps));
    LossPlot.write(config.outputDir, log.entries()).ifPresent(console::say);
    console.say(String.format(Locale.ROOT, "Done: %d steps, %,d tokens, mean loss %.6f; the result is in %s",
        state.step(), state.tokens(), state.totalLoss() / state.step(), config.outputDir));
  }
}
