package dev.oribi.program;

import dev.oribi.program.Program.Span;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;

/**
 * Gives every activation and workspace of a program an offset in one region, so that buffers which are alive at the same
 * time do not overlap and the others share memory.
 *
 * <p>Largest first, each at the lowest gap that fits: within a few per cent of the bound (the most bytes alive at once) on
 * transformer steps, because the layers repeat.
 */
final class Place {
  /** What cublasLt demands of its workspace; our own kernels need 64. */
  static final long ALIGNMENT = 256;

  /** Offsets by buffer, and the size of the region. */
  record Placement(Map<Buffer, Long> offsets, long bytes) {}

  private record Taken(long begin, long end, Span span) {}

  private Place() {}

  static Placement of(Program program) {
    Map<Buffer, Span> spans = program.spans();
    List<Buffer> bySize = new ArrayList<>(program.buffers());
    bySize.removeIf(b -> b.lifetime().permanent());
    bySize.sort(Comparator.comparingLong(Buffer::bytes).reversed().thenComparing(b -> spans.get(b).first()));
    Map<Buffer, Long> offsets = new IdentityHashMap<>();
    List<Taken> taken = new ArrayList<>();
    long end = 0;
    for (Buffer b : bySize) {
      long at = lowestGap(taken, spans.get(b), align(b.bytes()));
      offsets.put(b, at);
      insert(taken, new Taken(at, at + align(b.bytes()), spans.get(b)));
      end = Math.max(end, at + align(b.bytes()));
    }
    return new Placement(offsets, end);
  }

  /** {@code taken} is sorted by begin. */
  private static long lowestGap(List<Taken> taken, Span span, long bytes) {
    long at = 0;
    for (Taken t : taken) {
      if (t.span.meets(span)) {
        if (t.begin - at >= bytes) {
          return at;
        }
        at = Math.max(at, t.end);
      }
    }
    return at;
  }

  private static void insert(List<Taken> taken, Taken fresh) {
    int low = 0;
    int high = taken.size();
    while (low < high) {
      int middle = (low + high) >>> 1;
      if (taken.get(middle).begin <= fresh.begin) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    taken.add(low, fresh);
  }

  static long align(long bytes) {
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  }
}
