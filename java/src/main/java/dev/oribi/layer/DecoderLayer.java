package dev.oribi.layer;

import dev.oribi.kernel.DType;
import dev.oribi.layer.Saving.Tensor;
import dev.oribi.program.Buffer;
import dev.oribi.program.Buffer.Rows;
import dev.oribi.program.Emit;
import dev.oribi.program.Emit.KvCache;
import dev.oribi.program.FrozenStack;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * One layer of a decoder: attention and a feed-forward part, each behind a norm, on a residual stream.
 *
 * <pre>
 * r0 = r + delta      (the sum that the layer before left open)
 * x1 = norm(r0)       y = attention(x1)
 * r1 = r0 + y         x2 = norm(r1)       delta' = feed_forward(x2)
 * </pre>
 *
 * The residual additions are fused with the norm that follows, so a layer takes the stream as a pair (r, delta) and leaves
 * (r1, delta'). What the backward pass reads is kept, sent to the host's memory or made again, as {@link Saving} says. Backward,
 * {@code dr} is the gradient of the sum and is added to in place. Derivation: docs/derivations/step.md
 */
public final class DecoderLayer {
  /** The residual stream between layers: the true stream is r + delta; {@code delta} is null before the first layer. */
  public record Stream(Buffer r, Buffer delta) {}

  /** Where the tokens are: positions restart in each sequence; {@code cache} null except in generation. */
  public record Packing(Buffer positions, Buffer cuSeqlens, KvCache cache) {}

  private final String name;
  private final Norm inputNorm;
  private final Attention attention;
  private final Norm midNorm;
  private final FeedForward mlp;

  /**
   * @param name such as {@code model.layers.3}
   * @param inputNorm before attention
   * @param midNorm before the feed-forward part
   */
  public DecoderLayer(String name, Norm inputNorm, Attention attention, Norm midNorm, FeedForward mlp) {
    this.name = name;
    this.inputNorm = inputNorm;
    this.attention = attention;
    this.midNorm = midNorm;
    this.mlp = mlp;
  }

  public boolean trainable() {
    return inputNorm.trainable() || attention.trainable() || midNorm.trainable() || mlp.trainable();
  }

  /** Its linear layers in the order of the forward pass. */
  public List<Projection> linears() {
    List<Projection> all = new ArrayList<>(attention.linears());
    all.addAll(mlp.linears());
    return all;
  }

  /** The frozen weights in 4 bits, by the names of their projections. */
  public Map<String, FrozenStack> in4Bits() {
    Map<String, FrozenStack> all = new LinkedHashMap<>();
    for (Projection l : linears()) {
      if (l.in4Bits() != null) {
        all.put(l.name(), l.in4Bits());
      }
    }
    return all;
  }

  /** Columns of a tensor that the backward pass reads; 0 where this layer has none of this name. */
  public long cols(Tensor t) {
    return switch (t) {
      case R0, X1, R1, X2 -> inputNorm.param().cols();
      case QKV, QK, O, Y -> attention.cols(t);
      case GU, F, D -> mlp.cols(t);
    };
  }

  /** Columns of the keys of a cache, and of the values. */
  public long keyCols() {
    return attention.keyCols();
  }

  /** Appends the forward pass; returns the stream after it. {@code s} takes what the backward pass will read. */
  public Stream emitForward(Emit e, Stream in, Packing p, Saved s) {
    long c = in.r.cols();
    Buffer r0 = in.delta == null ? in.r : e.activation(name + ".r0", c);
    Buffer x1 = e.activation(name + ".x1", c);
    s.rstd1 = rstd(e, 1);
    if (in.delta == null) {
      inputNorm.emit(e, x1, s.rstd1, r0);
    } else {
      inputNorm.emitAdd(e, r0, x1, s.rstd1, in.r, in.delta);
    }
    s.made(e, Tensor.R0, r0);
    s.made(e, Tensor.X1, x1);
    Buffer y = attention.emitForward(e, x1, p, s);

    Buffer r1 = e.activation(name + ".r1", c);
    Buffer x2 = e.activation(name + ".x2", c);
    s.rstd2 = rstd(e, 2);
    midNorm.emitAdd(e, r1, x2, s.rstd2, r0, y);
    s.made(e, Tensor.R1, r1);
    s.made(e, Tensor.X2, x2);
    return new Stream(r1, mlp.emitForward(e, x2, s));
  }

  /** Appends the backward pass: dr[N,C], the gradient of the layer's output, becomes that of its input. */
  public void emitBackward(Emit e, Buffer dr, Saved s, Packing p, boolean belowLearns) {
    Buffer dx2 = mlp.emitBackward(e, dr, () -> find(e, Tensor.X2, s, p), s);
    Buffer r1 = find(e, Tensor.R1, s, p);
    midNorm.emitBackward(e, dr, s.rstd2, dx2, r1, true);
    boolean goOn = belowLearns || inputNorm.trainable();
    Buffer dx1 = goOn ? e.activation(name + ".dx1", dr.cols()) : null;
    attention.emitBackward(e, dr, dx1, () -> find(e, Tensor.X1, s, p), p, s);
    if (goOn) {
      inputNorm.emitBackward(e, dr, s.rstd1, dx1, find(e, Tensor.R0, s, p), true);
    }
    s.emitEnd(e);
  }

  /** A tensor of the forward pass, made again if it was not kept. The same kernels give the same bits. */
  private Buffer find(Emit e, Tensor t, Saved s, Packing p) {
    Buffer found = s.find(e, t);
    if (found != null) {
      return found;
    }
    String again = name + ".again.";
    switch (t) {
      case X1 -> {
        Buffer r0 = find(e, Tensor.R0, s, p);
        Buffer x1 = s.rebuilt(t, e.activation(again + "x1", r0.cols()));
        inputNorm.emit(e, x1, rstd(e, 1), r0);
      }
      case R1 -> {
        Buffer y = attention.emitAgain(e, () -> find(e, Tensor.X1, s, p), p, s);
        Buffer r0 = find(e, Tensor.R0, s, p);
        Buffer r1 = s.rebuilt(t, e.activation(again + "r1", r0.cols()));
        Buffer x2 = e.activation(again + "x2", r0.cols());
        midNorm.emitAdd(e, r1, x2, rstd(e, 2), r0, y);
        if (s.rebuilds(Tensor.X2)) {
          s.rebuilt(Tensor.X2, x2);
        }
      }
      case X2 -> {
        Buffer r1 = find(e, Tensor.R1, s, p);
        if (s.find(e, t) == null) {
          Buffer x2 = s.rebuilt(t, e.activation(again + "x2", r1.cols()));
          midNorm.emit(e, x2, rstd(e, 2), r1);
        }
      }
      default -> throw new IllegalStateException(name + " has no " + t + " to rebuild from");
    }
    return s.find(e, t);
  }

  private Buffer rstd(Emit e, int which) {
    return e.activation(name + ".rstd" + which, DType.F32, Rows.TOKENS, 1);
  }
}
