package dev.oribi.program;

import java.util.EnumMap;
import java.util.Locale;
import java.util.Map;

/** Times every op of the programs that run while it listens, and sums them by kind. On the CPU, where an op is done when it returns. */
public final class Profile implements Executor.Listener {
  /** Calls, time, bytes and FLOPs of one kind. */
  public static final class Sum {
    private long calls;
    private long nanos;
    private long bytes;
    private long flops;

    public long nanos() {
      return nanos;
    }

    public long bytes() {
      return bytes;
    }

    public long flops() {
      return flops;
    }
  }

  private final Map<Op.Kind, Sum> sums = new EnumMap<>(Op.Kind.class);
  private long begun;

  @Override
  public void before(Op op, Run run) {
    begun = System.nanoTime();
  }

  @Override
  public void after(Op op, Run run) {
    Sum s = sums.computeIfAbsent(op.kind(), k -> new Sum());
    s.nanos += System.nanoTime() - begun;
    s.calls++;
    s.bytes += op.bytes();
    s.flops += op.flops();
  }

  public Map<Op.Kind, Sum> sums() {
    return sums;
  }

  public void clear() {
    sums.clear();
  }

  /** A line for each kind, of {@code runs} equal runs: milliseconds a run, share, GB/s and GFLOP/s. */
  public String table(int runs) {
    long total = Math.max(1, sums.values().stream().mapToLong(Sum::nanos).sum());
    StringBuilder t = new StringBuilder();
    t.append(String.format(Locale.ROOT, "%-20s %7s %10s %7s %9s %9s%n", "op", "calls", "ms", "share", "GB/s", "GFLOP/s"));
    sums.entrySet().stream()
        .sorted((a, b) -> Long.compare(b.getValue().nanos, a.getValue().nanos))
        .forEach(e -> {
          Sum s = e.getValue();
          double ns = Math.max(1, s.nanos);
          t.append(
              String.format(
                  Locale.ROOT, "%-20s %7d %10.2f %6.1f%% %9.1f %9.1f%n", e.getKey().label(), s.calls / runs,
                  ns / 1e6 / runs, 100.0 * s.nanos / total, s.bytes / ns, s.flops / ns));
        });
    return t.toString();
  }
}
