package dev.oribi.layer;

import java.util.EnumMap;
import java.util.Map;

/**
 * What a layer does with each tensor that its backward pass reads.
 *
 * @param how for each tensor; what is not named is kept
 * @param tileRows most tokens whose part of the MLP exists at once, where the MLP is rebuilt; 0: all of them
 */
public record Saving(Map<Tensor, How> how, long tileRows) {
  /**
   * The large tensors of a layer, in the order in which the forward pass makes them; see {@link DecoderLayer}. QK is there only
   * where the heads of queries and keys are normalised, Y and D where the outputs of attention and MLP are.
   */
  public enum Tensor {
    R0,
    X1,
    QKV,
    QK,
    O,
    Y,
    R1,
    X2,
    GU,
    F,
    D
  }

  /** The three ways to have a tensor in the backward pass. */
  public enum How {
    /** It stays in the device's memory. */
    KEEP,
    /** It goes to the host's memory and comes back. */
    OFFLOAD,
    /** It is made again from those before it. */
    REBUILD
  }

  /** Nothing is made twice. */
  public static final Saving KEEP = new Saving(Map.of(), 0);

  /** Only the layer's input is kept: gradient checkpointing. */
  public static final Saving REBUILD = rebuildAll();

  public Saving {
    EnumMap<Tensor, How> all = new EnumMap<>(Tensor.class);
    for (Tensor t : Tensor.values()) {
      all.put(t, how.getOrDefault(t, How.KEEP));
    }
    if (all.get(Tensor.R0) == How.REBUILD) {
      throw new IllegalArgumentException("a layer cannot rebuild its own input");
    }
    if (all.get(Tensor.F) == How.OFFLOAD) {
      throw new IllegalArgumentException("f is rebuilt in the pass that reads gu: nobody waits for it");
    }
    how = all;
  }

  private static Saving rebuildAll() {
    Saving s = KEEP;
    for (Tensor t : Tensor.values()) {
      s = t == Tensor.R0 ? s : s.with(t, How.REBUILD);
    }
    return s;
  }

  public How of(Tensor t) {
    return how.get(t);
  }

  /** The same but for one tensor. */
  public Saving with(Tensor t, How other) {
    EnumMap<Tensor, How> changed = new EnumMap<>(how);
    changed.put(t, other);
    return new Saving(changed, tileRows);
  }

  /** The same with the MLP in tiles. */
  public Saving withTileRows(long rows) {
    return new Saving(how, rows);
  }
}
