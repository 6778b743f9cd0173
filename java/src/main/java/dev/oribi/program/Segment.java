package dev.oribi.program;

import dev.oribi.device.Lanes.Lane;
import dev.oribi.program.Buffer.Rows;
import dev.oribi.program.Op.Kind;
import java.util.ArrayList;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;

/**
 * A stretch of a program that is recorded and replayed as one, or that is issued op by op each time.
 *
 * <p>The number of targets differs from batch to batch even where the other numbers are equal; but only the loss and the few ops
 * around it count targets. So a program with a loss has three segments: the forward pass, what counts targets, the backward
 * pass. The middle one is issued: its products are large, and the device works on the forward pass meanwhile.
 *
 * @param recorded false: issued each time
 * @param countsTargets whether an op has a row for each target
 */
record Segment(List<Op> ops, boolean recorded, boolean countsTargets) {
  /** The segments of a whole program, in order. */
  static List<Segment> of(Program program) {
    List<Op> ops = program.ops();
    List<Segment> segments = new ArrayList<>();
    int begin = 0;
    if (ops.stream().anyMatch(op -> op.kind() == Kind.CROSS_ENTROPY)) {
      int first = first(ops);
      int end = end(ops);
      int[] outstanding = outstanding(ops);
      // What runs beside the main stream is joined within the segment that began it.
      while (outstanding[first] > 0) {
        first--;
      }
      while (outstanding[end] > 0) {
        end++;
      }
      add(segments, ops.subList(0, first), true);
      add(segments, ops.subList(first, end), false);
      begin = end;
    }
    add(segments, ops.subList(begin, ops.size()), true);
    return segments;
  }

  private static void add(List<Segment> segments, List<Op> ops, boolean mayRecord) {
    if (!ops.isEmpty()) {
      segments.add(new Segment(List.copyOf(ops), mayRecord && recordable(ops), ops.stream().anyMatch(Segment::countsTargets)));
    }
  }

  /** Dropout draws from another stream in every run, and the number of the stream would be frozen. One op gains nothing. */
  private static boolean recordable(List<Op> ops) {
    return ops.size() > 1 && ops.stream().noneMatch(op -> op.kind() == Kind.DROPOUT);
  }

  private static boolean countsTargets(Op op) {
    return op.reads().stream().anyMatch(b -> b.rowsOf() == Rows.TARGETS)
        || op.writes().stream().anyMatch(b -> b.rowsOf() == Rows.TARGETS);
  }

  private static int first(List<Op> ops) {
    int i = 0;
    while (!countsTargets(ops.get(i))) {
      i++;
    }
    return i;
  }

  private static int end(List<Op> ops) {
    int i = ops.size();
    while (!countsTargets(ops.get(i - 1))) {
      i--;
    }
    return i;
  }

  /** For each place before an op, and the end: how many ops on lanes have begun before it and are joined after it. */
  private static int[] outstanding(List<Op> ops) {
    int[] count = new int[ops.size() + 1];
    Map<Op, Integer> begun = new IdentityHashMap<>();
    for (int i = 0; i < ops.size(); i++) {
      Op op = ops.get(i);
      if (op.lane() != Lane.MAIN) {
        begun.put(op, i);
      } else if (op.joined() != null) {
        for (int at = begun.get(op.joined()) + 1; at <= i; at++) {
          count[at]++;
        }
      }
    }
    return count;
  }
}
