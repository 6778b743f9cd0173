package dev.oribi.program;

import dev.oribi.program.Buffer.Lifetime;
import dev.oribi.program.Program.Span;
import java.util.EnumMap;
import java.util.EnumSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** The tables that {@code oribi plan} prints: memory by class and by layer, and the ops with their bytes and FLOPs. */
public final class PlanReport {
  private static final Pattern LAYER = Pattern.compile("layers\\.(\\d+)\\.");
  private static final Pattern CACHE = Pattern.compile("_cache\\.(\\d+)");

  /** What stays the same in training; in generation the cache counts to it. */
  private static final Set<Lifetime> FROZEN =
      EnumSet.of(
          Lifetime.WEIGHT, Lifetime.WEIGHT_4BIT, Lifetime.WEIGHT_8BIT, Lifetime.WEIGHT_FP8, Lifetime.COPY, Lifetime.COPY_FP8,
          Lifetime.CACHE);

  private final Plan plan;

  public PlanReport(Plan plan) {
    this.plan = plan;
  }

  /** Memory by class, up to the peak, which is also what will be taken; then what lies in the host's memory beside it. */
  public String memory() {
    Map<Lifetime, Long> sums = new EnumMap<>(Lifetime.class);
    Map<Lifetime, Long> onHost = new EnumMap<>(Lifetime.class);
    for (Buffer b : plan.permanent()) {
      (b.lifetime().onHost() ? onHost : sums).merge(b.lifetime(), Place.align(b.bytes()), Long::sum);
    }
    StringBuilder s = new StringBuilder(String.format(Locale.ROOT, "%-34s %15s %9s%n", "class", "bytes", "MiB"));
    sums.forEach((lifetime, bytes) -> line(s, lifetime.label(), bytes));
    line(s, "activations and workspace", plan.stepBytes());
    line(s, "peak", plan.bytes());
    onHost.forEach((lifetime, bytes) -> line(s, lifetime.label(), bytes));
    return s.toString();
  }

  /**
   * Memory by layer. Activations are those of the first program, by their sizes; since they share memory by lifetime, their
   * sum is more than what is taken.
   */
  public String layers() {
    Map<String, Long> weights = new LinkedHashMap<>();
    Map<String, Long> activations = new LinkedHashMap<>();
    for (Buffer b : plan.permanent()) {
      if (FROZEN.contains(b.lifetime())) {
        weights.merge(layer(b.name()), b.bytes(), Long::sum);
      }
    }
    Program first = plan.programs().get(0);
    Map<Buffer, Span> spans = first.spans();
    for (Buffer b : first.buffers()) {
      if (spans.containsKey(b)) {
        activations.merge(layer(b.name()), b.bytes(), Long::sum);
      }
    }
    StringBuilder s = new StringBuilder();
    s.append(String.format(Locale.ROOT, "%-34s %15s %15s%n", "layer", "frozen weights", "activations"));
    Map<Integer, String> order = new TreeMap<>();
    for (String name : union(weights, activations)) {
      Matcher m = LAYER.matcher(name + ".");
      order.put(m.find() ? Integer.parseInt(m.group(1)) : Integer.MAX_VALUE - 1, name);
    }
    for (String name : order.values()) {
      s.append(
          String.format(
              Locale.ROOT, "%-34s %,15d %,15d%n", name, weights.getOrDefault(name, 0L), activations.getOrDefault(name, 0L)));
    }
    return s.toString();
  }

  private static Iterable<String> union(Map<String, Long> a, Map<String, Long> b) {
    Map<String, Long> all = new LinkedHashMap<>(a);
    all.putAll(b);
    return all.keySet();
  }

  private static String layer(String name) {
    Matcher m = LAYER.matcher(name);
    if (m.find()) {
      return "layers." + m.group(1);
    }
    Matcher c = CACHE.matcher(name);
    return c.find() ? "layers." + c.group(1) : "embedding, head and the rest";
  }

  /** Every op of a program, in order: what it writes and reads, the fewest bytes it moves, its FLOPs. */
  public static String ops(Program program) {
    StringBuilder s = new StringBuilder();
    s.append(
        String.format(
            Locale.ROOT, "%-20s %-44s %14s %16s  %s%n", program.name(), "name", "bytes", "flops", "writes <- reads"));
    for (Op op : program.ops()) {
      s.append(
          String.format(
              Locale.ROOT, "%-20s %-44s %,14d %,16d  %s <- %s%n", op.kind().label(), op.name(), op.bytes(), op.flops(),
              names(op.writes()), names(op.reads())));
    }
    s.append(String.format(Locale.ROOT, "%-20s %-44s %,14d %,16d%n", "total", "", program.bytes(), program.flops()));
    return s.toString();
  }

  private static String names(List<Buffer> buffers) {
    return String.join(", ", buffers.stream().map(b -> shorten(b.name())).toList());
  }

  private static String shorten(String name) {
    return name.replaceFirst("^model\\.layers\\.\\d+\\.", "").replaceFirst("^base_model\\.model\\.model\\.layers\\.\\d+\\.", "");
  }

  private static void line(StringBuilder s, String label, long bytes) {
    s.append(String.format(Locale.ROOT, "%-34s %,15d %,9.1f%n", label, bytes, bytes / (double) (1 << 20)));
  }
}
