package dev.oribi.program;

import dev.oribi.kernel.DType;
import java.util.List;

/**
 * The weight [V, C] of the vocabulary projection as the loss and generation read it: as it lies, in 8 bits, or in the blocks of a GGUF file.
 *
 * @param plain null where {@code int8} or {@code ggml} holds it
 * @param int8 null unless it is in 8 bits
 * @param ggml null unless it is in blocks
 * @param scale of the logits; 1 where a model has none
 * @param softcap logits, scaled, become softcap * tanh(logit / softcap); 0: as they are
 */
public record Head(View plain, Int8Matrix int8, GgmlMatrix ggml, float scale, float softcap) {
  /** With logits as they are. */
  public Head(View plain, Int8Matrix int8, GgmlMatrix ggml) {
    this(plain, int8, ggml, 1, 0);
  }

  public Head {
    if ((plain == null ? 0 : 1) + (int8 == null ? 0 : 1) + (ggml == null ? 0 : 1) != 1) {
      throw new IllegalArgumentException("a head is either plain or in 8 bits or in blocks");
    }
  }

  public Head(View plain, Int8Matrix int8) {
    this(plain, int8, null);
  }

  /** Whether tiles of it are expanded for each product. */
  boolean packed() {
    return plain == null;
  }

  /** V. */
  public long rows() {
    return ggml != null ? ggml.rows() : int8 != null ? int8.rows() : plain.rows();
  }

  /** C. */
  public long cols() {
    return ggml != null ? ggml.cols() : int8 != null ? int8.cols() : plain.cols();
  }

  List<Buffer> buffers() {
    return ggml != null ? List.of(ggml.blocks()) : int8 != null ? int8.buffers() : List.of(plain.buffer());
  }

  long bytes() {
    return ggml != null ? ggml.blocks().bytes() : int8 != null ? int8.bytes() : plain.elements() * plain.type().bytes();
  }

  /** What the products read: the type of the weight as it lies, or that of the activations it is dequantized to. */
  DType type(DType activations) {
    return packed() ? activations : plain.type();
  }
}
