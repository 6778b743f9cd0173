package dev.oribi.cli;

import dev.oribi.kernel.AttentionLibrary;
import dev.oribi.model.Machine;
import picocli.CommandLine.Option;

/** The options of every command that runs on a device. */
final class MachineOptions {
  @Option(
      names = "--device",
      paramLabel = "NAME",
      description = "auto (a GPU if there is one, else the CPU), cpu, cuda, or cuda:N for one of several GPUs.")
  private String device = "auto";

  @Option(names = "--threads", paramLabel = "N", description = "CPU threads; 0: one for each core.")
  private int threads;

  @Option(names = "--debug-sync", description = "Wait for the device after every op, so that an error names the op at fault.")
  private boolean debugSync;

  @Option(names = "--no-cuda-graph", description = "On a GPU, issue every op anew in place of replaying recorded programs.")
  private boolean noCudaGraph;

  @Option(names = "--attention", paramLabel = "NAME", description = "Library of attention on a GPU: ${COMPLETION-CANDIDATES}.")
  private AttentionLibrary attention = AttentionLibrary.AUTO;

  @Option(names = "--deterministic", description = "On a GPU, give the same bits for the same seed on the same card.")
  private boolean deterministic;

  @Option(names = "--tune-products", description = "On a GPU, time the algorithms of each product first and keep the fastest.")
  private boolean tuneProducts;

  /** The device; the caller closes it. */
  Machine open() {
    return Machine.open(device, threads, new Machine.Options(debugSync, !noCudaGraph, tuneProducts, attention, deterministic));
  }
}
