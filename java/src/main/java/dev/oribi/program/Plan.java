package dev.oribi.program;

import dev.oribi.device.Arena;
import dev.oribi.device.Device;
import dev.oribi.device.Mem;
import java.util.ArrayList;
import java.util.Collections;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * The memory of a set of programs that share their weights: every permanent buffer has its own place, and the activations
 * of all programs share one region as large as the largest needs. The size is known before a byte is taken.
 */
public final class Plan implements AutoCloseable {
  private final List<Program> programs;
  private final List<Buffer> permanent = new ArrayList<>();
  private final List<Place.Placement> placements = new ArrayList<>();
  private final long permanentBytes;
  private final long stepBytes;
  private final long hostBytes;
  private Arena arena;
  private Arena host;

  /**
   * Places and verifies.
   *
   * @param extra permanent buffers that no program names but the host fills or reads
   */
  public Plan(List<Program> programs, List<Buffer> extra) {
    this(programs, extra, 0);
  }

  /**
   * The same with room for what fills the weights.
   *
   * @param loadingBytes fewest bytes of the region that activations share, for use before the first run
   */
  public Plan(List<Program> programs, List<Buffer> extra, long loadingBytes) {
    this.programs = List.copyOf(programs);
    Set<Buffer> seen = Collections.newSetFromMap(new IdentityHashMap<>());
    for (Program p : programs) {
      for (Buffer b : p.buffers()) {
        if (b.lifetime().permanent() && seen.add(b)) {
          permanent.add(b);
        }
      }
    }
    for (Buffer b : extra) {
      if (seen.add(b)) {
        permanent.add(b);
      }
    }
    long step = Place.align(loadingBytes);
    for (Program p : programs) {
      Place.Placement placement = Place.of(p);
      Verify.check(p, placement);
      placements.add(placement);
      step = Math.max(step, placement.bytes());
    }
    stepBytes = step;
    permanentBytes = sum(false);
    hostBytes = sum(true);
  }

  private long sum(boolean onHost) {
    return permanent.stream().filter(b -> b.lifetime().onHost() == onHost).mapToLong(b -> Place.align(b.bytes())).sum();
  }

  /** All that will be taken from the device, in bytes. */
  public long bytes() {
    return permanentBytes + stepBytes;
  }

  /** All that will be taken from the host beside it. */
  public long hostBytes() {
    return hostBytes;
  }

  /** The part of it that activations and workspaces share. */
  public long stepBytes() {
    return stepBytes;
  }

  public List<Program> programs() {
    return programs;
  }

  public List<Buffer> permanent() {
    return Collections.unmodifiableList(permanent);
  }

  /** Where a buffer lies within the region that the activations of {@code program} share, in bytes. */
  public long offset(Program program, Buffer buffer) {
    return placements.get(programs.indexOf(program)).offsets().get(buffer);
  }

  /** Takes the memory, once, and gives every buffer its place. */
  public void take(Device device, String what) {
    arena = device.allocate(what, bytes());
    host = hostBytes == 0 ? null : device.allocateHost(what, hostBytes);
    long at = 0;
    long onHost = 0;
    for (Buffer b : permanent) {
      if (b.lifetime().onHost()) {
        b.bind(host.all().slice(onHost, b.bytes()));
        onHost += Place.align(b.bytes());
      } else {
        b.bind(arena.all().slice(at, b.bytes()));
        at += Place.align(b.bytes());
      }
    }
    Mem step = arena.all().slice(permanentBytes, stepBytes);
    for (Place.Placement placement : placements) {
      for (Map.Entry<Buffer, Long> e : placement.offsets().entrySet()) {
        e.getKey().bind(step.slice(e.getValue(), e.getKey().bytes()));
      }
    }
  }

  /** The region that activations share, free between runs; the plan must have been taken. */
  public Mem shared() {
    return arena.all().slice(permanentBytes, stepBytes);
  }

  /** The memory taken; {@code null} before {@link #take}. */
  public Arena arena() {
    return arena;
  }

  @Override
  public void close() {
    if (host != null) {
      host.close();
      host = null;
    }
    if (arena != null) {
      arena.close();
      arena = null;
    }
  }
}
