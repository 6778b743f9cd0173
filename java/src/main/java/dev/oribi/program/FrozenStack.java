package dev.oribi.program;

import java.util.ArrayList;
import java.util.List;

/**
 * A frozen weight [rows, cols] of one or several matrices stacked by rows, at least one of them in 4 bits. Layers that a
 * checkpoint leaves in 16 bits may stand among them.
 */
public record FrozenStack(long rows, long cols, List<Part> parts) {
  /** One matrix: either {@code plain} or {@code nf4} is null. */
  public record Part(View plain, Nf4Matrix nf4) {
    public long rows() {
      return nf4 != null ? nf4.rows() : plain.rows();
    }

    List<Buffer> buffers() {
      return nf4 != null ? nf4.buffers() : List.of(plain.buffer());
    }

    long bytes() {
      return nf4 != null ? nf4.bytes() : plain.elements() * plain.type().bytes();
    }
  }

  public FrozenStack {
    parts = List.copyOf(parts);
  }

  /** The whole weight as one matrix in 4 bits, which is what a fused kernel takes; null if it is not one. */
  public Nf4Matrix whole() {
    return parts.size() == 1 ? parts.get(0).nf4 : null;
  }

  /** The buffers of all parts, each once. */
  public List<Buffer> buffers() {
    List<Buffer> all = new ArrayList<>();
    for (Part p : parts) {
      for (Buffer b : p.buffers()) {
        if (!all.contains(b)) {
          all.add(b);
        }
      }
    }
    return all;
  }

  long bytes() {
    return parts.stream().mapToLong(Part::bytes).sum();
  }
}
