package dev.oribi.jmh;

import dev.oribi.device.Mem;
import dev.oribi.gguf.GgmlType;
import dev.oribi.jmh.Bench.Work;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.Fp8;

/** Weights in ggml's blocks, as many as a feed-forward projection has, and matrices in FP8. */
final class PackedCases {
  private static final int COLUMNS = 1024;

  private PackedCases() {}

  /** Bits of normal numbers: what a block's scale is worth takes no time. */
  private static Mem blocks(Bench b, GgmlType type, long count) {
    return b.normals(type.bytes(count) / DType.F32.bytes(), DType.F32);
  }

  static Work ggml(Bench b, GgmlType type) {
    long count = Case.F() * Case.C();
    Mem packed = blocks(b, type, count);
    Mem w = b.normals(count);
    return new Work(() -> b.kernels.ggml().dequantize(w, packed, count / COLUMNS, COLUMNS, COLUMNS, type.id(), b.type),
        type.bytes(count) + (double) count * b.type.bytes(), 2.0 * count);
  }

  static Work ggmlEmbedding(Bench b) {
    GgmlType type = GgmlType.Q6_K;
    Mem table = blocks(b, type, (long) Case.ROWS() * COLUMNS);
    Mem ids = b.counting(b.n, Case.ROWS());
    long count = (long) b.n * COLUMNS;
    Mem y = b.normals(count);
    return new Work(() -> b.kernels.ggml().embedding(y, table, ids, b.n, COLUMNS, Case.ROWS(), type.id(), b.type),
        type.bytes(count) + (double) count * b.type.bytes(), 2.0 * count);
  }

  /** The next token's product with a weight in blocks, on a CPU alone: x as it is, or rounded to 8 bits. */
  static Work ggmlMatmul(Bench b, boolean q8) {
    GgmlType type = GgmlType.Q8_0;
    long count = Case.F() * Case.C();
    Mem packed = blocks(b, type, count);
    Mem x = b.normals(Case.C(), DType.F32);
    Mem y = b.normals(Case.F(), DType.F32);
    Runnable call =
        q8 ? () -> b.kernels.ggml().matmulQ8(y, x, packed, 1, Case.C(), Case.F(), Case.C(), Case.F(), type.id())
            : () -> b.kernels.ggml().matmul(y, x, packed, 1, Case.C(), Case.F(), Case.C(), Case.F(), type.id());
    return new Work(call, type.bytes(count), 2.0 * count);
  }

  static Work fp8(Bench b) {
    long count = b.n * Case.C();
    Mem x = b.normals(count);
    Fp8 q = new Fp8(b.raw(count), b.raw(4L * b.n));
    return new Work(() -> b.kernels.fp8().quantize(q, x, b.n, Case.C(), Case.C(), b.type), count * (b.type.bytes() + 1.0), 2.0 * count);
  }

  static Work fp8Transposed(Bench b) {
    long count = Case.F() * Case.C();
    Mem w = b.normals(count);
    Fp8 q = new Fp8(b.raw(count), b.raw(4L * Case.C()));
    return new Work(() -> b.kernels.fp8().quantizeTransposed(q, w, Case.F(), Case.C(), Case.C(), b.type), count * (b.type.bytes() + 1.0), 2.0 * count);
  }
}
