package dev.oribi.cli;

import dev.oribi.OribiException;
import dev.oribi.generate.TextModel;
import dev.oribi.gguf.GgufFolder;
import dev.oribi.train.MachineOptions;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** The options of every command that runs a model. */
final class ModelOptions {
  @Option(
      names = "--model",
      paramLabel = "DIR",
      description = "Model folder in Hugging Face's layout, or a GGUF file. Without it: Oribi's own tiny model.")
  Path model;

  @Option(names = "--adapter", paramLabel = "DIR", description = "Folder of a PEFT adapter to run on top of the model.")
  Path adapter;

  @Option(
      names = "--load-in-4bit",
      description = "Hold the linear layers in 4 bits, as the adapter was trained with.")
  boolean loadIn4bit = false;

  @Option(
      names = "--head-in-8bit",
      description = "Hold the output head in 8 bits, as the adapter was trained with.")
  boolean headIn8bit = false;

  @Mixin MachineOptions machine;

  @Option(
      names = "--max-seq-length",
      paramLabel = "N",
      description = "Most tokens of prompt and answer together; at most what the model was made for.")
  int maxSeqLength = 2048;

  /** What was named: a folder or a file. */
  Path path() {
    return model == null ? Embedded.model() : model;
  }

  /** A model folder: around a GGUF file one is made. */
  Path folder() {
    return GgufFolder.of(path());
  }

  TextModel open() {
    if (maxSeqLength < 2) {
      throw new OribiException("--max-seq-length is " + maxSeqLength + ": it must be 2 or more.");
    }
    TextModel text =
        TextModel.open(folder(), adapter, new TextModel.Storage(loadIn4bit, headIn8bit), machine.open(), maxSeqLength);
    text.headReport().ifPresent(System.err::println); // what is generated stays alone on the standard output
    return text;
  }

  static List<Map<String, Object>> user(String content) {
    return List.of(Map.of("role", "user", "content", content));
  }
}
