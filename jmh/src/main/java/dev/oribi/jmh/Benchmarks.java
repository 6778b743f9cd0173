package dev.oribi.jmh;

import dev.oribi.bench.Ceilings;
import dev.oribi.model.Machine;
import java.util.Collection;
import java.util.Locale;
import java.util.Map;
import org.openjdk.jmh.results.Result;
import org.openjdk.jmh.results.RunResult;
import org.openjdk.jmh.runner.Runner;
import org.openjdk.jmh.runner.RunnerException;
import org.openjdk.jmh.runner.options.CommandLineOptionException;
import org.openjdk.jmh.runner.options.CommandLineOptions;
import org.openjdk.jmh.runner.options.OptionsBuilder;
import org.openjdk.jmh.runner.options.TimeValue;

/**
 * Runs the benchmarks that the arguments choose (JMH's own options; none: all) and sets each rate beside what the machine
 * reaches on a square fp32 product and on a sum of large arrays.
 */
public final class Benchmarks {
  private static final String HEAP = "-Xmx1g";

  private Benchmarks() {}

  public static void main(String[] arguments) throws RunnerException, CommandLineOptionException {
    CommandLineOptions given = new CommandLineOptions(arguments);
    if (given.shouldHelp()) {
      printHelp(given);
      return;
    }
    Ceilings ceilings;
    try (Machine machine = Machine.cpu(0)) {
      ceilings = Ceilings.measure(machine);
    }
    OptionsBuilder options = new OptionsBuilder();
    options.parent(given);
    if (given.getForkCount().orElse(-1) < 0) {
      options.forks(1);
    }
    if (given.getWarmupIterations().orElse(-1) < 0) {
      options.warmupIterations(2);
    }
    if (given.getMeasurementIterations().orElse(-1) < 0) {
      options.measurementIterations(5);
    }
    if (!given.getWarmupTime().hasValue()) {
      options.warmupTime(TimeValue.milliseconds(200));
    }
    if (!given.getMeasurementTime().hasValue()) {
      options.measurementTime(TimeValue.milliseconds(300));
    }
    options.jvmArgsAppend(HEAP, "-Dorg.bytedeco.javacpp.maxBytes=0", "-Dorg.bytedeco.javacpp.maxPhysicalBytes=0");
    print(new Runner(options.build()).run(), ceilings);
  }

  private static void printHelp(CommandLineOptions given) {
    try {
      given.showHelp();
    } catch (java.io.IOException e) {
      throw new java.io.UncheckedIOException(e);
    }
  }

  private static void print(Collection<RunResult> results, Ceilings c) {
    System.out.printf(Locale.ROOT, "%nThis machine: sgemm %.1f GFLOP/s, memory %.1f GB/s (y = a + b)%n", c.gemm() / 1e9, c.bandwidth() / 1e9);
    System.out.printf("%-58s %11s %9s %7s %9s %7s%n", "benchmark", "us a call", "GB/s", "share", "GFLOP/s", "share");
    for (RunResult r : results) {
      Map<String, Result> secondary = r.getSecondaryResults();
      double calls = r.getPrimaryResult().getScore();
      System.out.printf(Locale.ROOT, "%-58s %11.3f %s %s%n", name(r), 1e6 / calls, rate(secondary.get("GB"), c.bandwidth() / 1e9),
          rate(secondary.get("GFLOP"), c.gemm() / 1e9));
    }
    System.out.println("A share above 100 % is work in the processor's caches.");
  }

  private static String rate(Result rate, double ceiling) {
    if (rate == null || rate.getScore() == 0) {
      return String.format("%9s %7s", "-", "");
    }
    return String.format(Locale.ROOT, "%9.2f %6.1f%%", rate.getScore(), 100 * rate.getScore() / ceiling);
  }

  private static String name(RunResult r) {
    String label = r.getParams().getBenchmark().replaceAll(".*\\.([A-Za-z]+)Benchmark\\..*", "$1");
    StringBuilder name = new StringBuilder(label);
    for (String key : r.getParams().getParamsKeys()) {
      name.append(' ').append(r.getParams().getParam(key).toLowerCase(Locale.ROOT));
    }
    return name.toString();
  }
}
