package dev.oribi.layer;

import dev.oribi.layer.Saving.Tensor;
import dev.oribi.program.Buffer;
import dev.oribi.program.Emit;
import java.util.List;
import java.util.function.Supplier;

/**
 * The part of a decoder layer that treats each token by itself: from the normalised stream x2[N,C] to what is added to the
 * stream, delta[N,C]. Any norm of its output is its own. {@link GatedMlp} is the usual one.
 *
 * <p>What was not kept for the backward pass is made again within it, to the same bits.
 */
public interface FeedForward {
  boolean trainable();

  /** Its projections, for what is done to all weights of a layer. */
  List<Projection> linears();

  /** Columns of a tensor that it saves; 0 where it saves none of this name. */
  long cols(Tensor t);

  /** delta =; {@code s} takes what the backward pass will read. */
  Buffer emitForward(Emit e, Buffer x2, Saved s);

  /**
   * Returns dx2, from dr, the gradient of delta; gradients of what learns are added to.
   *
   * @param x2 asked for once, after what was sent to the host and is read first
   */
  Buffer emitBackward(Emit e, Buffer dr, Supplier<Buffer> x2, Saved s);
}
