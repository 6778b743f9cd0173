package dev.oribi.jmh;

import dev.oribi.bench.Ceilings;
import dev.oribi.model.Machine;
import java.util.Arrays;
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
 * Runs the benchmarks that the arguments choose (JMH's own options; none: all) on the device that {@code -Doribi.device}
 * names, and sets each rate beside what the device reaches on a square product and on a sum of large arrays. With
 * {@code --quick} all run in this one Java and briefly: to see that they do, and rates within some percent.
 */
public final class Benchmarks {
  private static final String HEAP = "-Xmx1g";
  private static final String QUICK = "--quick";

  private Benchmarks() {}

  public static void main(String[] arguments) throws RunnerException, CommandLineOptionException {
    boolean quick = Arrays.asList(arguments).contains(QUICK);
    CommandLineOptions given =
        new CommandLineOptions(Arrays.stream(arguments).filter(argument -> !argument.equals(QUICK)).toArray(String[]::new));
    if (given.shouldHelp()) {
      printHelp(given);
      return;
    }
    Ceilings ceilings;
    String name;
    try (Machine machine = Machine.open(Sizes.device(), 0)) {
      ceilings = Ceilings.measure(machine);
      name = machine.describe();
    }
    OptionsBuilder options = new OptionsBuilder();
    options.parent(given);
    if (given.getForkCount().orElse(-1) < 0) {
      options.forks(quick ? 0 : 1);
    }
    if (given.getWarmupIterations().orElse(-1) < 0) {
      options.warmupIterations(quick ? 1 : 2);
    }
    if (given.getMeasurementIterations().orElse(-1) < 0) {
      options.measurementIterations(quick ? 2 : 5);
    }
    if (!given.getWarmupTime().hasValue()) {
      options.warmupTime(TimeValue.milliseconds(quick ? 100 : 200));
    }
    if (!given.getMeasurementTime().hasValue()) {
      options.measurementTime(TimeValue.milliseconds(quick ? 100 : 300));
    }
    if (Sizes.gpu()) {
      unlessGiven(options, given, "kernel", Case.ofGpu());
      // What a GPU computes in, and enough tokens to fill it.
      unlessGiven(options, given, "type", "BF16");
      unlessGiven(options, given, "n", "8192");
      unlessGiven(options, given, "device", Sizes.device());
      unlessGiven(options, given, "shape", "llama-3.2-1b");
      unlessGiven(options, given, "batch", "4");
      unlessGiven(options, given, "seq", "512");
      unlessGiven(options, given, "dtype", "BFLOAT16");
    } else {
      unlessGiven(options, given, "kernel", Case.ofCpu());
    }
    options.jvmArgsAppend(HEAP, "-D" + Sizes.DEVICE + "=" + Sizes.device(), "-Dorg.bytedeco.javacpp.maxBytes=0", "-Dorg.bytedeco.javacpp.maxPhysicalBytes=0");
    print(new Runner(options.build()).run(), ceilings, name);
  }

  private static void unlessGiven(OptionsBuilder options, CommandLineOptions given, String parameter, String... values) {
    if (!given.getParameter(parameter).hasValue()) {
      options.param(parameter, values);
    }
  }

  private static void printHelp(CommandLineOptions given) {
    try {
      given.showHelp();
    } catch (java.io.IOException e) {
      throw new java.io.UncheckedIOException(e);
    }
  }

  private static void print(Collection<RunResult> results, Ceilings c, String machine) {
    // FLOP/s in the unit that fits the device.
    double unit = Sizes.gpu() ? 1e12 : 1e9;
    String flops = Sizes.gpu() ? "TFLOP/s" : "GFLOP/s";
    System.out.printf(Locale.ROOT, "%n%s: products %.1f %s (%s), memory %.1f GB/s (y = a + b)%n", machine, c.gemm() / unit, flops,
        Sizes.gpu() ? "8192 x 8192 x 8192, 16 bits" : "sgemm", c.bandwidth() / 1e9);
    System.out.printf("%-58s %11s %9s %7s %9s %7s%n", "benchmark", "us a call", "GB/s", "share", flops, "share");
    for (RunResult r : results) {
      Map<String, Result> secondary = r.getSecondaryResults();
      Result counted = secondary.get("CALLS");
      double calls = counted != null ? counted.getScore() : r.getPrimaryResult().getScore();
      System.out.printf(Locale.ROOT, "%-58s %11.3f %s %s%n", name(r), 1e6 / calls, rate(secondary.get("GB"), 1, c.bandwidth() / 1e9),
          rate(secondary.get("GFLOP"), unit / 1e9, c.gemm() / unit));
    }
    System.out.println("A share above 100 % is work in the device's caches.");
  }

  private static String rate(Result rate, double unit, double ceiling) {
    if (rate == null || rate.getScore() == 0) {
      return String.format("%9s %7s", "-", "");
    }
    double shown = rate.getScore() / unit;
    return String.format(Locale.ROOT, "%9.2f %6.1f%%", shown, 100 * shown / ceiling);
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
