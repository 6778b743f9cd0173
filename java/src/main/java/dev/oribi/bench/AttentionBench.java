package dev.oribi.bench;

import dev.oribi.OribiException;
import dev.oribi.device.Arena;
import dev.oribi.device.Clock;
import dev.oribi.device.Mem;
import dev.oribi.kernel.Attention;
import dev.oribi.kernel.AttentionShape;
import dev.oribi.kernel.CudnnAttention;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.KernelAttention;
import dev.oribi.model.Machine;
import java.io.PrintStream;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;

/**
 * Times the attention of Llama-3.1-8B (32 query heads and 8 others of 128, rows of a fused projection) and of Llama-3.2-1B (heads of
 * 64) on a GPU, forward and backward, by cuDNN and by Oribi's own kernels. A causal pass counts half of the square:
 * 2 * heads * headDim * length^2 FLOP forward, 2.5 times that backward, as is usual.
 */
public final class AttentionBench {
  private static final int HEADS = 32;
  private static final int KV_HEADS = 8;
  private static final int RUNS = 20;

  /** More than any cache, and longer to write than a call takes the host to issue. */
  private static final long FLUSH_BYTES = 512L << 20;

  /**
   * One batch.
   *
   * @param room the longest length that is planned for; where it is that of all sequences, cuDNN needs no offsets
   */
  private record Batch(String name, int sequences, int length, int room, int headDim) {
    Batch(String name, int sequences, int length, int room) {
      this(name, sequences, length, room, 128);
    }

    long row() {
      return (HEADS + 2L * KV_HEADS) * headDim;
    }

    long out() {
      return (long) HEADS * headDim;
    }
  }

  private static final List<Batch> BATCHES =
      List.of(
          new Batch("2 x 256", 2, 256, 256),
          new Batch("2 x 2048", 2, 2048, 2048),
          new Batch("4 x 2048", 4, 2048, 2048),
          new Batch("4 x 4096", 4, 4096, 4096),
          new Batch("1 x 8192", 1, 8192, 8192),
          new Batch("1 x 32768", 1, 32768, 32768),
          new Batch("8 x 1024", 8, 1024, 1024),
          new Batch("8 x 1024, packed", 8, 1024, 1280),
          new Batch("8 x 1024, packed, room for 8192", 8, 1024, 8192),
          new Batch("4 x 512, heads of 64", 4, 512, 512, 64),
          new Batch("4 x 512, packed, heads of 64", 4, 512, 640, 64),
          new Batch("4 x 2048, heads of 64", 4, 2048, 2048, 64),
          new Batch("1 x 8192, heads of 64", 1, 8192, 8192, 64));

  private AttentionBench() {}

  /** Prints a line for each batch and library. */
  public static void run(Machine machine, PrintStream out) {
    if (!machine.isCuda()) {
      throw new OribiException("the benchmark of attention is for a GPU: --device cuda");
    }
    DType type = machine.halfType();
    out.printf("%s, %s%n", machine.describe(), type.label());
    out.printf("%-34s %-14s %26s %26s %10s%n", "", "", "forward ms   TFLOP/s", "backward ms   TFLOP/s", "MiB");
    try (CudnnAttention cudnn = new CudnnAttention(machine.kernels(), false);
        CudnnAttention deterministic = new CudnnAttention(machine.kernels(), true);
        KernelAttention own = new KernelAttention(machine.kernels())) {
      for (Batch batch : BATCHES) {
        line(machine, cudnn, batch, type, cudnn.describe(), out);
        if (batch.sequences * (long) batch.room <= 8192) {
          line(machine, deterministic, batch, type, "deterministic", out);
        }
        line(machine, own, batch, type, own.describe(), out);
      }
    }
  }

  private static void line(Machine machine, Attention attention, Batch batch, DType type, String name, PrintStream out) {
    long n = (long) batch.sequences * batch.length;
    long row = batch.row();
    long width = batch.out();
    AttentionShape room = shape(batch, n, null, type);
    long forwardBytes = attention.workspace(room, false);
    long backwardBytes = attention.workspace(room, true);
    long workspaceBytes = Math.max(forwardBytes, backwardBytes);
    long rows = n * (2 * row + 2 * width) * type.bytes();
    try (Arena arena = machine.device().allocate("a benchmark", rows + 4 * n * HEADS + workspaceBytes + FLUSH_BYTES + (1 << 16))) {
      long[] used = {0};
      Mem qkv = take(arena, used, n * row * type.bytes());
      Mem gradients = take(arena, used, n * row * type.bytes());
      Mem o = take(arena, used, n * width * type.bytes());
      Mem dOut = take(arena, used, n * width * type.bytes());
      Mem lse = take(arena, used, 4 * n * HEADS);
      Mem cu = take(arena, used, 4L * (batch.sequences + 1));
      Mem workspace = take(arena, used, workspaceBytes);
      Mem flush = take(arena, used, FLUSH_BYTES);
      machine.kernels().randomNormal(qkv, n * row, 0, 1, 1, 1, type);
      machine.kernels().randomNormal(dOut, n * width, 0, 1, 1, 2, type);
      int[] begins = new int[batch.sequences + 1];
      Arrays.setAll(begins, i -> i * batch.length);
      machine.device().write(cu, begins, begins.length);
      AttentionShape shape = shape(batch, n, cu, type);
      long k = width * type.bytes();
      long v = k + (long) KV_HEADS * batch.headDim * type.bytes();
      double forward =
          median(machine, flush, () -> attention.forward(o, lse, qkv, tail(qkv, k), tail(qkv, v), workspace, shape));
      double backward =
          median(machine, flush, () -> attention.backward(
              gradients, tail(gradients, k), tail(gradients, v), o, lse, dOut, qkv, tail(qkv, k), tail(qkv, v), workspace,
              shape));
      double flops = 2.0 * HEADS * batch.headDim * batch.sequences * (double) batch.length * batch.length;
      out.printf(Locale.ROOT, "%-34s %-14s %15.3f %10.0f %15.3f %10.0f %10.0f%n", batch.name, name, 1e3 * forward,
          flops / forward / 1e12, 1e3 * backward, 2.5 * flops / backward / 1e12, workspaceBytes / (double) (1 << 20));
    }
  }

  private static AttentionShape shape(Batch batch, long n, Mem cu, DType type) {
    long row = batch.row();
    return new AttentionShape(n, batch.sequences, batch.room, HEADS, KV_HEADS, batch.headDim, row, row, row, batch.out(), cu,
        null, null, (float) (1 / Math.sqrt(batch.headDim)), 0, 0, type);
  }

  private static Mem take(Arena arena, long[] used, long bytes) {
    Mem m = arena.all().slice(used[0], bytes);
    used[0] = (used[0] + bytes + 255) / 256 * 256;
    return m;
  }

  private static Mem tail(Mem m, long from) {
    return m.slice(from, m.bytes() - from);
  }

  /** Seconds; the device is kept busy while the host issues the call, so that no time of the host is in them. */
  private static double median(Machine machine, Mem flush, Runnable call) {
    call.run();
    call.run();
    double[] seconds = new double[RUNS];
    try (Clock clock = machine.device().clock()) {
      for (int i = 0; i < RUNS; i++) {
        machine.kernels().fill(flush, FLUSH_BYTES / 4, i, DType.F32);
        int begun = clock.mark();
        call.run();
        int ended = clock.mark();
        seconds[i] = clock.nanos(begun, ended) / 1e9;
        clock.reset();
      }
    }
    Arrays.sort(seconds);
    return seconds[RUNS / 2];
  }
}
