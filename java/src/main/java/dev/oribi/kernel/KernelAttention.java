package dev.oribi.kernel;

import dev.oribi.device.Mem;

/** Attention by the kernels of {@code oribi.h}, on any device. */
public final class KernelAttention implements Attention {
  private final Kernels kernels;

  public KernelAttention(Kernels kernels) {
    this.kernels = kernels;
  }

  @Override
  public void forward(Mem o, Mem lse, Mem q, Mem k, Mem v, Mem workspace, AttentionShape shape) {
    kernels.attentionForward(o, lse, q, k, v, workspace, shape);
  }

  @Override
  public void backward(
      Mem dq, Mem dk, Mem dv, Mem o, Mem lse, Mem dOut, Mem q, Mem k, Mem v, Mem workspace, AttentionShape shape) {
    kernels.attentionBackward(dq, dk, dv, o, lse, dOut, q, k, v, workspace, shape);
  }

  @Override
  public long workspace(AttentionShape largest, boolean backward) {
    return kernels.attentionWorkspace(largest, backward);
  }

  @Override
  public String describe() {
    return "own kernels";
  }

  @Override
  public void close() {}
}
