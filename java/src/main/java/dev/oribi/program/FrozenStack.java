package dev.oribi.program;

import java.util.ArrayList;
import java.util.List;

/**
 * A frozen weight [rows, cols] of one or several matrices stacked by rows, at least one of them in 4 bits or in the
 * blocks of a GGUF file. Layers that a checkpoint leaves plain may stand among them.
 */
public record FrozenStack(long rows, long cols, List<Part> parts) {
  /** One matrix: all but one of {@code plain}, {@code nf4} and {@code ggml} are null. */
  public record Part(View plain, Nf4Matrix nf4, GgmlMatrix ggml) {
    public Part(View plain, Nf4Matrix nf4) {
      this(plain, nf4, null);
    }

    public long rows() {
      return ggml != null ? ggml.rows() : nf4 != null ? nf4.rows() : plain.rows();
    }

    List<Buffer> buffers() {
      return ggml != null ? List.of(ggml.blocks()) : nf4 != null ? nf4.buffers() : List.of(plain.buffer());
    }

    long bytes() {
      return ggml != null ? ggml.blocks().bytes() : nf4 != null ? nf4.bytes() : plain.elements() * plain.type().bytes();
    }
  }

  public FrozenStack {
    parts = List.copyOf(parts);
  }

  /** The whole weight as one matrix in 4 bits, which is what a fused kernel takes; null if it is not one. */
  public Nf4Matrix whole() {
    return parts.size() == 1 ? parts.get(0).nf4 : null;
  }

  /** Whether every matrix is in the blocks of a GGUF file. */
  public boolean allGgml() {
    return parts.stream().allMatch(p -> p.ggml != null);
  }

  /** The whole weight as one matrix in blocks; null if it is not one. */
  public GgmlMatrix ggml() {
    return parts.size() == 1 ? parts.get(0).ggml : null;
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
