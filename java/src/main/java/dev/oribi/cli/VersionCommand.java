package dev.oribi.cli;

import dev.oribi.kernel.Kernels;
import dev.oribi.model.Machine;
import dev.oribi.train.MachineOptions;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;

/** {@code oribi version}: what runs here, for a report of a fault. */
@Command(name = "version", description = "Prints the versions of Oribi and Java, and the device.")
final class VersionCommand implements Callable<Integer> {
  @Mixin private MachineOptions options;

  @Override
  public Integer call() {
    System.out.println("oribi " + Kernels.version());
    System.out.println("Java " + System.getProperty("java.version") + " (" + System.getProperty("java.vendor") + "), "
        + System.getProperty("os.name") + " " + System.getProperty("os.arch"));
    try (Machine machine = options.open()) {
      System.out.println(machine.describe());
      if (!machine.noGpu().isEmpty()) {
        System.out.println("GPU: " + machine.noGpu());
      }
    }
    return 0;
  }
}
