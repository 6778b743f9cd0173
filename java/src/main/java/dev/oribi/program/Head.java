package dev.oribi.program;

import dev.oribi.kernel.DType;
import java.util.List;

/**
 * The weight [V, C] of the vocabulary projection as the loss and generation read it: as it lies, or in 8 bits.
 *
 * @param plain null where {@code int8} holds it
 * @param int8 null unless it is in 8 bits
 * @param scale of the logits; 1 where a model has none
 * @param softcap logits, scaled, become softcap * tanh(logit / softcap); 0: as they are
 */
public record Head(View plain, Int8Matrix int8, float scale, float softcap) {
  /** With logits as they are. */
  public Head(View plain, Int8Matrix int8) {
    this(plain, int8, 1, 0);
  }

  public Head {
    if (plain == null == (int8 == null)) {
      throw new IllegalArgumentException("a head is either plain or in 8 bits");
    }
  }

  /** V. */
  public long rows() {
    return int8 != null ? int8.rows() : plain.rows();
  }

  /** C. */
  public long cols() {
    return int8 != null ? int8.cols() : plain.cols();
  }

  List<Buffer> buffers() {
    return int8 != null ? int8.buffers() : List.of(plain.buffer());
  }

  long bytes() {
    return int8 != null ? int8.bytes() : plain.elements() * plain.type().bytes();
  }

  /** What the products read: the type of the weight as it lies, or that of the activations it is dequantized to. */
  DType type(DType activations) {
    return int8 != null ? activations : plain.type();
  }
}
