package dev.oribi.kernel;

import static dev.oribi.kernel.Kernels.f;
import static dev.oribi.kernel.Kernels.p;

import dev.oribi.device.Mem;
import dev.oribi.kernel.jni.OribiNative;
import dev.oribi.kernel.jni.oribi_ctx;
import dev.oribi.kernel.jni.oribi_latent_shape;

/** The functions of {@code oribi.h} on the heads of latent attention, on the device of a {@link Kernels}. */
public final class LatentKernels {
  /** Elements from one row to the next: of q, k and v alike, of kv, of the part of k that is rotated. */
  public record Strides(long qkv, long kv, long rope) {}

  private final Kernels kernels;
  private final oribi_ctx ctx;

  LatentKernels(Kernels kernels, oribi_ctx ctx) {
    this.kernels = kernels;
    this.ctx = ctx;
  }

  /** k, v =, from kv and kRope; q is rotated in place. */
  public void forward(
      Mem q, Mem k, Mem v, Mem kv, Mem kRope, Mem cos, Mem sin, Mem positions, long n, long maxPosition, LatentShape shape,
      Strides strides, DType t) {
    try (oribi_latent_shape s = struct(n, maxPosition, shape, strides, t)) {
      kernels.check(
          OribiNative.oribi_latent_forward(
              ctx, p(q), p(k), p(v), p(kv), p(kRope), f(cos), f(sin), positions == null ? null : positions.ints(), s));
    }
  }

  /** dkv, dkRope =; dq is rotated back in place. */
  public void backward(
      Mem dq, Mem dkv, Mem dkRope, Mem dk, Mem dv, Mem cos, Mem sin, Mem positions, long n, long maxPosition,
      LatentShape shape, Strides strides, DType t) {
    try (oribi_latent_shape s = struct(n, maxPosition, shape, strides, t)) {
      kernels.check(
          OribiNative.oribi_latent_backward(
              ctx, p(dq), p(dkv), p(dkRope), p(dk), p(dv), f(cos), f(sin), positions == null ? null : positions.ints(), s));
    }
  }

  private static oribi_latent_shape struct(long n, long maxPosition, LatentShape l, Strides s, DType t) {
    oribi_latent_shape shape = new oribi_latent_shape();
    shape.n(n).h(l.heads()).nope(l.nope()).rope(l.rope()).v(l.v()).ld_q(s.qkv).ld_k(s.qkv).ld_v(s.qkv);
    return shape.ld_kv(s.kv).ld_r(s.rope).max_position(maxPosition).interleaved(l.interleaved() ? 1 : 0).t(t.code());
  }
}
