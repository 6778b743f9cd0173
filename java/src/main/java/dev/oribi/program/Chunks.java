package dev.oribi.program;

/** How rows are cut into chunks that pass through one piece of memory. */
final class Chunks {
  /** Rows of a library's tile: a chunk of fewer than a multiple of it costs as much as the multiple. */
  private static final long TILE = 128;

  private Chunks() {}

  /** Rows of a chunk so that chunks of at most {@code most} are as few as they can be, and as even as tiles allow. */
  static long even(long total, long most) {
    if (total <= most) {
      return total;
    }
    long count = (total + most - 1) / most;
    long even = (total + count - 1) / count;
    long tiled = (even + TILE - 1) / TILE * TILE;
    return tiled <= most ? tiled : even;
  }
}
