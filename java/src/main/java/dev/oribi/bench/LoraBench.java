package dev.oribi.bench;

import dev.oribi.OribiException;
import dev.oribi.device.Arena;
import dev.oribi.device.Clock;
import dev.oribi.device.Mem;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.LoraPaths;
import dev.oribi.kernel.LoraPaths.Path;
import dev.oribi.kernel.LoraShape;
import dev.oribi.model.Machine;
import dev.oribi.model.config.ModelConfig;
import java.io.PrintStream;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/**
 * Times every way that a large product of adapted layers can go on a GPU and prints the lines of {@code lora-paths.txt}, from
 * which {@link LoraPaths} chooses. The ways of one product are timed by turns: a card at its power limit lowers its clock
 * under load, so that whatever is timed first would look faster.
 */
public final class LoraBench {
  private static final int RUNS = 21;

  /** The first run loads the kernels, and the first ones of all are issued more slowly than the card computes. */
  private static final int WARM_UP = 50;

  /** More than the cache of any card so far: no way finds its operands there. */
  private static final long FLUSH_BYTES = 256L << 20;

  /**
   * What is measured.
   *
   * @param shapes names of {@link Shapes}
   * @param tokens rows of x
   * @param rank of each adapter
   */
  public record Options(List<String> shapes, List<Long> tokens, int rank) {}

  /** Projections of one input, stacked by rows. */
  private record Stack(long in, List<Long> outs) {
    long out() {
      return outs.stream().mapToLong(Long::longValue).sum();
    }
  }

  private final Machine machine;
  private final Options options;
  private final DType type;
  private final PrintStream out;

  private LoraBench(Machine machine, Options options, PrintStream out) {
    this.machine = machine;
    this.options = options;
    this.type = machine.halfType();
    this.out = out;
  }

  /** Prints a line for each number of tokens, stack, pass and kind of weight. */
  public static void run(Machine machine, Options options, PrintStream out) {
    if (!machine.isCuda()) {
      throw new OribiException("the benchmark of adapted products is for a GPU: --device cuda");
    }
    new LoraBench(machine, options, out).run();
  }

  private void run() {
    out.printf("# %s, %s, rank %d; after the way: microseconds of fused, of library%n", machine.describe(), type.label(), options.rank);
    for (Map.Entry<Stack, String> stack : stacks().entrySet()) {
      out.printf("# %s%n", stack.getValue());
      for (long n : options.tokens) {
        measure(stack.getKey(), n);
      }
    }
  }

  /** The stacks of all shapes, each once, and where they are found. */
  private Map<Stack, String> stacks() {
    Map<Stack, String> all = new LinkedHashMap<>();
    for (String name : options.shapes) {
      ModelConfig c = Shapes.of(name);
      long hidden = c.hiddenSize();
      long q = (long) c.numAttentionHeads() * c.headDim();
      long kv = (long) c.numKeyValueHeads() * c.headDim();
      long f = c.intermediateSize();
      add(all, new Stack(hidden, List.of(q, kv, kv)), name + " qkv");
      add(all, new Stack(q, List.of(hidden)), name + " o");
      add(all, new Stack(hidden, List.of(f, f)), name + " gate_up");
      add(all, new Stack(f, List.of(hidden)), name + " down");
    }
    return all;
  }

  private static void add(Map<Stack, String> all, Stack stack, String where) {
    all.merge(stack, where, (a, b) -> a + ", " + b);
  }

  private LoraShape shape(Stack stack, long n) {
    List<LoraShape.Adapter> adapters = new ArrayList<>();
    long first = 0;
    for (long outs : stack.outs) {
      adapters.add(new LoraShape.Adapter(first, outs, 1));
      first += outs;
    }
    return new LoraShape(n, stack.in, stack.out(), stack.in, stack.out(), options.rank, type, adapters);
  }

  private void measure(Stack stack, long n) {
    LoraShape s = shape(stack, n);
    String reason = machine.kernels().lora().unsupported(s, false);
    if (reason != null) {
      throw new OribiException(reason);
    }
    // A stack of several matrices has several offsets, and is never read in 4 bits.
    boolean nf4 = stack.outs.size() == 1 && machine.kernels().lora().unsupported(s, true) == null;
    LoraWays ways = new LoraWays(machine, s, nf4);
    try (Arena arena = machine.device().allocate("a benchmark", ways.bytes() + FLUSH_BYTES)) {
      Mem flush = arena.all().slice(0, FLUSH_BYTES);
      ways.place(arena.all().slice(FLUSH_BYTES, ways.bytes()));
      for (boolean dx : new boolean[] {false, true}) {
        double[] micros = medians(flush, ways.of16Bits(dx));
        line(s, dx, false, micros);
        if (nf4) {
          line(s, dx, true, medians(flush, ways.of4Bits(dx, micros[0] < micros[1] ? Path.FUSED : Path.LIBRARY)));
        }
      }
    }
  }

  /** {@code micros}: of the fused kernel and of the library, in this order. */
  private void line(LoraShape s, boolean dx, boolean nf4, double[] micros) {
    Path path = micros[0] < micros[1] ? Path.FUSED : Path.LIBRARY;
    String rest = String.format(Locale.ROOT, "%.1f %.1f", micros[0], micros[1]);
    out.println(LoraPaths.line(machine.kernels().architecture(), s.n(), s.in(), s.out(), dx, nf4, path, rest));
  }

  private double[] medians(Mem flush, List<Runnable> ways) {
    for (int i = 0; i < WARM_UP; i++) {
      ways.forEach(Runnable::run);
    }
    machine.kernels().synchronize();
    double[][] micros = new double[ways.size()][RUNS];
    try (Clock clock = machine.device().clock()) {
      for (int i = 0; i < RUNS; i++) {
        int[] marks = new int[2 * ways.size()];
        for (int w = 0; w < ways.size(); w++) {
          machine.kernels().fill(flush, FLUSH_BYTES / 4, i, DType.F32);
          marks[2 * w] = clock.mark();
          ways.get(w).run();
          marks[2 * w + 1] = clock.mark();
        }
        for (int w = 0; w < ways.size(); w++) {
          micros[w][i] = clock.nanos(marks[2 * w], marks[2 * w + 1]) / 1e3;
        }
        clock.reset();
      }
    }
    return Arrays.stream(micros).mapToDouble(m -> Arrays.stream(m).sorted().toArray()[RUNS / 2]).toArray();
  }
}
