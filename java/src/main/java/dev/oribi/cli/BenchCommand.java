package dev.oribi.cli;

import dev.oribi.OribiException;
import dev.oribi.bench.AttentionBench;
import dev.oribi.bench.Ceilings;
import dev.oribi.bench.DataBench;
import dev.oribi.bench.LoraBench;
import dev.oribi.bench.StepBench;
import dev.oribi.data.DataFiles;
import dev.oribi.generate.Generator;
import dev.oribi.generate.TextModel;
import dev.oribi.model.Machine;
import dev.oribi.optim.OptimizerType;
import dev.oribi.train.MachineOptions;
import dev.oribi.train.MemorySize;
import dev.oribi.train.RowSettings;
import dev.oribi.train.StorageType;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** {@code oribi bench}: measurements; all but that of data need no files. */
@Command(name = "bench", description = "Measures this machine.", subcommands = {BenchCommand.StepCommand.class, BenchCommand.AttentionCommand.class, BenchCommand.LoraCommand.class, BenchCommand.DecodeCommand.class,
    BenchCommand.DataCommand.class})
final class BenchCommand {
  private BenchCommand() {}

  /** {@code oribi bench step}. */
  @Command(
      name = "step",
      description = "Times whole training steps on random weights of a real shape, beside what the machine's products and"
          + " memory would allow.",
      sortOptions = false)
  static final class StepCommand implements Callable<Integer> {
    @Option(names = "--shape", paramLabel = "NAME", description = "From 135M to 70B parameters: smollm2-135m, llama-3.2-1b, llama-3.1-8b and more; a wrong name lists them.")
    private String shape = "smollm2-135m";

    @Option(names = "--batch", paramLabel = "N", description = "Sequences in a step.")
    private int batch = 4;

    @Option(names = "--seq", paramLabel = "N", description = "Tokens in a sequence.")
    private int seq = 256;

    @Option(names = {"--lora-r", "--rank"}, paramLabel = "R", description = "Rank of the adapter on all linear layers.")
    private int r = 16;

    @Option(names = "--full", description = "Train every weight.")
    private boolean full;

    @Option(names = "--quant", paramLabel = "nf4", description = "nf4 is --load-in-4bit under the name of its format.")
    private Quant quant;

    @Option(names = "--load-in-4bit", description = "Hold the linear layers in 4 bits under the adapter.")
    private boolean loadIn4bit;

    @Option(names = "--head-in-8bit", description = "Hold the output head in 8 bits.")
    private boolean headIn8bit;

    @Option(names = "--fp8", description = "Multiply by the frozen linear layers in FP8, on a GPU that can.")
    private boolean fp8;

    @Option(names = "--gradient-checkpointing", description = "Run each layer's forward pass twice, to keep less.")
    private boolean checkpointing;

    @Option(names = "--memory", paramLabel = "SIZE", description = "Most memory of the device that the step may take, such as 8GiB. Default: what is free.")
    private String memory;

    @Option(names = "--prefetch", description = "Dequantize each weight beside the product before it. No faster on an H100; takes one weight more of memory.")
    private boolean prefetch;

    @Option(names = "--layers", paramLabel = "N", description = "Run only so many layers; first the memory of the whole model is planned and printed.")
    private int layers;

    @Option(names = "--longest", description = "Print the longest sequence that fits --memory, and run nothing.")
    private boolean longest;

    @Option(names = "--dtype", paramLabel = "TYPE", description = "Storage of weights and activations: ${COMPLETION-CANDIDATES}.")
    private StorageType dtype = StorageType.AUTO;

    @Option(names = "--optim", paramLabel = "NAME", converter = OptimizerType.Converter.class, description = "adamw_torch, or adamw_8bit: AdamW's moments in 8 bits.")
    private OptimizerType optim = OptimizerType.ADAMW_TORCH;

    @Mixin private MachineOptions machine;

    @Option(names = "--steps", paramLabel = "N", description = "Steps that are timed, after some that are not; 0, on a GPU: the first alone, without the table of ops.")
    private int steps = 5;

    @Option(names = "--json", paramLabel = "FILE", description = "Write the numbers there too.")
    private Path json;

    /** The formats of 4 bits. */
    enum Quant {
      nf4
    }

    @Override
    public Integer call() {
      try (Machine open = machine.open()) {
        StepBench.Options options =
            new StepBench.Options(
                shape, batch, seq, r, full, loadIn4bit || quant != null, headIn8bit, fp8, checkpointing, MemorySize.parse("--memory", memory),
                prefetch, layers, dtype, optim, steps, json);
        if (longest) {
          System.out.println(StepBench.longest(options, open));
        } else {
          StepBench.run(options, open, System.out);
        }
      }
      return 0;
    }
  }

  /** {@code oribi bench data}. */
  @Command(
      name = "data",
      description = "Times how fast files become rows (reading, chat template, tokens, masks) and rows become micro-batches.",
      sortOptions = false)
  static final class DataCommand implements Callable<Integer> {
    @Option(names = "--model", paramLabel = "DIR", description = "Folder with a tokenizer. Default: Oribi's own tiny model.")
    private Path model;

    @Option(names = "--data", paramLabel = "FILE", split = ",", required = true, description = "Files, as in train.")
    private List<Path> data;

    @Option(names = "--max-seq-length", paramLabel = "N", description = "Where longer rows are cut.")
    private int maxSeqLength = 1024;

    @Option(names = "--batch", paramLabel = "N", description = "Sequences in a micro-batch.")
    private int batch = 8;

    @Option(names = "--threads", paramLabel = "N", description = "Threads that tokenize; 0: one for each core.")
    private int threads;

    @Option(names = "--passes", paramLabel = "N", description = "Times that the files are read.")
    private int passes = 3;

    @Mixin private RowSettings rows = new RowSettings();

    @Override
    public Integer call() {
      int used = threads > 0 ? threads : Runtime.getRuntime().availableProcessors();
      DataBench.run(new DataBench.Options(model == null ? Embedded.model() : model,
          DataFiles.resolve(data, DataFiles.Part.TRAIN), maxSeqLength, batch, used, passes, rows), System.out);
      return 0;
    }
  }

  /** {@code oribi bench attention}. */
  @Command(
      name = "attention",
      description = "Times the attention of Llama-3.1-8B and 3.2-1B on a GPU, forward and backward, by cuDNN and by Oribi's own"
          + " kernels.",
      sortOptions = false)
  static final class AttentionCommand implements Callable<Integer> {
    @Mixin private MachineOptions machine;

    @Override
    public Integer call() {
      try (Machine open = machine.open()) {
        AttentionBench.run(open, System.out);
      }
      return 0;
    }
  }

  /** {@code oribi bench lora}. */
  @Command(
      name = "lora",
      description = "Times the ways that products with an adapter can go on a GPU, and prints the lines of lora-paths.txt, the"
          + " table that chooses between them.",
      sortOptions = false)
  static final class LoraCommand implements Callable<Integer> {
    @Option(names = "--shape", paramLabel = "NAME", split = ",", description = "Shapes whose layers are measured, as for bench step.")
    private List<String> shapes = List.of("llama-3.1-8b");

    @Option(names = "--tokens", paramLabel = "N", split = ",", description = "Tokens in a batch.")
    private List<Long> tokens = List.of(512L, 2048L, 8192L);

    @Option(names = {"--lora-r", "--rank"}, paramLabel = "R", description = "Rank of each adapter.")
    private int r = 16;

    @Mixin private MachineOptions machine;

    @Override
    public Integer call() {
      try (Machine open = machine.open()) {
        LoraBench.run(open, new LoraBench.Options(shapes, tokens, r), System.out);
      }
      return 0;
    }
  }

  /** {@code oribi bench decode}. */
  @Command(
      name = "decode",
      description = "Times the tokens of an answer one by one, always the likeliest, after a prompt of 16 tokens and 64 tokens that"
          + " are not timed; with GB/s of weights read and the share of what this machine's memory gives.",
      sortOptions = false)
  static final class DecodeCommand implements Callable<Integer> {
    private static final int PROMPT = 16;

    /** Tokens until the virtual machine has compiled what it will. */
    private static final int WARM_UP = 64;

    @Mixin private ModelOptions model;

    @Option(names = "--tokens", paramLabel = "N", description = "Tokens that are timed.")
    private int tokens = 64;

    @Override
    public Integer call() {
      double[] each;
      long bytes;
      try (TextModel text = model.open()) {
        each = times(text);
        bytes = text.bytesOfToken();
      }
      double mean = Arrays.stream(each).average().orElseThrow();
      Arrays.sort(each);
      double p50 = each[each.length / 2];
      System.out.printf(Locale.ROOT, "%d tokens: p20 %.2f  p50 %.2f  p80 %.2f ms a token, %.1f tokens/s in the mean%n", each.length,
          each[each.length / 5], p50, each[each.length * 4 / 5], 1000 / mean);
      try (Machine open = model.machine.open()) { // last: at first the virtual machine's compiler takes the cores
        double rate = bytes / (p50 / 1e3);
        double memory = Ceilings.reading(open);
        System.out.printf(Locale.ROOT, "%.1f MB of weights a token: %.1f GB/s, %.0f %% of the %.1f GB/s that memory is read at%n",
            bytes / 1e6, rate / 1e9, 100 * rate / memory, memory / 1e9);
      }
      return 0;
    }

    /** Milliseconds of each timed token. */
    private double[] times(TextModel text) {
      if (tokens < 1) {
        throw new OribiException("--tokens must be at least 1, and is " + tokens);
      }
      int[] prompt = new int[PROMPT];
      Arrays.setAll(prompt, i -> 5 + 3 * i % (text.tokenizer().vocabSize() - 5));
      long[] at = new long[WARM_UP + tokens + 1];
      int[] n = {0};
      text.continueIds(prompt, Generator.Options.greedy(at.length, Set.of()), id -> {
        at[n[0]++] = System.nanoTime();
        return true;
      });
      if (n[0] < at.length) {
        throw new OribiException("a context of " + (PROMPT + n[0]) + " tokens ends before all are timed: lower --tokens");
      }
      double[] each = new double[tokens];
      Arrays.setAll(each, i -> (at[WARM_UP + i + 1] - at[WARM_UP + i]) / 1e6);
      return each;
    }
  }
}
