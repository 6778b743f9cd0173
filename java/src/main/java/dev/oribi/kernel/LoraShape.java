package dev.oribi.kernel;

import java.util.List;

/**
 * One or several projections of the same input, stacked by rows, with adapters of one rank: {@code oribi_lora_shape}.
 *
 * @param n rows
 * @param ldX elements from one row to the next of x and dx
 * @param ldY of y and dy
 * @param rank of each adapter
 * @param type of x, y, W, a, b, h, g
 * @param adapters at most {@link #MAX_ADAPTERS}
 */
public record LoraShape(
    long n, long in, long out, long ldX, long ldY, long rank, DType type, List<Adapter> adapters) {
  public static final int MAX_ADAPTERS = 4;

  /**
   * One adapted projection.
   *
   * @param firstOut its first column of y
   * @param outs its columns
   * @param scale {@code lora_alpha / r}
   */
  public record Adapter(long firstOut, long outs, float scale) {}

  public LoraShape {
    adapters = List.copyOf(adapters);
    if (adapters.size() > MAX_ADAPTERS) {
      throw new IllegalArgumentException("at most " + MAX_ADAPTERS + " adapters in a stack, not " + adapters.size());
    }
  }

  /** The same with columns of a wider row as y and dy. */
  public LoraShape ldY(long ld) {
    return new LoraShape(n, in, out, ldX, ld, rank, type, adapters);
  }

  /** The same projections of other rows. */
  public LoraShape rows(long rows) {
    return new LoraShape(rows, in, out, ldX, ldY, rank, type, adapters);
  }
}
