package dev.oribi.program;

import dev.oribi.kernel.DType;
import dev.oribi.kernel.Nf4;
import dev.oribi.program.Buffer.Lifetime;
import dev.oribi.program.Buffer.Rows;
import java.util.ArrayList;
import java.util.List;

/**
 * A matrix [rows, cols] in NF4 with double quantization: where its codes, its scales, the scales' scales and their offset
 * lie. The arithmetic is that of {@code oribi_nf4} in {@code oribi.h}.
 *
 * <p>Matrices that are stacked by rows keep their own parts: each was quantized by itself, as in a checkpoint, so that each
 * has its own offset, and its scales are grouped by 256 from its own beginning. A stack of several is therefore not one
 * {@code oribi_nf4}. Their codes lie in one buffer, one matrix after the other, and so do their scales; each begins at a
 * multiple of 64 bytes.
 *
 * @param codes [count/2] bytes
 * @param absmax [count/64] bytes
 * @param absmax2 [ceil(count/64/256)] fp32
 * @param offset [1] fp32
 */
public record Nf4Matrix(long rows, long cols, View codes, View absmax, View absmax2, View offset) {
  private static final long ALIGNMENT = 64;

  /**
   * Matrices of equal width that are used together.
   *
   * @param label of their buffers
   * @param rows of each; rows * cols is a multiple of 64
   */
  public static List<Nf4Matrix> stack(String label, long[] rows, long cols) {
    long codes = 0;
    long absmax = 0;
    long scales = 0;
    for (long r : rows) {
      long count = Math.multiplyExact(r, cols);
      codes += align(Nf4.codesBytes(count));
      absmax += align(Nf4.absmaxBytes(count));
      scales += align(4 * Nf4.absmax2Count(count)) + ALIGNMENT;
    }
    Buffer codesOf = buffer(label + ".codes", DType.U8, codes);
    Buffer absmaxOf = buffer(label + ".absmax", DType.U8, absmax);
    Buffer scalesOf = buffer(label + ".scales", DType.F32, scales / 4);
    List<Nf4Matrix> all = new ArrayList<>();
    codes = absmax = scales = 0;
    for (long r : rows) {
      long count = r * cols;
      long offset = scales + align(4 * Nf4.absmax2Count(count));
      all.add(
          new Nf4Matrix(
              r, cols, line(codesOf, codes, Nf4.codesBytes(count)), line(absmaxOf, absmax, Nf4.absmaxBytes(count)),
              line(scalesOf, scales / 4, Nf4.absmax2Count(count)), line(scalesOf, offset / 4, 1)));
      codes += align(Nf4.codesBytes(count));
      absmax += align(Nf4.absmaxBytes(count));
      scales = offset + ALIGNMENT;
    }
    return all;
  }

  private static Buffer buffer(String name, DType type, long elements) {
    return new Buffer(name, Lifetime.WEIGHT_4BIT, type, Rows.FIXED, 1, elements);
  }

  private static View line(Buffer buffer, long offset, long elements) {
    return View.matrix(buffer, offset, 1, elements);
  }

  private static long align(long bytes) {
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  }

  public long count() {
    return rows * cols;
  }

  /** Bytes of its parts. */
  public long bytes() {
    return codes.elements() + absmax.elements() + 4 * absmax2.elements() + 4;
  }

  public List<Buffer> buffers() {
    return List.of(codes.buffer(), absmax.buffer(), absmax2.buffer());
  }

  /** Its place, for the kernels; its plan must have been taken. */
  public Nf4 place() {
    return new Nf4(codes.mem(), absmax.mem(), absmax2.mem(), offset.mem());
  }
}
