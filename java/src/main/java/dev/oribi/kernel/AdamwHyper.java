package dev.oribi.kernel;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/**
 * The numbers of one AdamW update, {@code oribi_adamw_hyper}. They lie in the device's memory, so that a captured update can
 * be replayed with those of another step.
 *
 * @param step from 1
 */
public record AdamwHyper(
    double learningRate, double beta1, double beta2, double epsilon, double weightDecay, long step) {
  /** Size of the C struct: five doubles and a 64-bit integer, without gaps. */
  public static final int BYTES = 48;

  /** The C struct, ready to be copied to a device. */
  public ByteBuffer bytes() {
    ByteBuffer b = ByteBuffer.allocateDirect(BYTES).order(ByteOrder.nativeOrder());
    b.putDouble(learningRate).putDouble(beta1).putDouble(beta2).putDouble(epsilon).putDouble(weightDecay).putLong(step);
    return b.flip();
  }
}
