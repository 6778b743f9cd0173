package dev.oribi.layer;

import dev.oribi.layer.Saving.How;
import dev.oribi.layer.Saving.Tensor;
import dev.oribi.program.Buffer;
import dev.oribi.program.Emit;
import dev.oribi.program.Op;
import java.util.EnumMap;
import java.util.Map;

/**
 * What one layer's backward pass finds of its forward pass: large tensors that were kept, sent to the host, or are to be made
 * again ({@link Saving}), and the small ones, which are always kept.
 */
public final class Saved {
  /** In the order in which the backward pass reads them, so that the first to be read is fetched first. */
  private static final Tensor[] BACKWARD = {
    Tensor.D, Tensor.GU, Tensor.X2, Tensor.R1, Tensor.Y, Tensor.O, Tensor.QKV, Tensor.QK, Tensor.X1, Tensor.R0
  };

  private final Saving saving;
  private final Map<Tensor, Buffer> here = new EnumMap<>(Tensor.class);
  private final Map<Tensor, Buffer> onHost = new EnumMap<>(Tensor.class);
  private final Map<Tensor, Op> leaving = new EnumMap<>(Tensor.class);
  private final Map<Tensor, Op> coming = new EnumMap<>(Tensor.class);

  // The small ones: adapters' inner products, norms' statistics, log-sum-exp. Written by the layer.
  Buffer hQkv;
  Buffer hO;
  Buffer hGateUp;
  Buffer hDown;
  Buffer rstd1;
  Buffer rstd2;
  Buffer rstdQ;
  Buffer rstdK;
  Buffer rstdY;
  Buffer rstdD;
  Buffer lse;
  Experts.Kept experts;
  LatentAttention.Kept latent;

  public Saved(Saving saving) {
    this.saving = saving;
  }

  Saving saving() {
    return saving;
  }

  /** The forward pass made {@code b}: it stays, leaves, or is forgotten. */
  void made(Emit e, Tensor t, Buffer b) {
    switch (saving.of(t)) {
      case KEEP -> here.put(t, b);
      case OFFLOAD -> {
        onHost.put(t, Emit.onHost(b));
        leaving.put(t, e.offload(b.name(), onHost.get(t), b));
      }
      case REBUILD -> {}
    }
  }

  /** What left has arrived: its memory is free for what follows. */
  public void emitArrived(Emit e) {
    leaving.values().forEach(e::join);
    leaving.clear();
  }

  /** Sends for what is on the host, beside the ops that follow. */
  public void emitFetch(Emit e) {
    for (Tensor t : BACKWARD) {
      Buffer host = onHost.get(t);
      if (host != null) {
        Buffer b = e.activation(host.name().replace(".host", ".fetched"), host.cols());
        here.put(t, b);
        coming.put(t, e.fetch(b.name(), b, host));
      }
    }
  }

  /** Where the tensor is now; null if it must be rebuilt. What was sent for is waited for. */
  Buffer find(Emit e, Tensor t) {
    Op op = coming.remove(t);
    if (op != null) {
      e.join(op);
    }
    return here.get(t);
  }

  /** The tensor was made again. */
  Buffer rebuilt(Tensor t, Buffer b) {
    here.put(t, b);
    return b;
  }

  boolean rebuilds(Tensor t) {
    return saving.of(t) == How.REBUILD;
  }

  /** Waits for what was sent for and nobody read. */
  void emitEnd(Emit e) {
    coming.values().forEach(e::join);
    coming.clear();
  }
}
