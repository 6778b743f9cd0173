package dev.oribi.train;

import dev.oribi.OribiException;
import dev.oribi.data.DataFiles;
import dev.oribi.optim.SchedulerType;
import java.nio.file.Path;
import java.util.stream.Stream;

/** What the values of a {@link TrainConfig} may be. */
final class ConfigCheck {
  private ConfigCheck() {}

  static void check(TrainConfig c) {
    atLeast("--max-seq-length", c.maxSeqLength, 2);
    atLeast("--lora-r", c.loraR, 1);
    atLeast("--per-device-train-batch-size", c.perDeviceTrainBatchSize, 1);
    atLeast("--per-device-eval-batch-size", c.perDeviceEvalBatchSize, 1);
    atLeast("--gradient-accumulation-steps", c.gradientAccumulationSteps, 1);
    atLeast("--warmup-steps", c.warmupSteps, 0);
    atLeast("--eval-steps", c.evalSteps, 1);
    atLeast("--logging-steps", c.loggingSteps, 1);
    atLeast("--save-steps", c.saveSteps, 1);
    atLeast("--save-total-limit", c.saveTotalLimit, 0);
    atLeast("--threads", c.machine.threads, 0);
    within("--eval-fraction", c.evalFraction, 0, 1);
    within("--lora-dropout", c.loraDropout, 0, 1);
    within("--adam-beta1", c.adamBeta1, 0, 1);
    within("--adam-beta2", c.adamBeta2, 0, 1);
    within("--warmup-ratio", c.warmupRatio, 0, Math.nextUp(1.0));
    within("--min-lr-rate", c.minLrRate, 0, Math.nextUp(1.0));
    within("--learning-rate", c.peakLearningRate(), 0, Double.POSITIVE_INFINITY);
    within("--lora-alpha", c.loraAlpha, Double.MIN_VALUE, Double.POSITIVE_INFINITY);
    within("--weight-decay", c.weightDecay, 0, Double.POSITIVE_INFINITY);
    within("--adam-epsilon", c.adamEpsilon, Double.MIN_VALUE, Double.POSITIVE_INFINITY);
    within("--max-grad-norm", c.maxGradNorm, 0, Double.POSITIVE_INFINITY);
    if (c.maxSteps <= 0) {
      within("--num-train-epochs", c.numTrainEpochs, Double.MIN_VALUE, Double.POSITIVE_INFINITY);
    }
    c.memoryBytes();
    checkTogether(c);
  }

  private static void checkTogether(TrainConfig c) {
    if (c.trainsAllWeights() && c.adapter != null) {
      throw new OribiException("--adapter and --full exclude each other: take one away.");
    }
    if (c.trainsAllWeights() && c.loadIn4bit) {
      throw new OribiException("--load-in-4bit and --full exclude each other: weights in 4 bits cannot learn; take one away.");
    }
    if (c.trainsAllWeights() && c.headIn8bit) {
      throw new OribiException("--head-in-8bit and --full exclude each other: weights in 8 bits cannot learn; take one away.");
    }
    if (c.trainsAllWeights() && c.fp8) {
      throw new OribiException("--fp8 and --full exclude each other: weights in FP8 cannot learn; take one away.");
    }
    if (c.evalFraction > 0 && !c.evalData.isEmpty()) {
      throw new OribiException("--eval-fraction and --eval-data exclude each other: take one away.");
    }
    boolean goesOnThere = c.resumeFromCheckpoint != null && OutputFolder.isIn(c.outputDir, c.resumeFromCheckpoint);
    if (c.overwriteOutputDir && (c.resume || goesOnThere)) {
      throw new OribiException("--overwrite-output-dir deletes the run that --resume would go on with: take one away.");
    }
    if (same(c.outputDir, c.model) || same(c.outputDir, c.adapter)) {
      throw new OribiException("--output-dir is " + c.outputDir + ", which the run reads from: give another folder.");
    }
    Stream.of(c.data.stream(), c.evalData.stream(), Stream.ofNullable(c.prompts)).flatMap(paths -> paths)
        .forEach(path -> checkIsKept(c.outputDir, path));
    if (c.lrSchedulerType == SchedulerType.CONSTANT && (c.warmupSteps > 0 || c.warmupRatio > 0)) {
      throw new OribiException("--lr-scheduler-type constant has no warm-up: take --warmup-steps and --warmup-ratio away, or take"
          + " constant_with_warmup.");
    }
    if (c.lrSchedulerType != SchedulerType.COSINE && c.minLrRate > 0) {
      throw new OribiException("--min-lr-rate is where cosine ends, and --lr-scheduler-type is " + c.lrSchedulerType
          + ": take one away.");
    }
    if (c.targetModules.isBlank()) {
      throw new OribiException("--target-modules is empty: give names such as q_proj,v_proj, or all-linear.");
    }
  }

  /** Refuses an output folder in which the run would write over, or take for data, what it reads. */
  private static void checkIsKept(Path outputDir, Path path) {
    boolean inside = same(outputDir, path.toAbsolutePath().getParent());
    if (same(outputDir, path) || inside && (DataFiles.isPattern(path) || OutputFolder.writes(path.getFileName()))) {
      throw new OribiException("--output-dir is " + outputDir + ", where the run would write over " + path
          + " or read its own files as data: give another folder.");
    }
  }

  private static boolean same(Path a, Path b) {
    return b != null && a.toAbsolutePath().normalize().equals(b.toAbsolutePath().normalize());
  }

  private static void atLeast(String option, long value, long least) {
    if (value < least) {
      throw new OribiException(option + " is " + value + ": it must be " + least + " or more.");
    }
  }

  /** {@code low <= value < high}; a value that is not a number fails. */
  private static void within(String option, double value, double low, double high) {
    if (!(value >= low && value < high)) {
      String least = low == Double.MIN_VALUE ? "more than 0" : "at least " + (long) low;
      String most = high == Double.POSITIVE_INFINITY ? "finite" : high > 1 ? "at most 1" : "less than 1";
      throw new OribiException(option + " is " + value + ": it must be " + least + " and " + most + ".");
    }
  }
}
