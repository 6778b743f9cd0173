package dev.oribi.program;

import dev.oribi.device.Mem;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.Gemm;
import dev.oribi.program.Buffer.Lifetime;
import dev.oribi.program.Buffer.Rows;
import java.util.List;

/**
 * The two products with the head for a chunk of rows: z = h·Wᵀ and dh = dz·W.
 *
 * <p>A head as it lies is one product each. One in 8 bits or in blocks is dequantized a tile of the vocabulary at a time, and each tile
 * multiplied before the next takes its place: z by columns, dh as a sum over the tiles. That sum is kept in fp32 and rounded
 * once, as the library does inside a product, so that tiles add no error of their own.
 */
final class HeadProducts {
  /**
   * A dequantized tile takes this part of what logits may take. Of 256 MiB that is 32 MiB, 4096 rows of 4096 in 16 bits: with
   * 1024 rows of activations 128 blocks of 128 x 256, nearly one for each multiprocessor of an H100, and a tile that its L2 cache
   * of 50 MiB can keep between the two kernels.
   */
  private static final long TILE_PART = 8;

  private final Head head;
  private final DType type;
  private final DType z;
  private final boolean roundsX;
  private final long tileRows;
  private final Buffer tile;
  private final Buffer sum;
  private final long workspace;

  /**
   * @param rows most rows of a chunk
   * @param budget most bytes of logits at once
   * @param type of h and dh
   * @param z of the logits and their gradient
   * @param gradient whether dh will be asked for
   * @param roundsX whether the product of one row may round it to 8 bits; see {@link Emit#forText}
   */
  HeadProducts(String name, Head head, long rows, long budget, DType type, DType z, boolean gradient, Gemm gemm,
      boolean roundsX) {
    this.head = head;
    this.roundsX = roundsX;
    this.type = type;
    this.z = z;
    boolean tiles = head.packed();
    long vocabulary = head.rows();
    tileRows = tiles ? Chunks.even(vocabulary, Math.max(1, budget / TILE_PART / (head.cols() * type.bytes()))) : vocabulary;
    tile = tiles ? scratch(name + ".tile", type, tileRows, head.cols()) : null;
    sum = tiles && gradient && type != DType.F32 ? scratch(name + ".dh_sum", DType.F32, rows, head.cols()) : null;
    long most = gemm.workspace(forward(rows, tileRows));
    workspace = gradient ? Math.max(most, gemm.workspace(backward(rows, tileRows))) : most;
  }

  private static Buffer scratch(String name, DType type, long rows, long cols) {
    return new Buffer(name, Lifetime.WORKSPACE, type, Rows.FIXED, rows, cols);
  }

  /** What the op that runs them writes besides its results. */
  List<Buffer> scratch() {
    return tile == null ? List.of() : sum == null ? List.of(tile) : List.of(tile, sum);
  }

  /** Bytes that the library needs. */
  long workspace() {
    return workspace;
  }

  /** z[rows,V] = h·Wᵀ */
  void logits(Run r, Mem logits, Mem h, Mem space, long rowsNow) {
    if (tile == null) {
      r.gemm().multiply(logits, h, head.plain().mem(), space, forward(rowsNow, head.rows()), 1, 0);
      return;
    }
    if (head.ggml() != null && rowsNow == 1 && r.kernels().architecture() == 0 && type == DType.F32 && z == DType.F32) {
      head.ggml().multiply(r.kernels(), logits, h, 1, head.cols(), head.rows(), roundsX);
      return;
    }
    for (long begin = 0; begin < head.rows(); begin += tileRows) {
      long width = dequantize(r, begin);
      Mem columns = columns(logits, begin);
      r.gemm().multiply(columns, h, tile.mem(), space, forward(rowsNow, width), 1, 0);
    }
  }

  /** dh[rows,C] = dz·W */
  void gradient(Run r, Mem dh, Mem dz, Mem space, long rowsNow) {
    if (tile == null) {
      r.gemm().multiply(dh, dz, head.plain().mem(), space, backward(rowsNow, head.rows()), 1, 0);
      return;
    }
    Mem into = sum == null ? dh : sum.mem();
    for (long begin = 0; begin < head.rows(); begin += tileRows) {
      long width = dequantize(r, begin);
      r.gemm().multiply(into, columns(dz, begin), tile.mem(), space, backward(rowsNow, width), 1, begin == 0 ? 0 : 1);
    }
    if (sum != null) {
      r.kernels().cast(dh, into, rowsNow * head.cols(), type, DType.F32);
    }
  }

  /** Brings the tile that begins at a row of the vocabulary into its place; returns its rows. */
  private long dequantize(Run r, long begin) {
    long width = Math.min(tileRows, head.rows() - begin);
    if (head.ggml() != null) {
      r.kernels().ggml().dequantize(
          tile.mem(), head.ggml().place(begin, width), width, head.cols(), head.cols(), head.ggml().type().id(), type);
    } else {
      r.kernels().int8().dequantize(tile.mem(), head.int8().place(begin, width), width, head.cols(), head.cols(), type);
    }
    return width;
  }

  private Mem columns(Mem m, long begin) {
    long offset = begin * z.bytes();
    return m.slice(offset, m.bytes() - offset);
  }

  private Gemm.Shape forward(long m, long width) {
    long c = head.cols();
    DType w = head.type(type);
    return new Gemm.Shape(false, true, m, width, c, c, ldOfHead(), head.rows(), type, w, z);
  }

  private Gemm.Shape backward(long m, long width) {
    long c = head.cols();
    DType result = tile == null ? type : DType.F32;
    return new Gemm.Shape(false, false, m, c, width, head.rows(), ldOfHead(), c, z, head.type(type), result);
  }

  private long ldOfHead() {
    return tile == null ? head.plain().ld() : head.cols();
  }
}
