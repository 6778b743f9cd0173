package dev.oribi.cli;

import dev.oribi.kernel.Kernels;
import dev.oribi.model.Machine;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;

/** {@code oribi version}: what runs here, for a report of a fault. */
@Command(name = "version", description = "Prints the versions of Oribi and Java, and the device.")
final class VersionCommand implements Callable<Integer> {
  @Override
  public Integer call() {
    System.out.println("oribi " + Kernels.version());
    System.out.println("Java " + System.getProperty("java.version") + " (" + System.getProperty("java.vendor") + "), "
        + System.getProperty("os.name") + " " + System.getProperty("os.arch"));
    try (Machine machine = Machine.cpu(0)) {
      System.out.println(machine.describe());
    }
    return 0;
  }
}
