package dev.oribi.layer;

import dev.oribi.layer.DecoderLayer.Packing;
import dev.oribi.layer.Saving.Tensor;
import dev.oribi.program.Buffer;
import dev.oribi.program.Emit;
import java.util.List;
import java.util.function.Supplier;

/**
 * The part of a decoder layer that mixes tokens: from the normalised stream x1[N,C] to what is added to the stream, y[N,C]. Any
 * norm of its output is its own. {@link SelfAttention} is the usual one.
 *
 * <p>Implementations say what they keep for the backward pass by {@link Saved#made} and look for it again with {@link Saved#find};
 * what was not kept they make again, to the same bits.
 */
public interface Attention {
  boolean trainable();

  /** Its projections, for what is done to all weights of a layer. */
  List<Projection> linears();

  /** Columns of a tensor that it saves; 0 where it saves none of this name. */
  long cols(Tensor t);

  /** Columns of the keys of a cache, and of the values. */
  long keyCols();

  /** y =; {@code s} takes what the backward pass will read. */
  Buffer emitForward(Emit e, Buffer x1, Packing p, Saved s);

  /** y once more. {@code x1} is asked for only where it is needed. */
  Buffer emitAgain(Emit e, Supplier<Buffer> x1, Packing p, Saved s);

  /**
   * dx1 = from dr, the gradient of y; gradients of what learns are added to.
   *
   * @param dx1 null: not wanted
   */
  void emitBackward(Emit e, Buffer dr, Buffer dx1, Supplier<Buffer> x1, Packing p, Saved s);
}
