package dev.oribi.export;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import dev.oribi.generate.TextModel;
import dev.oribi.gguf.GgufFolder;
import dev.oribi.gguf.family.GgufFamilies;
import dev.oribi.io.AtomicFiles;
import dev.oribi.io.Json;
import dev.oribi.io.SafetensorsWriter;
import dev.oribi.model.Machine;
import dev.oribi.model.ModelFiles;
import dev.oribi.model.Quantizer;
import dev.oribi.model.config.LoraConfig;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.config.QuantizationConfig;
import dev.oribi.text.ChatTemplate;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.Set;
import java.util.function.Consumer;

/**
 * Writes a trained model in a form that others run, and compares what it wrote with what was trained before anything gets the
 * target's name.
 *
 * <p>Whatever goes wrong, an old target stays as it was. A target that exists is replaced only if that is asked for.
 */
public final class Exporter {
  /**
   * What is to be written.
   *
   * @param model folder of the base model, or a GGUF file
   * @param adapter folder of a PEFT adapter, or null
   * @param storage how the base was held in training
   * @param mix the kind of GGUF file
   * @param output file or folder to write
   * @param overwrite whether an existing target may be replaced
   */
  public record Request(Path model, Path adapter, TextModel.Storage storage, ExportFormat format, GgufMix mix, Path output,
      boolean overwrite) {}

  /** From this share of the adapter's effect on, a merge that lost it is warned of. */
  private static final double LOST = 0.5;

  private static final String TEMPLATE = "chat_template.jinja";

  /** Each folder that an export writes has one of these. */
  private static final Set<String> EXPORTED = Set.of(ModelConfig.FILE, LoraConfig.FILE, "Modelfile");

  /** A model that is exactly the base has no effect that could be lost; below this KL there is nothing to compare. */
  private static final double NO_EFFECT = 1e-9;

  private final Request request;
  private final Path folder;
  private final Machine machine;
  private final Consumer<String> say;
  private List<int[]> prompts;
  private float[][] trained;

  /** @param say takes lines for the user */
  public Exporter(Request request, Machine machine, Consumer<String> say) {
    this.request = request;
    this.folder = GgufFolder.of(request.model);
    this.machine = machine;
    this.say = say;
  }

  /** Writes and checks; returns how far the result is from the trained model, where it can be run. */
  public Optional<Difference> run() {
    checkTarget();
    AtomicFiles.recover(request.output);
    return switch (request.format) {
      case ADAPTER -> adapter();
      case MERGED -> folder(temp -> writeMerged(temp));
      case MERGED_NF4 -> folder(temp -> writeNf4(temp));
      case GGUF -> gguf();
      case GGUF_ADAPTER -> ggufAdapter();
      case OLLAMA -> ollama();
    };
  }

  private void checkTarget() {
    if (Files.exists(request.output, LinkOption.NOFOLLOW_LINKS) && !request.overwrite) {
      throw new OribiException(request.output + " exists: give another --output, or replace it with --overwrite");
    }
    checkReplaced();
    boolean needs = request.format == ExportFormat.ADAPTER || request.format == ExportFormat.GGUF_ADAPTER;
    if (needs && request.adapter == null) {
      throw new OribiException("there is no adapter to export: give its folder with --adapter");
    }
    if (request.adapter != null && !Files.isRegularFile(request.adapter.resolve(LoraConfig.WEIGHTS_FILE))) {
      throw new OribiException(request.adapter + " has no " + LoraConfig.WEIGHTS_FILE + ": give the folder of a PEFT adapter");
    }
  }

  /** What is replaced must be an export, and not one that this one is made of. */
  private void checkReplaced() {
    Path output = request.output.toAbsolutePath().normalize();
    for (Path source : Arrays.asList(request.model, request.adapter)) {
      if (source != null && (source.toAbsolutePath().normalize().startsWith(output) || isWithin(source, output))) {
        throw new OribiException(request.output + " holds " + source + ", which is to be exported: give another --output");
      }
    }
    boolean one = request.format == ExportFormat.GGUF || request.format == ExportFormat.GGUF_ADAPTER;
    if (Files.isDirectory(output) && one) {
      throw new OribiException(request.output + " is a folder, and " + (request.format == ExportFormat.GGUF ? "gguf" : "gguf-adapter")
          + " is one file: give it a name, such as " + request.output.resolve("model.gguf"));
    }
    String[] inside = Files.isDirectory(output) ? output.toFile().list() : null;
    if (inside != null && inside.length > 0 && Arrays.stream(inside).noneMatch(EXPORTED::contains)) {
      throw new OribiException(request.output + " is a folder that no export wrote, and --overwrite would delete all of it: give another --output");
    }
  }

  /** Whether a source lies in what is to be replaced, by whatever names; of a link the link alone is replaced. */
  private static boolean isWithin(Path source, Path output) {
    try {
      return !Files.isSymbolicLink(output) && Files.exists(output) && source.toRealPath().startsWith(output.toRealPath());
    } catch (IOException e) {
      return false; // the source is not there, as reading it says
    }
  }

  private void checkSpace(long bytes) {
    Path at = request.output.toAbsolutePath().getParent();
    while (at != null && !Files.exists(at)) {
      at = at.getParent();
    }
    try {
      long free = at == null ? Long.MAX_VALUE : Files.getFileStore(at).getUsableSpace();
      if (free < bytes) {
        throw new OribiException("Cannot write " + request.output + ": it needs " + bytes + " bytes and " + free + " are free on that disk;"
            + " free some space or give another --output.");
      }
    } catch (IOException e) {
      // The disk does not tell; a full one is noticed as it fills.
    }
  }

  // --------------------------------------------------------------------------------------------------------- formats

  private Optional<Difference> adapter() {
    Difference[] found = new Difference[1];
    AtomicFiles.directory(request.output, temp -> {
      ModelFiles.copyCompanions(folder, temp);
      ModelFiles.copy(request.adapter, temp, List.of(LoraConfig.WEIGHTS_FILE, LoraConfig.FILE, "README.md", TEMPLATE));
      found[0] = compare(folder, temp, request.storage);
      requireSame(found[0]);
    });
    return Optional.of(found[0]);
  }

  private Optional<Difference> folder(AtomicFiles.Filler filler) {
    Difference[] found = new Difference[1];
    AtomicFiles.directory(request.output, temp -> {
      filler.fill(temp);
      found[0] = compare(temp, null, TextModel.Storage.PLAIN);
    });
    warnIfLost(found[0]);
    return Optional.of(found[0]);
  }

  private void writeMerged(Path temp) throws IOException {
    ModelConfig config = ModelConfig.read(folder);
    try (MergedModel merged = new MergedModel(folder, request.adapter)) {
      List<SafetensorsWriter.Tensor> tensors =
          merged.names().stream().map(n -> new SafetensorsWriter.Tensor(n, ModelFiles.fileType(config, n), merged.shape(n))).toList();
      checkSpace(tensors.stream().mapToLong(SafetensorsWriter.Tensor::bytes).sum());
      SafetensorsWriter.writeModel(temp, tensors, SafetensorsWriter.DEFAULT_SHARD_BYTES, (t, sink) ->
          RowSource.copy(merged, t.name(), (values, n, row, rows) -> sink.floats(FloatBuffer.wrap(values, 0, n))));
      ObjectNode json = config.toJson();
      json.put("tie_word_embeddings", config.tieWordEmbeddings() && !merged.ownHead());
      json.remove(List.of(QuantizationConfig.KEY, GgufFolder.TYPES));
      Json.write(temp.resolve(ModelConfig.FILE), json);
    }
    ModelFiles.copyCompanions(folder, temp);
    if (request.adapter != null) {
      ModelFiles.copy(request.adapter, temp, List.of(TEMPLATE));
    }
  }

  /** The template that the adapter's answers were learned with, else the model's. */
  private Optional<ChatTemplate> template() {
    Optional<ChatTemplate> learned = request.adapter == null ? Optional.empty() : ChatTemplate.load(request.adapter);
    return learned.or(() -> ChatTemplate.load(folder));
  }

  private void writeNf4(Path temp) throws IOException {
    Path plain = Files.createDirectory(temp.resolve("merged"));
    writeMerged(plain);
    Quantizer.write(plain, temp, machine);
    AtomicFiles.deleteTree(plain);
  }

  private Optional<Difference> gguf() {
    Difference[] found = new Difference[1];
    AtomicFiles.staged(request.output, temp -> found[0] = writeGguf(temp));
    warnIfLost(found[0]);
    return Optional.of(found[0]);
  }

  private Difference writeGguf(Path temp) {
    try (MergedModel merged = new MergedModel(folder, request.adapter)) {
      GgufModelFile file = new GgufModelFile(merged, folder, request.mix, title(), template());
      checkSpace(file.bytes());
      file.limits().forEach(say);
      file.write(temp);
    }
    return compare(GgufFolder.of(temp), null, TextModel.Storage.PLAIN);
  }

  private String title() {
    String name = request.output.getFileName().toString();
    return name.endsWith(".gguf") ? name.substring(0, name.length() - ".gguf".length()) : name;
  }

  private Optional<Difference> ggufAdapter() {
    AtomicFiles.staged(request.output, temp -> {
      new GgufAdapterFile(folder, request.adapter).write(request.adapter, temp);
      double difference = GgufAdapterFile.difference(folder, request.adapter, temp);
      say.accept(String.format(Locale.ROOT, "Read back: the adapter's numbers differ by at most %.3g.", difference));
      if (!(difference <= 1e-4)) {
        throw new OribiException("the GGUF adapter that was written is not the adapter that was trained; this is a fault in Oribi");
      }
    });
    return Optional.empty();
  }

  private Optional<Difference> ollama() {
    Difference[] found = new Difference[1];
    String name = "model-" + request.mix + ".gguf";
    AtomicFiles.directory(request.output, temp -> {
      found[0] = writeGguf(temp.resolve(name));
      AtomicFiles.text(temp.resolve("Modelfile"), Modelfile.of(folder, name, context(), template()));
    });
    warnIfLost(found[0]);
    return Optional.of(found[0]);
  }

  private int context() {
    ModelConfig config = ModelConfig.read(folder);
    return GgufFamilies.ofModelType(config.modelType()).context(config);
  }

  // ----------------------------------------------------------------------------------------------------------- check

  /** The trained model against what was written, run as it was written. */
  private Difference compare(Path written, Path adapter, TextModel.Storage storage) {
    if (trained == null) {
      prompts = Probe.prompts(folder);
      trained = Probe.logits(folder, request.adapter, request.storage, machine, prompts);
    }
    Difference d = Difference.between(trained, Probe.logits(written, adapter, storage, machine, prompts));
    say.accept(d.sentence());
    return d;
  }

  private void requireSame(Difference d) {
    if (d.largest() != 0) {
      throw new OribiException("the adapter that was written is not the one that was trained; this is a fault in Oribi");
    }
  }

  private boolean quantized() {
    return switch (request.format) {
      case GGUF, OLLAMA -> request.mix.quantized();
      default -> request.format == ExportFormat.MERGED_NF4;
    };
  }

  /** A quantized weight can be too coarse for what an adapter changed: then the file is the base model again. */
  private void warnIfLost(Difference d) {
    if (request.adapter == null) {
      return;
    }
    float[][] base = Probe.logits(folder, null, request.storage, machine, prompts);
    Difference effect = Difference.between(trained, base);
    say.accept(String.format(Locale.ROOT, "Without the adapter the KL would be %.3g.", effect.kl()));
    if (effect.kl() > NO_EFFECT && d.kl() > LOST * effect.kl()) {
      say.accept(request.storage.layersIn4bit() && !quantized()
          ? "WARNING: the base in 4 bits, on which the adapter was trained, and the base as it is stored, to which it was added, are further"
              + " apart than half of what the adapter changed: judge the result by its answers, or export merged-nf4."
          : "WARNING: this type is so coarse that most of what the adapter changed is lost in rounding: take one with more bits, or"
              + " export the adapter beside the base model (--format gguf-adapter).");
    }
  }
}
