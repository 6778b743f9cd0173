package dev.oribi.program;

import dev.oribi.device.Lanes.Lane;
import java.util.ArrayList;
import java.util.List;

/**
 * One call of a kernel or a library: what it reads and writes, what it costs at the planned size, and how to run it. An
 * op that adds to a buffer names it under both reads and writes.
 *
 * <p>An op on a lane runs beside those that follow it, until the op that joins it; that op names the buffers of the first, so
 * that they live until it is done.
 *
 * @param name where it stands in the model, such as {@code layers.3.mlp.down_proj}
 * @param bytes fewest bytes that must move to and from memory
 * @param flops floating-point operations, a multiply-add counted as two
 * @param lane where it runs
 * @param joined the op on a lane whose end this one waits for; null for all but {@link Kind#JOIN}
 */
public record Op(
    Kind kind, String name, List<Buffer> reads, List<Buffer> writes, long bytes, long flops, Action action, Lane lane,
    Op joined) {
  /** What an op does; its name in plans and profiles. */
  public enum Kind {
    EMBEDDING,
    EMBEDDING_BACKWARD,
    RMS_NORM,
    ADD_RMS_NORM,
    RMS_NORM_BACKWARD,
    HEAD_NORM,
    HEAD_NORM_BACKWARD,
    BIAS,
    BIAS_BACKWARD,
    MATMUL,
    MATMUL_DX,
    MATMUL_DW,
    LORA,
    LORA_DX,
    LORA_DW,
    LORA_H,
    LORA_FORWARD,
    LORA_MATMUL,
    LORA_MATMUL_DX,
    LORA_G_DB,
    LORA_DA,
    DEQUANTIZE,
    FP8_QUANTIZE,
    FP8_QUANTIZE_DX,
    FP8_MATMUL,
    FP8_MATMUL_DX,
    DROPOUT,
    ROPE,
    ROPE_BACKWARD,
    ATTENTION,
    ATTENTION_BACKWARD,
    GLU,
    GLU_BACKWARD,
    ROUTER,
    ROUTER_BACKWARD,
    ROUTE,
    UNROUTE,
    EXPERTS,
    EXPERTS_DX,
    EXPERTS_DW,
    ADD,
    SCALE,
    FILL,
    CAST,
    GATHER,
    SCATTER,
    LOGITS,
    CROSS_ENTROPY,
    SUM,
    SUM_SQUARES,
    CLIP,
    ADAMW,
    SAMPLE,
    OFFLOAD,
    FETCH,
    JOIN;

    public String label() {
      return name().toLowerCase(java.util.Locale.ROOT);
    }
  }

  /** Issues the op on the run's device. */
  @FunctionalInterface
  public interface Action {
    void issue(Run run);
  }

  public Op {
    reads = List.copyOf(reads);
    writes = List.copyOf(writes);
  }

  /** An op of the main stream. */
  public Op(Kind kind, String name, List<Buffer> reads, List<Buffer> writes, long bytes, long flops, Action action) {
    this(kind, name, reads, writes, bytes, flops, action, Lane.MAIN, null);
  }

  /** The same, on a lane. */
  public Op on(Lane other) {
    return new Op(kind, name, reads, writes, bytes, flops, action, other, joined);
  }

  /** The op that waits for this one, which is on a lane. */
  public Op join() {
    List<Buffer> held = new ArrayList<>(reads);
    held.addAll(writes);
    held.removeIf(b -> b.lifetime().permanent());
    return new Op(Kind.JOIN, name, held, List.of(), 0, 0, r -> {}, Lane.MAIN, this);
  }
}
