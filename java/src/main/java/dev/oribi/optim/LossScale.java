package dev.oribi.optim;

/**
 * The factor by which the loss is multiplied before the backward pass, so that small gradients survive in fp16, and by
 * which gradients are divided before they are clipped and used. The rule and its numbers are those of PyTorch's {@code
 * GradScaler}: halved when a gradient overflows (that update is left out), doubled after {@value #GROWTH_INTERVAL} updates
 * without overflow.
 *
 * @param value a power of two, so that scaling rounds nothing; 1 where the storage type needs no scaling
 * @param updates since the last change
 */
public record LossScale(double value, int updates) {
  /** For fp32 and bf16, whose exponents reach as far as fp32's. */
  public static final LossScale NONE = new LossScale(1, -1);

  /** For fp16. */
  public static final LossScale FIRST = new LossScale(65536, 0);

  static final int GROWTH_INTERVAL = 2000;

  /** Whether it belongs to a storage type whose gradients are scaled. */
  public boolean scales() {
    return updates >= 0;
  }

  /** Whether an overflow is answered with a smaller factor; with the smallest it is an error of the run. */
  public boolean canShrink() {
    return updates >= 0 && value > 1;
  }

  public LossScale afterOverflow() {
    if (!canShrink()) {
      throw new IllegalStateException("the loss scale is " + value + " and cannot shrink");
    }
    return new LossScale(value / 2, 0);
  }

  public LossScale afterUpdate() {
    if (updates < 0) {
      return this;
    }
    return updates + 1 < GROWTH_INTERVAL ? new LossScale(value, updates + 1) : new LossScale(value * 2, 0);
  }
}
