package dev.oribi.program;

import dev.oribi.kernel.Gemm;
import dev.oribi.kernel.Kernels;

/**
 * One run of a program: the device's kernels and the numbers that change from run to run.
 *
 * @param tokens rows that count tokens, at most what was planned
 * @param targets rows that count target tokens
 * @param sequences rows that count sequences
 * @param dropoutStream distinct for every micro-batch, so that no two share a mask
 * @param step optimizer step, from 1
 * @param learningRate of this step
 */
public record Run(
    Kernels kernels,
    Gemm gemm,
    long tokens,
    long targets,
    long sequences,
    long dropoutStream,
    long step,
    double learningRate) {
  /** How many rows of a buffer this run uses. */
  public long rows(View view) {
    return switch (view.buffer().rowsOf()) {
      case FIXED -> view.rows();
      case TOKENS -> tokens;
      case TARGETS -> targets;
      case SEQUENCES -> sequences;
    };
  }
}
