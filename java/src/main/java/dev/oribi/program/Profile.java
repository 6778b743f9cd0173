package dev.oribi.program;

import dev.oribi.device.Clock;
import dev.oribi.device.Device;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/**
 * Times every op of the programs that run while it listens, and sums them by kind. On a GPU the time of an op is that between
 * two events on its stream: of an op so short that the host issues the next one too late, that includes waiting for the host.
 */
public final class Profile implements Executor.Listener, AutoCloseable {
  /** Calls, time, bytes and FLOPs of one kind. */
  public static final class Sum {
    private long calls;
    private long nanos;
    private long bytes;
    private long flops;

    public long calls() {
      return calls;
    }

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

  /** Marks that are held before they are read: reading waits for the device. */
  private static final int HELD = 1 << 16;

  private record Timed(Op op, int from, int to) {}

  private final Clock clock;
  private final List<Timed> timed = new ArrayList<>();
  private final Map<Op.Kind, Sum> sums = new EnumMap<>(Op.Kind.class);
  private int begun;

  public Profile(Device device) {
    this.clock = device.clock();
  }

  @Override
  public void before(Op op, Run run) {
    begun = clock.mark();
  }

  @Override
  public void after(Op op, Run run) {
    timed.add(new Timed(op, begun, clock.mark()));
    if (2 * timed.size() >= HELD) {
      settle();
    }
  }

  private void settle() {
    for (Timed t : timed) {
      Sum s = sums.computeIfAbsent(t.op.kind(), k -> new Sum());
      s.nanos += clock.nanos(t.from, t.to);
      s.calls++;
      s.bytes += t.op.bytes();
      s.flops += t.op.flops();
    }
    timed.clear();
    clock.reset();
  }

  public Map<Op.Kind, Sum> sums() {
    settle();
    return sums;
  }

  public void clear() {
    timed.clear();
    clock.reset();
    sums.clear();
  }

  @Override
  public void close() {
    clock.close();
  }

  /** A line for each kind, of {@code runs} equal runs: milliseconds a run, share, GB/s and GFLOP/s. */
  public String table(int runs) {
    settle();
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
