package dev.oribi.program;

import dev.oribi.program.Buffer.Lifetime;
import java.util.ArrayList;
import java.util.Collections;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** A list of ops in the order in which they run. Building it runs nothing; see the package for how one is made and run. */
public final class Program {
  /** First and last op that touch a buffer. */
  public record Span(int first, int last) {
    boolean meets(Span other) {
      return first <= other.last && other.first <= last;
    }
  }

  private final String name;
  private final List<Op> ops = new ArrayList<>();

  public Program(String name) {
    this.name = name;
  }

  public String name() {
    return name;
  }

  public void add(Op op) {
    ops.add(op);
  }

  public List<Op> ops() {
    return Collections.unmodifiableList(ops);
  }

  /** Every buffer that the ops name, in order of first use. */
  public List<Buffer> buffers() {
    Set<Buffer> seen = Collections.newSetFromMap(new IdentityHashMap<>());
    List<Buffer> all = new ArrayList<>();
    for (Op op : ops) {
      for (Buffer b : op.reads()) {
        if (seen.add(b)) {
          all.add(b);
        }
      }
      for (Buffer b : op.writes()) {
        if (seen.add(b)) {
          all.add(b);
        }
      }
    }
    return all;
  }

  /** When each buffer that is not permanent is alive. */
  public Map<Buffer, Span> spans() {
    Map<Buffer, Span> spans = new IdentityHashMap<>();
    for (int i = 0; i < ops.size(); i++) {
      int at = i;
      for (List<Buffer> side : List.of(ops.get(i).reads(), ops.get(i).writes())) {
        for (Buffer b : side) {
          if (!b.lifetime().permanent()) {
            spans.merge(b, new Span(at, at), (old, now) -> new Span(old.first(), now.last()));
          }
        }
      }
    }
    return spans;
  }

  public long flops() {
    return ops.stream().mapToLong(Op::flops).sum();
  }

  public long bytes() {
    return ops.stream().mapToLong(Op::bytes).sum();
  }

  /** Buffers of a lifetime that this program names. */
  public List<Buffer> buffers(Lifetime lifetime) {
    return buffers().stream().filter(b -> b.lifetime() == lifetime).toList();
  }
}
