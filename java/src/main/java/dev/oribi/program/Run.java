package dev.oribi.program;

import dev.oribi.device.Lanes;
import dev.oribi.kernel.Attention;
import dev.oribi.kernel.Gemm;
import dev.oribi.kernel.Kernels;

/**
 * One run of a program: the device's kernels and the numbers that change from run to run. What changes while the numbers of
 * rows stay the same (ids, learning rate, step) lies in the device's memory, so that a recorded run can be replayed.
 *
 * @param tokens rows that count tokens, at most what was planned
 * @param targets rows that count target tokens
 * @param sequences rows that count sequences
 * @param longest no sequence has more tokens
 * @param dropoutStream distinct for every micro-batch, so that no two share a mask
 */
public record Run(
    Emit.Library library, long tokens, long targets, long sequences, long longest, long dropoutStream) {
  private static final long LENGTH_STEP = 128;

  /** A run of fixed rows alone, such as an update. */
  public static Run fixed(Emit.Library library) {
    return new Run(library, 0, 0, 0, 0, 0);
  }

  /**
   * A bound of the sequences' length that stays the same for similar batches: what is prepared by length (a captured run, a
   * plan of a library's attention) then serves all of them.
   */
  public static long lengthBound(long length, long tokens) {
    return Math.min(tokens, (length + LENGTH_STEP - 1) / LENGTH_STEP * LENGTH_STEP);
  }

  public Kernels kernels() {
    return library.kernels();
  }

  public Gemm gemm() {
    return library.gemm();
  }

  public Attention attention() {
    return library.attention();
  }

  public Lanes lanes() {
    return library == null ? Lanes.NONE : library.lanes();
  }

  /** The same run for an op on a lane, whose kernels are issued there. */
  Run beside() {
    return new Run(library.beside(), tokens, targets, sequences, longest, dropoutStream);
  }

  /** How many rows of a view this run uses: of what it counts, those that lie within the view. */
  public long rows(View view) {
    return switch (view.buffer().rowsOf()) {
      case FIXED -> view.rows();
      case TOKENS -> within(view, tokens);
      case TARGETS -> within(view, targets);
      case SEQUENCES -> within(view, sequences);
    };
  }

  private static long within(View view, long count) {
    return Math.max(0, Math.min(view.rows(), count - view.firstRow()));
  }
}
