package dev.oribi.program;

import dev.oribi.device.Lanes.Lane;
import dev.oribi.program.Buffer.Lifetime;
import dev.oribi.program.Program.Span;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.EnumSet;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Checks a placed program before it may run: every read was written before, no frozen weight is written, every buffer lies
 * inside the region, no two buffers that are alive at the same time overlap, every op on a lane is joined, and until then no op
 * writes what it reads or touches what it writes. A violation is a bug of ours, so it throws {@link IllegalStateException}.
 */
final class Verify {
  private static final Set<Lifetime> FROZEN =
      EnumSet.of(Lifetime.WEIGHT, Lifetime.WEIGHT_4BIT, Lifetime.WEIGHT_8BIT, Lifetime.HOST_WEIGHT);

  private Verify() {}

  static void check(Program program, Place.Placement placement) {
    readsFollowWrites(program);
    placesAreSound(program, placement);
  }

  private static void readsFollowWrites(Program program) {
    Set<Op> open = Collections.newSetFromMap(new IdentityHashMap<>());
    Set<Buffer> written = Collections.newSetFromMap(new IdentityHashMap<>());
    for (Op op : program.ops()) {
      if (op.joined() != null && !open.remove(op.joined())) {
        throw new IllegalStateException(program.name() + ": " + op.name() + " waits for an op that was not issued before it");
      }
      if (op.joined() == null) {
        open.forEach(beside -> touchesNothingOf(program, op, beside));
      }
      if (op.lane() != Lane.MAIN) {
        open.add(op);
      }
      for (Buffer b : op.reads()) {
        if ((b.lifetime() == Lifetime.ACTIVATION || b.lifetime() == Lifetime.HOST) && !written.contains(b)) {
          throw new IllegalStateException(
              program.name() + ": " + op.kind().label() + " " + op.name() + " reads " + b + ", which nothing wrote");
        }
      }
      for (Buffer b : op.writes()) {
        if (FROZEN.contains(b.lifetime())) {
          throw new IllegalStateException(program.name() + ": " + op.name() + " writes the frozen weight " + b);
        }
        written.add(b);
      }
    }
    for (Op op : open) {
      throw new IllegalStateException(program.name() + ": nothing waits for " + op.kind().label() + " " + op.name());
    }
  }

  /** Ops of one lane keep their order; any others run at the same time. */
  private static void touchesNothingOf(Program program, Op op, Op beside) {
    boolean races = op.reads().stream().anyMatch(beside.writes()::contains) || op.writes().stream().anyMatch(beside.writes()::contains)
        || op.writes().stream().anyMatch(beside.reads()::contains);
    if (races && op.lane() != beside.lane()) {
      throw new IllegalStateException(program.name() + ": " + op.kind().label() + " " + op.name() + " races with "
          + beside.kind().label() + " " + beside.name() + ", for which nothing waited");
    }
  }

  private static void placesAreSound(Program program, Place.Placement placement) {
    Map<Buffer, Span> spans = program.spans();
    List<Buffer> byOffset = new ArrayList<>(spans.keySet());
    byOffset.sort(Comparator.comparing(b -> placement.offsets().get(b)));
    List<Buffer> open = new ArrayList<>();
    for (Buffer b : byOffset) {
      long begin = placement.offsets().get(b);
      if (begin < 0 || begin % Place.ALIGNMENT != 0 || begin + b.bytes() > placement.bytes()) {
        throw new IllegalStateException(program.name() + ": " + b + " lies outside its region, at " + begin);
      }
      if (b.bytes() == 0) {
        continue; // it lies nowhere, so it is in nobody's way
      }
      open.removeIf(other -> placement.offsets().get(other) + other.bytes() <= begin);
      for (Buffer other : open) {
        if (spans.get(other).meets(spans.get(b))) {
          throw new IllegalStateException(program.name() + ": " + b + " overlaps " + other + " while both are alive");
        }
      }
      open.add(b);
    }
  }
}
