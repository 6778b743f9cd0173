package dev.oribi.cli;

import dev.oribi.OribiException;
import dev.oribi.export.ExportFormat;
import dev.oribi.export.Exporter;
import dev.oribi.export.GgufMix;
import dev.oribi.generate.TextModel;
import dev.oribi.model.Machine;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Locale;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** {@code oribi export}: a trained model in a form that others run. */
@Command(
    name = "export",
    description = "Writes a trained model for llama.cpp, Ollama, vLLM or transformers, reads it back and compares its logits with those"
        + " of the trained model.",
    footer = {
      "",
      "Formats: adapter (PEFT's files), merged (Hugging Face's files, the adapter added to the weights), merged-nf4 (the same in 4",
      "bits), gguf (one file), gguf-adapter (for llama.cpp's --lora), ollama (a folder with a GGUF file and a Modelfile).",
      "",
      "Examples:",
      "  oribi export --model DIR --adapter oribi-output --format gguf --type q4_k_m --output model.gguf",
      "  oribi export --model DIR --adapter oribi-output --format merged --output my-model"
    },
    sortOptions = false)
final class ExportCommand implements Callable<Integer> {
  @Mixin private ModelOptions model;

  @Option(names = "--format", paramLabel = "NAME", required = true, description = "What to write: adapter, merged, merged-nf4, gguf, gguf-adapter or ollama.")
  private String format;

  @Option(names = "--type", paramLabel = "NAME", description = "Kind of GGUF file: f32, f16, bf16, q8_0, q4_0, q4_k_m, q5_k_m or q6_k.")
  private String type = "q8_0";

  @Option(names = "--output", paramLabel = "PATH", required = true, description = "File or folder to write.")
  private Path output;

  @Option(names = "--overwrite", description = "Replace what is there under that name, once the new one is whole and checked.")
  private boolean overwrite;

  @Override
  public Integer call() {
    Exporter.Request request = new Exporter.Request(
        model.path(), model.adapter, new TextModel.Storage(model.loadIn4bit, model.headIn8bit), format(), GgufMix.of(type), output, overwrite);
    try (Machine machine = model.machine.open()) {
      new Exporter(request, machine, System.out::println).run();
    }
    System.out.println("Wrote " + output);
    return 0;
  }

  private ExportFormat format() {
    String name = format.toUpperCase(Locale.ROOT).replace('-', '_');
    return Arrays.stream(ExportFormat.values()).filter(f -> f.name().equals(name)).findFirst()
        .orElseThrow(() -> new OribiException("--format " + format + ": there are adapter, merged, merged-nf4, gguf, gguf-adapter and ollama"));
  }
}
