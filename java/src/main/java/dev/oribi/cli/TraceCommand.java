package dev.oribi.cli;

import dev.oribi.model.Machine;
import dev.oribi.train.MachineOptions;
import dev.oribi.train.StorageType;
import dev.oribi.train.Trace;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** {@code oribi trace}: logits, loss and gradients of one batch, to compare with another trainer. */
@Command(
    name = "trace",
    description = "Writes the logits, the loss and every gradient of one batch to a safetensors file, in float32.",
    footer = {
      "",
      "The batch: {\"input_ids\": [[...], ...], \"labels\": [[...], ...]}, labels -100 where masked and not shifted.",
      "The file: logits [batch, time, vocabulary], loss [1] (mean over target tokens), grad.<name> for all that learns."
    },
    sortOptions = false)
final class TraceCommand implements Callable<Integer> {
  @Option(names = "--model", paramLabel = "DIR", required = true, description = "Model folder.")
  private Path model;

  @Option(names = "--adapter", paramLabel = "DIR", description = "Adapter whose gradients are wanted.")
  private Path adapter;

  @Option(names = "--full", description = "Gradients of every weight of the model.")
  private boolean full;

  @Option(names = "--batch", paramLabel = "FILE", required = true, description = "JSON with input_ids and labels.")
  private Path batch;

  @Option(names = "--out", paramLabel = "FILE", required = true, description = "The safetensors file to write.")
  private Path out;

  @Option(names = "--dtype", paramLabel = "TYPE", description = "Storage of weights and activations: ${COMPLETION-CANDIDATES}.")
  private StorageType dtype = StorageType.AUTO;

  @Mixin private MachineOptions machine;

  @Override
  public Integer call() {
    try (Machine open = machine.open()) {
      Trace.write(model, adapter, full, batch, out, dtype, open);
    }
    System.out.println("Wrote " + out);
    return 0;
  }
}
