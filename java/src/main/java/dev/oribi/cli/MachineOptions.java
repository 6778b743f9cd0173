package dev.oribi.cli;

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

  /** The device; the caller closes it. */
  Machine open() {
    return Machine.open(device, threads, Machine.Options.of(debugSync, noCudaGraph));
  }
}
