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
 * inside the region, no two buffers that are alive at the same time overlap, and every op on a lane is joined. A violation is a bug of ours, so it throws
 * {@link IllegalStateException}.
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
      if (op.lane() != Lane.MAIN) {
        open.add(op);
      }
      if (op.joined() != null && !open.remove(op.joined())) {
        throw new IllegalStateException(program.name() + ": " + op.name() + " waits for an op that was not issued before it");
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
