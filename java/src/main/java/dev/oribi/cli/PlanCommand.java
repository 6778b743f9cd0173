package dev.oribi.cli;

import dev.oribi.program.Plan;
import dev.oribi.program.PlanReport;
import dev.oribi.program.Program;
import dev.oribi.train.FineTuning;
import dev.oribi.train.MemoryReport;
import dev.oribi.train.TrainConfig;
import java.util.Locale;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/** {@code oribi plan}: what a training run would take, without taking it. */
@Command(
    name = "plan",
    description = "Prints the memory that a training run will take, to the byte, and its ops. Takes the options of train.",
    sortOptions = false)
final class PlanCommand extends TrainOptions implements Callable<Integer> {
  @Option(names = "--ops", description = "Print every op of the step too, with its bytes and FLOPs.")
  private boolean ops;

  @Override
  public Integer call() {
    TrainConfig config = resolve();
    try (FineTuning run = FineTuning.open(config, System.out)) {
      Plan plan = run.plan();
      PlanReport report = new PlanReport(plan);
      System.out.println();
      System.out.print(report.memory());
      System.out.println();
      System.out.print(MemoryReport.choice(run.step()));
      System.out.println();
      System.out.print(report.layers());
      System.out.println();
      System.out.print(MemoryReport.curve(run.step()));
      System.out.println();
      for (Program p : plan.programs()) {
        if (p.ops().isEmpty()) {
          continue;
        }
        System.out.printf(
            Locale.ROOT, "program %-12s %5d ops %,18d bytes %,20d FLOPs%n", p.name(), p.ops().size(), p.bytes(), p.flops());
      }
      if (ops) {
        for (Program p : plan.programs()) {
          System.out.println();
          System.out.print(PlanReport.ops(p));
        }
      }
    }
    return 0;
  }
}
