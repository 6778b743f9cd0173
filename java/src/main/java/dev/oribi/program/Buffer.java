package dev.oribi.program;

import dev.oribi.device.Mem;
import dev.oribi.kernel.DType;

/**
 * A matrix that a program reads or writes: a name, a largest shape, a type and a lifetime. It has no memory until its
 * {@link Plan} is taken, and then a fixed place in the plan's arena.
 */
public final class Buffer {
  /** How long a buffer lives, and the class under which the plan counts it. */
  public enum Lifetime {
    WEIGHT("weights", true),
    WEIGHT_4BIT("weights in 4 bits", true),
    COPY("4-bit weights in 16 bits too", true),
    WEIGHT_8BIT("weights in 8 bits", true),
    WEIGHT_GGML("weights in the blocks of a GGUF file", true),
    WEIGHT_FP8("weights in FP8", true),
    COPY_FP8("4-bit weights in FP8 too", true),
    TRAINABLE("trainable weights", true),
    GRADIENT("gradients", true),
    OPTIMIZER("optimizer state", true),
    CACHE("key/value cache", true),
    HOST_WEIGHT("weights in the host's memory", true),
    HOST("activations in the host's memory", true),
    IO("inputs and results", true),
    ACTIVATION("activations", false),
    WORKSPACE("workspace", false);

    private final String label;
    private final boolean permanent;

    Lifetime(String label, boolean permanent) {
      this.label = label;
      this.permanent = permanent;
    }

    public String label() {
      return label;
    }

    /** True if it lies in the host's memory and not in the device's. */
    public boolean onHost() {
      return this == HOST || this == HOST_WEIGHT;
    }

    /** True if it keeps its content between runs; false if its memory is shared by lifetime within a run. */
    public boolean permanent() {
      return permanent;
    }
  }

  /** What the rows of a buffer count. A run may have fewer tokens, targets or sequences than were planned. */
  public enum Rows {
    FIXED,
    TOKENS,
    TARGETS,
    SEQUENCES
  }

  private final String name;
  private Lifetime lifetime;
  private final DType type;
  private final Rows rowsOf;
  private final long cols;
  private long rows;
  private Mem mem;

  public Buffer(String name, Lifetime lifetime, DType type, Rows rowsOf, long rows, long cols) {
    this.name = name;
    this.lifetime = lifetime;
    this.type = type;
    this.rowsOf = rowsOf;
    this.rows = rows;
    this.cols = cols;
  }

  public String name() {
    return name;
  }

  public Lifetime lifetime() {
    return lifetime;
  }

  public DType type() {
    return type;
  }

  public Rows rowsOf() {
    return rowsOf;
  }

  /** Largest number of rows. */
  public long rows() {
    return rows;
  }

  public long cols() {
    return cols;
  }

  public long bytes() {
    return Math.multiplyExact(Math.multiplyExact(rows, cols), type.bytes());
  }

  /** Adds rows before the plan is made; returns the index of the first new one. */
  public long grow(long more) {
    long first = rows;
    rows += more;
    return first;
  }

  /** Decides before the plan is made where a frozen weight lies: in the device's memory or in the host's. */
  public void lie(Lifetime where) {
    if (mem != null) {
      throw new IllegalStateException(name + " has a place already");
    }
    lifetime = where;
  }

  void bind(Mem place) {
    if (mem != null) {
      throw new IllegalStateException(name + " has a place already: a buffer belongs to one plan");
    }
    mem = place;
  }

  /** Its place in the arena. */
  public Mem mem() {
    if (mem == null) {
      throw new IllegalStateException(name + " has no place: its plan was not taken");
    }
    return mem;
  }

  @Override
  public String toString() {
    return name + "[" + rows + "," + cols + "] " + type.label();
  }
}
