package dev.oribi.train;

import dev.oribi.model.Machine;
import dev.oribi.optim.OptimizerType;
import dev.oribi.optim.SchedulerType;
import dev.oribi.gguf.GgufFolder;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import picocli.CommandLine.Help.Visibility;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/**
 * Every option of a training run, by Hugging Face's names, with its default beside it; the only place that has them.
 *
 * <p>An option {@code --learning-rate} of the command line is {@code learning_rate} in a YAML file and
 * {@link #learningRate} in Java. {@link ConfigReader#read} fills a configuration from a file and the command line; a
 * Java program may also set the fields:
 * <pre>{@code
 * TrainConfig config = new TrainConfig();
 * config.model = Path.of("models/llama");
 * config.data = List.of(Path.of("train.jsonl"));
 * config.maxSteps = 100;
 * }</pre>
 * {@link #check} refuses values that no run can have.
 */
public final class TrainConfig {
  @Option(names = "--config", paramLabel = "FILE",
      description = "YAML file with any of these options, written with underscores (learning_rate: 1e-4). What the"
          + " command line says comes after it and wins.")
  public Path config;

  // ------------------------------------------------------------------------------------------------ model and data

  @Option(names = "--model", paramLabel = "DIR",
      description = "Model folder in Hugging Face's layout, or a GGUF file, on whose blocks an adapter is trained as they are."
          + " Without --model and --data: Oribi's own tiny model and its instructions.")
  public Path model;

  private Path modelFolder;

  @Option(names = "--data", paramLabel = "FILE", split = ",", showDefaultValue = Visibility.NEVER,
      description = "Training data, one or more files, folders or patterns in quotes: JSON, JSONL, CSV, Parquet or plain text, maybe"
          + " gzip; 'oribi inspect --data FILE' shows how rows are read.")
  public List<Path> data = new ArrayList<>();

  @Option(names = "--eval-data", paramLabel = "FILE", split = ",", showDefaultValue = Visibility.NEVER,
      description = "Held-out data, which is never trained on; its loss is reported.")
  public List<Path> evalData = new ArrayList<>();

  @Option(names = "--eval-fraction", paramLabel = "X",
      description = "Without --eval-data: hold out this fraction of the training rows, chosen by --seed.")
  public double evalFraction = 0;

  @Option(names = "--output-dir", paramLabel = "DIR",
      description = "Where the result, the checkpoints and the logs go.")
  public Path outputDir = Path.of("oribi-output");

  @Option(names = "--overwrite-output-dir", arity = "0..1", fallbackValue = "true",
      showDefaultValue = Visibility.ALWAYS, paramLabel = "true|false",
      description = "Start afresh in an output folder that has a run in it; its checkpoints and logs are deleted.")
  public boolean overwriteOutputDir = false;

  @Option(names = "--max-seq-length", paramLabel = "N",
      description = "Longer rows are cut at this many tokens, and counted; plain text is split at it. Never more than the"
          + " model's max_position_embeddings.")
  public int maxSeqLength = 1024;

  @Option(names = "--packing", arity = "0..1", fallbackValue = "true",
      showDefaultValue = Visibility.ALWAYS, paramLabel = "true|false",
      description = "Put several rows side by side into each sequence of --max-seq-length tokens. Rows do not see each"
          + " other. Fewer, fuller steps.")
  public boolean packing = false;

  @Option(names = "--shuffle", arity = "0..1", fallbackValue = "true",
      showDefaultValue = Visibility.ALWAYS, paramLabel = "true|false",
      description = "Another order of the rows in each epoch, by --seed.")
  public boolean shuffle = true;

  @Option(names = "--group-by-length", arity = "0..1", fallbackValue = "true",
      showDefaultValue = Visibility.ALWAYS, paramLabel = "true|false",
      description = "Without --packing: put rows of nearly the same length into a pass.")
  public boolean groupByLength = false;

  /** How rows are read. */
  @Mixin public final RowSettings rows = new RowSettings();

  @Option(names = "--require-end", arity = "0..1", fallbackValue = "true",
      showDefaultValue = Visibility.ALWAYS, paramLabel = "true|false",
      description = "Refuse data of which no row trains a token at which the model stops.")
  public boolean requireEnd = true;

  @Option(names = "--prompts", paramLabel = "FILE",
      description = "Show the model's answers to these prompts, one a line, before and after training.")
  public Path prompts;

  @Option(names = "--cache-dir", paramLabel = "DIR",
      description = "Keep tokenized data here, to start faster the next time. Without it nothing is kept.")
  public Path cacheDir;

  // -------------------------------------------------------------------------------------------------- what is trained

  @Option(names = "--adapter", paramLabel = "DIR", description = "Go on from this LoRA adapter in place of a fresh one; its rank, scale and layers hold.")
  public Path adapter;

  @Option(names = "--full", arity = "0..1", fallbackValue = "true",
      showDefaultValue = Visibility.ALWAYS, paramLabel = "true|false",
      description = "Train every weight in place of a LoRA adapter. Takes some ten times the memory.")
  public boolean full = false;

  @Option(names = "--from-scratch", arity = "0..1", fallbackValue = "true",
      showDefaultValue = Visibility.ALWAYS, paramLabel = "true|false",
      description = "Begin with random weights of the shape in config.json; implies --full.")
  public boolean fromScratch = false;

  @Option(names = "--lora-r", paramLabel = "R",
      description = "Rank of the adapter: more learns more and takes more memory. 8 to 64 are usual.")
  public int loraR = 16;

  @Option(names = "--lora-alpha", paramLabel = "X",
      description = "The adapter's output is multiplied by alpha / r (by alpha / sqrt(r) with --use-rslora).")
  public double loraAlpha = 16;

  @Option(names = "--lora-dropout", paramLabel = "P", description = "Dropout in front of the adapter, 0 to below 1.")
  public double loraDropout = 0;

  @Option(names = "--target-modules", paramLabel = "NAMES",
      description = "Layers that get an adapter: names with commas between them (q_proj,v_proj), a regular expression"
          + " for the whole path, or all-linear: every linear layer but the output head.")
  public String targetModules = "all-linear";

  @Option(names = "--use-rslora", arity = "0..1", fallbackValue = "true",
      showDefaultValue = Visibility.ALWAYS, paramLabel = "true|false",
      description = "Scale by alpha / sqrt(r), which stays stable at high ranks.")
  public boolean useRslora = false;

  @Option(names = "--modules-to-save", paramLabel = "NAMES", split = ",", showDefaultValue = Visibility.NEVER,
      description = "Layers trained whole and stored beside the adapter, such as lm_head or embed_tokens.")
  public List<String> modulesToSave = new ArrayList<>();

  @Option(names = "--load-in-4bit", arity = "0..1", fallbackValue = "true",
      showDefaultValue = Visibility.ALWAYS, paramLabel = "true|false",
      description = "Hold the linear layers in 4 bits (NF4 with double quantization) under the adapter: QLoRA. A quarter of"
          + " the memory of 16 bits. A model folder that is in 4 bits already stays so without it.")
  public boolean loadIn4bit = false;

  @Option(names = "--head-in-8bit", arity = "0..1", fallbackValue = "true",
      showDefaultValue = Visibility.ALWAYS, paramLabel = "true|false",
      description = "Hold the output head in 8 bits, quantized on load; half the memory of 16 bits. What that changes is"
          + " printed. Not for a head that learns, nor one that is the embedding table.")
  public boolean headIn8bit = false;

  @Option(names = "--fp8", arity = "0..1", fallbackValue = "true",
      showDefaultValue = Visibility.ALWAYS, paramLabel = "true|false",
      description = "Multiply by the frozen linear layers in FP8 (e4m3), on an H100 or H200: faster, with rounding that other"
          + " products do not have. Plain weights are held in FP8, as large as in 16 bits; those in 4 bits have a copy in FP8"
          + " where there is room.")
  public boolean fp8 = false;

  @Option(names = "--dtype", paramLabel = "TYPE",
      description = "Storage of activations and frozen weights: ${COMPLETION-CANDIDATES}. What is trained is always"
          + " float32.")
  public StorageType dtype = StorageType.AUTO;

  // ------------------------------------------------------------------------------------------------- how long, how much

  @Option(names = "--num-train-epochs", paramLabel = "X", description = "Passes over the data; may be a fraction.")
  public double numTrainEpochs = 3;

  @Option(names = "--max-steps", paramLabel = "N",
      description = "Stop after so many optimizer steps; more than 0 overrides --num-train-epochs.")
  public int maxSteps = -1;

  @Option(names = "--per-device-train-batch-size", paramLabel = "N",
      description = "Sequences in a forward and backward pass; memory grows with it.")
  public int perDeviceTrainBatchSize = 8;

  @Option(names = "--per-device-eval-batch-size", paramLabel = "N", description = "Sequences in an evaluation pass.")
  public int perDeviceEvalBatchSize = 8;

  @Option(names = "--gradient-accumulation-steps", paramLabel = "N",
      description = "Passes to an optimizer step. The result is that of one pass over all of them, in the memory of"
          + " one.")
  public int gradientAccumulationSteps = 1;

  @Option(names = "--gradient-checkpointing", arity = "0..1", fallbackValue = "true",
      showDefaultValue = Visibility.ALWAYS, paramLabel = "true|false",
      description = "Keep the inputs of the layers alone and run each layer again on the way back: much less memory for"
          + " long rows, about a third more time.")
  public boolean gradientCheckpointing = false;

  @Option(names = "--memory", paramLabel = "SIZE", defaultValue = Option.NULL_VALUE,
      description = "Most memory of the device that the run may take, such as 8GiB. What does not fit is made again on the way"
          + " back or kept in the host's memory, whatever costs least; `oribi plan` shows the choice. Default: what is free.")
  public String memory;

  /** {@link #memory} in bytes; 0 where it is not given. */
  long memoryBytes() {
    return MemorySize.parse("--memory", memory);
  }

  // ---------------------------------------------------------------------------------------------------------- optimizer

  @Option(names = "--optim", paramLabel = "NAME", converter = OptimizerType.Converter.class,
      description = "adamw_torch, or adamw_8bit (also adamw_bnb_8bit): AdamW with its moments in 8 bits, in a quarter of the"
          + " memory, to nearly the same losses. Worth it with --full.")
  public OptimizerType optim = OptimizerType.ADAMW_TORCH;

  @Option(names = "--learning-rate", paramLabel = "X", defaultValue = Option.NULL_VALUE,
      description = "Peak learning rate of AdamW. Default: 2e-4 for an adapter, as is usual, and 5e-5 with --full.")
  public Double learningRate;

  @Option(names = "--lr-scheduler-type", paramLabel = "NAME",
      description = "Shape of the learning rate over the run: ${COMPLETION-CANDIDATES}.")
  public SchedulerType lrSchedulerType = SchedulerType.LINEAR;

  @Option(names = "--warmup-steps", paramLabel = "N",
      description = "Steps in which the rate rises from 0; more than 0 overrides --warmup-ratio.")
  public int warmupSteps = 0;

  @Option(names = "--warmup-ratio", paramLabel = "X", description = "The same, as a fraction of all steps.")
  public double warmupRatio = 0;

  @Option(names = "--min-lr-rate", paramLabel = "X",
      description = "cosine ends at this fraction of the peak in place of 0.")
  public double minLrRate = 0;

  @Option(names = "--weight-decay", paramLabel = "X",
      description = "AdamW's decay. Norms and biases are never decayed.")
  public double weightDecay = 0;

  @Option(names = "--adam-beta1", paramLabel = "X", description = "Memory of the mean of the gradient.")
  public double adamBeta1 = 0.9;

  @Option(names = "--adam-beta2", paramLabel = "X", description = "Memory of the mean of its square.")
  public double adamBeta2 = 0.999;

  @Option(names = "--adam-epsilon", paramLabel = "X", description = "Added to the root of the mean square.")
  public double adamEpsilon = 1e-8;

  @Option(names = "--max-grad-norm", paramLabel = "X",
      description = "Gradients with a larger norm are scaled down to it; 0: never.")
  public double maxGradNorm = 1;

  @Option(names = "--seed", paramLabel = "N",
      description = "Of the adapter's first values, the order of the rows and dropout. Same seed, same bits.")
  public long seed = 42;

  // ---------------------------------------------------------------------------------------------- evaluation, logs, saves

  @Option(names = "--eval-strategy", paramLabel = "WHEN",
      description = "When to evaluate, if there is held-out data: ${COMPLETION-CANDIDATES}.")
  public IntervalStrategy evalStrategy = IntervalStrategy.EPOCH;

  @Option(names = "--eval-steps", paramLabel = "N", description = "Steps between evaluations with --eval-strategy steps.")
  public int evalSteps = 100;

  @Option(names = "--eval-on-start", arity = "0..1", fallbackValue = "true",
      showDefaultValue = Visibility.ALWAYS, paramLabel = "true|false",
      description = "Evaluate before the first step too, to compare with.")
  public boolean evalOnStart = false;

  @Option(names = "--logging-steps", paramLabel = "N", description = "Steps to a line of the log and of train.jsonl.")
  public int loggingSteps = 10;

  @Option(names = "--disable-tqdm", arity = "0..1", fallbackValue = "true",
      showDefaultValue = Visibility.ALWAYS, paramLabel = "true|false",
      description = "Plain lines in place of the progress bar on a terminal.")
  public boolean disableTqdm = false;

  @Option(names = "--save-strategy", paramLabel = "WHEN",
      description = "When to write a checkpoint: ${COMPLETION-CANDIDATES}. With 'no' only an interrupted run leaves one.")
  public IntervalStrategy saveStrategy = IntervalStrategy.STEPS;

  @Option(names = "--save-steps", paramLabel = "N", description = "Steps between checkpoints with --save-strategy steps.")
  public int saveSteps = 500;

  @Option(names = "--save-total-limit", paramLabel = "N",
      description = "Keep this many checkpoints and delete the oldest; 0: keep all.")
  public int saveTotalLimit = 0;

  @Option(names = "--resume", arity = "0..1", fallbackValue = "true",
      showDefaultValue = Visibility.ALWAYS, paramLabel = "true|false",
      description = "Go on from the last whole checkpoint of the output folder, to the same bits as if the run had never"
          + " stopped; from the start if there is none.")
  public boolean resume = false;

  @Option(names = "--resume-from-checkpoint", paramLabel = "DIR", description = "Go on from this checkpoint.")
  public Path resumeFromCheckpoint;

  // -------------------------------------------------------------------------------------------------- machine, debugging

  /** {@code --device}, {@code --threads} and what else every command has that runs on a device. */
  @Mixin public final MachineOptions machine = new MachineOptions();

  @Option(names = "--overfit-one-batch", arity = "0..1", fallbackValue = "true",
      showDefaultValue = Visibility.ALWAYS, paramLabel = "true|false",
      description = "Train on the first micro-batch alone, again and again: the loss must go to 0, or something is"
          + " wrong.")
  public boolean overfitOneBatch = false;

  /** The folder of the model: around a GGUF file one is made, once. */
  public Path modelFolder() {
    if (modelFolder == null) {
      modelFolder = GgufFolder.of(model);
    }
    return modelFolder;
  }

  /** The device that {@code --device} names, open; the caller closes it. */
  public Machine machine() {
    return machine.open();
  }

  /** Whether every weight is trained: {@code full}, or {@code from_scratch} which implies it. */
  public boolean trainsAllWeights() {
    return full || fromScratch;
  }

  /** The peak learning rate: the one that was given, else the default of the way of training. */
  public double peakLearningRate() {
    if (learningRate != null) {
      return learningRate;
    }
    return trainsAllWeights() ? 5e-5 : 2e-4;
  }

  /** {@code target_modules} as PEFT stores it: {@code "all-linear"} or a regular expression as text, names as a list. */
  public Object targetModulesValue() {
    boolean names = targetModules.matches("[A-Za-z0-9_.,\\s]+");
    return names ? List.of(targetModules.trim().split("\\s*,\\s*")) : targetModules;
  }

  /** Every option and its value, as a YAML file that {@code --config} reads again. */
  public String toYaml() {
    return ResolvedConfig.yaml(ResolvedConfig.values(this));
  }

  /**
   * Refuses values that no run can have.
   *
   * @throws dev.oribi.OribiException that names the option, its value and what it may be
   */
  public void check() {
    ConfigCheck.check(this);
  }
}
