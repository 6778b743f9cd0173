package dev.oribi.cli;

import dev.oribi.OribiException;
import dev.oribi.data.DataOptions;
import dev.oribi.data.Dataset;
import dev.oribi.data.Report;
import dev.oribi.data.RowInspector;
import dev.oribi.gguf.GgufFolder;
import dev.oribi.gguf.GgufModel;
import dev.oribi.gguf.GgufTensor;
import dev.oribi.io.Checkpoint;
import dev.oribi.io.TensorInfo;
import dev.oribi.io.TensorType;
import dev.oribi.kernel.Kernels.NormWeight;
import dev.oribi.model.config.GenerationConfig;
import dev.oribi.model.config.LoraConfig;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.config.ModelTensors;
import dev.oribi.model.config.QuantizationConfig;
import dev.oribi.model.family.Architecture;
import dev.oribi.model.family.Architecture.GatedMlpSpec;
import dev.oribi.model.family.Architecture.SelfAttentionSpec;
import dev.oribi.text.ChatTemplate;
import dev.oribi.text.Tokenizer;
import dev.oribi.train.RowSettings;
import java.io.PrintStream;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** {@code oribi inspect}: what is in a folder or a file, before anything is run with it. */
@Command(
    name = "inspect",
    description = "Explains a model folder, an adapter, or rows of data as they will be trained.",
    footer = {
      "",
      "Examples:",
      "  oribi inspect --model DIR",
      "  oribi inspect --adapter oribi-output",
      "  oribi inspect --model DIR --data rows.jsonl --row 3    what is masked stands between ‹ and ›, in colour on a terminal"
    },
    sortOptions = false)
final class InspectCommand implements Callable<Integer> {
  @Option(names = "--model", paramLabel = "DIR",
      description = "Model folder or GGUF file to explain; with --data, the one whose tokenizer reads the rows. Without it: Oribi's"
          + " own tiny model.")
  private Path model;

  @Option(names = "--adapter", paramLabel = "DIR", description = "Adapter folder to explain.")
  private Path adapter;

  @Option(names = "--data", paramLabel = "FILE", split = ",", description = "Data whose rows are shown, files or folders as in train.")
  private List<Path> data = new ArrayList<>();

  @Option(names = "--row", paramLabel = "N", description = "First row to show, from 1, as they stand in the data; also one that is left out of training.")
  private int row = 1;

  @Option(names = "--rows", paramLabel = "N", description = "Rows to show.")
  private int rows = 1;

  @Option(names = "--max-seq-length", paramLabel = "N", description = "Where longer rows are cut, as in train.")
  private int maxSeqLength = 1024;

  @Mixin private RowSettings settings = new RowSettings();

  private final PrintStream out = System.out;

  @Override
  public Integer call() {
    if (!data.isEmpty()) {
      showRows(model == null ? Embedded.model() : model);
    } else if (adapter == null || model != null) {
      showModel(model == null ? Embedded.model() : model);
    }
    if (adapter != null) {
      showAdapter();
    }
    return 0;
  }

  // --------------------------------------------------------------------------------------------------------------- data

  private void showRows(Path path) {
    Path folder = GgufFolder.of(path);
    ModelConfig config = ModelConfig.read(folder);
    int length = Math.min(maxSeqLength, config.contextLength());
    DataOptions options = new DataOptions(length, config.vocabSize(), Runtime.getRuntime().availableProcessors(), null);
    DataOptions all = settings.apply(options);
    boolean colours = System.getProperty("oribi.terminal.columns") != null;
    try (Tokenizer tokenizer = Tokenizer.exists(folder) ? Tokenizer.load(folder) : null) {
      ChatTemplate template = tokenizer == null ? null : settings.template(folder).orElse(null);
      Report report = Dataset.scan(data, all.skippingBadRows(true), tokenizer, template);
      out.println(report.sentence());
      if (report.rowsEnding() == 0 && report.rowsKept() > 0) {
        out.println("! No row trains a token at which the model stops: training refuses this data.");
      }
      List<String> shown = new RowInspector(all, tokenizer, template).show(data, row, rows, colours);
      if (row < 1 || shown.isEmpty()) {
        throw new OribiException(report.rowsRead() == 0 ? "The data has no rows."
            : "--row is " + row + ": the data has rows 1 to " + report.rowsRead() + ".");
      }
      for (String text : shown) {
        out.println();
        out.println(text);
      }
    }
  }

  // -------------------------------------------------------------------------------------------------------------- model

  private void showModel(Path path) {
    Path folder = GgufFolder.of(path);
    ModelConfig c = ModelConfig.read(folder);
    if (!folder.equals(path)) {
      try (GgufModel weights = GgufModel.open(path)) {
        showSizes(path, c, sizes(weights));
      }
      showText(folder);
      return;
    }
    try (Checkpoint weights = Checkpoint.open(folder)) {
      ModelTensors.check(c, weights);
      showSizes(path, c, sizes(weights));
      if (c.quantization() != null) {
        line("quantization", "linear layers in 4 bits: NF4 with double quantization%s", skips(c.quantization()));
      }
      showText(folder);
      showFindings(folder, c, weights);
    }
  }

  private void showSizes(Path path, ModelConfig c, String weights) {
    out.printf(Locale.ROOT, "%s: a %s model with %,d parameters%n", path, c.modelType(), ModelTensors.elements(c));
    line("layers", "%d, hidden size %d, feed-forward size %d, %s", c.numHiddenLayers(), c.hiddenSize(),
        c.intermediateSize(), c.hiddenAct());
    line("attention", "%d heads over %d of keys and values, head size %d", c.numAttentionHeads(),
        c.numKeyValueHeads(), c.headDim());
    line("positions", "%,d, rotary: %s, theta %s%s", c.contextLength(), c.rope().type(), c.rope().theta(),
        c.rope().partial() == 1 ? "" : ", " + c.rope().rotated(c.headDim()) + " channels of a head");
    special(c).ifPresent(text -> line("special", "%s", text));
    line("vocabulary", "%,d tokens, output head %s", c.vocabSize(),
        c.tieWordEmbeddings() ? "shared with the embedding" : "of its own");
    line("weights", "%s", weights);
  }

  private void showFindings(Path folder, ModelConfig config, Checkpoint weights) {
    if (!Tokenizer.exists(folder)) {
      return;
    }
    try (Tokenizer tokenizer = Tokenizer.load(folder)) {
      List<Integer> ends = GenerationConfig.read(folder, config).eosTokenIds();
      for (ModelFindings.Finding f : ModelFindings.of(weights, tokenizer, ChatTemplate.load(folder).orElse(null), ends)) {
        line(f.warning() ? "WARNING" : "note", "%s", f.text());
      }
    }
  }

  /** What its layers have that those of Llama have not. */
  private static Optional<String> special(ModelConfig c) {
    Architecture a = c.architecture();
    List<String> found = new ArrayList<>();
    long windows = 0;
    int window = 0;
    for (Architecture.Layer layer : a.layers()) {
      if (layer.attention() instanceof SelfAttentionSpec s && s.window() > 0) {
        windows++;
        window = s.window();
      }
    }
    if (windows > 0) {
      found.add(String.format(Locale.ROOT, "a window of %,d tokens in %d of %d layers", window, windows, a.layers().size()));
    }
    Architecture.Layer first = a.layers().get(0);
    if (first.attention() instanceof SelfAttentionSpec s) {
      add(found, s.qkvBias() || s.oBias(), "biases in attention");
      add(found, s.qNorm() != null, "norms of query and key heads");
      add(found, s.outputNorm() != null, "norms after attention and MLP");
      add(found, s.softcap() != 0, "scores capped at " + s.softcap());
    }
    add(found, first.mlp() instanceof GatedMlpSpec m && m.biases(), "biases in the MLP");
    add(found, a.norm() == NormWeight.ONE_PLUS, "norms by 1 + w");
    add(found, a.embeddingScale() != 1, "a scaled embedding");
    add(found, a.logitSoftcap() != 0, "logits capped at " + a.logitSoftcap());
    return found.isEmpty() ? Optional.empty() : Optional.of(String.join(", ", found));
  }

  private static void add(List<String> found, boolean there, String what) {
    if (there) {
      found.add(what);
    }
  }

  private static String skips(QuantizationConfig quantization) {
    return quantization.skipModules().isEmpty() ? "" : ", but for " + String.join(", ", quantization.skipModules());
  }

  private void showText(Path folder) {
    if (!Tokenizer.exists(folder)) {
      line("tokenizer", "none: data must have input_ids");
      return;
    }
    try (Tokenizer tokenizer = Tokenizer.load(folder)) {
      line("tokenizer", "%,d tokens, begin %s, end %s; read by %s", tokenizer.vocabSize(), tokenizer.bosToken().orElse("none"),
          tokenizer.eosToken().orElse("none"), tokenizer.reader());
    }
    line("chat template", "%s", ChatTemplate.load(folder).isPresent() ? "yes" : "none: data of messages needs one");
  }

  // ------------------------------------------------------------------------------------------------------------ adapter

  private void showAdapter() {
    LoraConfig c = LoraConfig.read(adapter);
    try (Checkpoint weights = Checkpoint.open(adapter.resolve(LoraConfig.WEIGHTS_FILE))) {
      out.printf(Locale.ROOT, "%s: a LoRA adapter with %,d parameters%n", adapter, elements(weights));
      line("base model", "%s", c.baseModelNameOrPath() == null ? "not named" : c.baseModelNameOrPath());
      line("rank", "r %d, lora_alpha %s%s, dropout %s", c.r(), c.loraAlpha(), c.useRslora() ? " over sqrt(r)" : " over r",
          c.loraDropout());
      line("target modules", "%s", c.targetModules());
      if (!c.targetParameters().isEmpty()) {
        line("target parameters", "%s", c.targetParameters());
      }
      line("adapted", "%s", modules(weights));
      line("weights", "%s", sizes(weights));
    }
  }

  /** The last names of the modules that have an adapter: q_proj, v_proj, … */
  private static String modules(Checkpoint weights) {
    return weights.tensors().keySet().stream().filter(name -> name.endsWith(".lora_A.weight"))
        .map(name -> name.substring(0, name.length() - ".lora_A.weight".length()))
        .map(name -> name.substring(name.lastIndexOf('.') + 1))
        .collect(Collectors.toCollection(TreeSet::new)).stream().collect(Collectors.joining(", "));
  }

  // ------------------------------------------------------------------------------------------------------------- shared

  private void line(String name, String format, Object... values) {
    out.printf(Locale.ROOT, "  %-15s " + format + "%n", concat(name, values));
  }

  private static Object[] concat(String first, Object[] rest) {
    List<Object> all = new ArrayList<>(List.of(first));
    all.addAll(List.of(rest));
    return all.toArray();
  }

  private static long elements(Checkpoint weights) {
    return weights.tensors().values().stream().mapToLong(TensorInfo::elements).sum();
  }

  private static String sizes(GgufModel weights) {
    long bytes = weights.tensors().values().stream().mapToLong(GgufTensor::bytes).sum();
    String types = weights.tensors().values().stream().map(t -> t.type().name()).distinct().collect(Collectors.joining(", "));
    return String.format(Locale.ROOT, "%,d tensors, %,d bytes, %s", weights.tensors().size(), bytes, types);
  }

  private static String sizes(Checkpoint weights) {
    long bytes = weights.tensors().values().stream().mapToLong(TensorInfo::bytes).sum();
    String types = weights.tensors().values().stream().map(TensorInfo::type).distinct().map(TensorType::name)
        .collect(Collectors.joining(", "));
    return String.format(Locale.ROOT, "%,d tensors, %,d bytes, %s", weights.tensors().size(), bytes, types);
  }
}
