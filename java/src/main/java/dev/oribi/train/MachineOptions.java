package dev.oribi.train;

import dev.oribi.kernel.AttentionLibrary;
import dev.oribi.model.Machine;
import picocli.CommandLine.Help.Visibility;
import picocli.CommandLine.Option;

/** The options of every command that runs on a device, training among them: which one, and how programs run on it. */
public final class MachineOptions {
  @Option(names = "--device", paramLabel = "NAME",
      description = "Where to run: auto (a GPU if there is one, else the CPU), cpu, cuda, or cuda:N for one of several"
          + " GPUs.")
  public String device = "auto";

  @Option(names = "--threads", paramLabel = "N", description = "CPU threads; 0: one for each core.")
  public int threads = 0;

  @Option(names = "--debug-sync", arity = "0..1", fallbackValue = "true",
      showDefaultValue = Visibility.ALWAYS, paramLabel = "true|false",
      description = "Wait for the device after every op, so that an error names the op at fault. Slow.")
  public boolean debugSync = false;

  @Option(names = "--no-cuda-graph", arity = "0..1", fallbackValue = "true",
      showDefaultValue = Visibility.ALWAYS, paramLabel = "true|false",
      description = "On a GPU, issue every op anew in place of replaying recorded programs. More work for the"
          + " CPU; batches are not rounded up to sizes that come back.")
  public boolean noCudaGraph = false;

  @Option(names = "--attention", paramLabel = "NAME",
      description = "Library of attention on a GPU: ${COMPLETION-CANDIDATES}. auto takes cuDNN where it was"
          + " measured to be faster and is installed, and Oribi's own kernels elsewhere.")
  public AttentionLibrary attention = AttentionLibrary.AUTO;

  @Option(names = "--deterministic", arity = "0..1", fallbackValue = "true",
      showDefaultValue = Visibility.ALWAYS, paramLabel = "true|false",
      description = "On a GPU, give the same bits for the same seed on the same card. Everything but cuDNN's"
          + " attention, which is left out, does in any case; the CPU always does.")
  public boolean deterministic = false;

  @Option(names = "--tune-products", arity = "0..1", fallbackValue = "true",
      showDefaultValue = Visibility.ALWAYS, paramLabel = "true|false",
      description = "On a GPU, time the algorithms that cublasLt has for each product first and keep the fastest,"
          + " in place of the one that it holds for the fastest.")
  public boolean tuneProducts = false;

  /** The device, open; the caller closes it. */
  public Machine open() {
    return Machine.open(device, threads, new Machine.Options(debugSync, !noCudaGraph, tuneProducts, attention, deterministic));
  }
}
