package dev.oribi.cli;

import dev.oribi.OribiException;
import dev.oribi.io.AtomicFiles;
import dev.oribi.model.Machine;
import dev.oribi.model.Quantizer;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.train.MachineOptions;
import java.io.IOException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** {@code oribi quantize}: a model folder in 4 bits from a plain one. */
@Command(
    name = "quantize",
    description = "Writes a model in 4 bits, as bitsandbytes stores it: linear layers in NF4 with double quantization, the"
        + " rest as it is.",
    footer = {
      "",
      "Example:",
      "  oribi quantize --model DIR --output-dir DIR-bnb-4bit"
    },
    sortOptions = false)
final class QuantizeCommand implements Callable<Integer> {
  @Option(names = "--model", paramLabel = "DIR", required = true, description = "Plain model folder.")
  private Path model;

  @Option(names = "--output-dir", paramLabel = "DIR", required = true, description = "The folder to write.")
  private Path outputDir;

  @Mixin private MachineOptions machine;

  @Override
  public Integer call() throws IOException {
    if (ModelConfig.read(model).quantization() != null) {
      throw new OribiException(model + " is in 4 bits already");
    }
    if (Files.exists(outputDir, LinkOption.NOFOLLOW_LINKS) && !isEmptyFolder()) {
      throw new OribiException(outputDir + " exists: give another --output-dir, or remove it");
    }
    AtomicFiles.recover(outputDir);
    try (Machine open = machine.open()) {
      AtomicFiles.directory(outputDir, folder -> Quantizer.write(model, folder, open));
    }
    System.out.println("Wrote " + outputDir);
    return 0;
  }

  private boolean isEmptyFolder() throws IOException {
    if (!Files.isDirectory(outputDir)) {
      return false;
    }
    try (DirectoryStream<Path> files = Files.newDirectoryStream(outputDir)) {
      return !files.iterator().hasNext();
    }
  }
}
