package dev.oribi.bench;

import dev.oribi.device.Mem;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.Gemm;
import dev.oribi.kernel.LoraKernels;
import dev.oribi.kernel.LoraPaths.Path;
import dev.oribi.kernel.LoraShape;
import dev.oribi.kernel.Nf4;
import dev.oribi.model.Machine;
import java.util.List;

/** The ways to compute one adapted product, as a training step would issue them, on random operands. */
final class LoraWays {
  private static final long ALIGNMENT = 256;

  private final Machine machine;
  private final LoraKernels lora;
  private final Gemm gemm;
  private final LoraShape s;
  private final DType type;
  private final boolean in4Bits;
  private final long ranks;
  private final long workspaceBytes;
  private long used;
  private Mem x;
  private Mem y;
  private Mem w;
  private Mem h;
  private Mem a;
  private Mem b;
  private Mem workspace;
  private Nf4 nf4;

  /** @param in4Bits whether the weight is also held in NF4 */
  LoraWays(Machine machine, LoraShape s, boolean in4Bits) {
    this.machine = machine;
    this.lora = machine.kernels().lora();
    this.gemm = machine.gemm();
    this.s = s;
    this.type = s.type();
    this.in4Bits = in4Bits;
    this.ranks = s.rank() * s.adapters().size();
    long most = in4Bits ? LoraKernels.nf4Workspace(s.in() * s.out()) : 0;
    for (boolean dx : new boolean[] {false, true}) {
      most = Math.max(most, gemm.workspace(whole(dx)));
      for (LoraShape.Adapter p : s.adapters()) {
        most = Math.max(most, gemm.workspace(thin(dx, p)));
      }
    }
    workspaceBytes = most;
  }

  private long weights() {
    return s.in() * s.out();
  }

  /** Of all operands. */
  long bytes() {
    long e = type.bytes();
    long half = s.n() * (s.in() + s.out() + ranks) + weights() + ranks * s.in() + s.out() * s.rank();
    long quarter = in4Bits ? Nf4.codesBytes(weights()) + Nf4.absmaxBytes(weights()) + 4 * Nf4.absmax2Count(weights()) + 4 : 0;
    return e * half + quarter + workspaceBytes + 11 * ALIGNMENT;
  }

  private Mem take(Mem all, long bytes) {
    Mem m = all.slice(used, bytes);
    used = (used + bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return m;
  }

  private Mem random(Mem all, long elements, float std, int seed) {
    Mem m = take(all, elements * type.bytes());
    machine.kernels().randomNormal(m, elements, 0, std, 1, seed, type);
    return m;
  }

  /** Lays the operands into {@code all}. x and y are dx and dy in the backward pass, h and g are one array. */
  void place(Mem all) {
    used = 0;
    x = random(all, s.n() * s.in(), 1, 1);
    y = random(all, s.n() * s.out(), 1, 2);
    w = random(all, weights(), 0.02f, 3);
    h = random(all, s.n() * ranks, 1, 4);
    a = random(all, ranks * s.in(), 0.02f, 5);
    b = random(all, s.out() * s.rank(), 0.02f, 6);
    workspace = take(all, workspaceBytes);
    if (in4Bits) {
      nf4 =
          new Nf4(
              take(all, Nf4.codesBytes(weights())), take(all, Nf4.absmaxBytes(weights())),
              take(all, 4 * Nf4.absmax2Count(weights())), take(all, 4));
      lora.nf4Quantize(nf4, w, workspace, weights(), type);
    }
  }

  /** By the fused kernel, by the library. */
  List<Runnable> of16Bits(boolean dx) {
    return List.of(() -> fused(dx, w, null), () -> library(dx));
  }

  /** By the fused kernel that reads 4 bits; decoded first, and then the faster way of 16 bits. */
  List<Runnable> of4Bits(boolean dx, Path of16) {
    return List.of(
        () -> fused(dx, null, nf4),
        () -> {
          lora.nf4Dequantize(w, nf4, s.out(), s.in(), s.in(), type);
          if (of16 == Path.FUSED) {
            fused(dx, w, null);
          } else {
            library(dx);
          }
        });
  }

  private void fused(boolean dx, Mem weight, Nf4 codes) {
    if (dx) {
      lora.matmulDx(x, y, weight, codes, h, a, s);
    } else {
      lora.matmul(y, x, weight, codes, h, b, s);
    }
  }

  private void library(boolean dx) {
    if (dx) {
      gemm.multiply(x, y, w, workspace, whole(true), 1, 0);
      gemm.multiply(x, h, a, workspace, thin(true, null), 1, 1);
      return;
    }
    gemm.multiply(y, x, w, workspace, whole(false), 1, 0);
    long e = type.bytes();
    for (int i = 0; i < s.adapters().size(); i++) {
      LoraShape.Adapter p = s.adapters().get(i);
      Mem hp = tail(h, i * s.rank() * e);
      gemm.multiply(tail(y, p.firstOut() * e), hp, tail(b, p.firstOut() * s.rank() * e), workspace, thin(false, p), 1, 1);
    }
  }

  private static Mem tail(Mem m, long from) {
    return m.slice(from, m.bytes() - from);
  }

  private Gemm.Shape whole(boolean dx) {
    return dx
        ? new Gemm.Shape(false, false, s.n(), s.in(), s.out(), s.out(), s.in(), s.in(), type, type, type)
        : new Gemm.Shape(false, true, s.n(), s.out(), s.in(), s.in(), s.in(), s.out(), type, type, type);
  }

  /** One adapter's part of y, or the part of dx from all adapters. */
  private Gemm.Shape thin(boolean dx, LoraShape.Adapter p) {
    return dx
        ? new Gemm.Shape(false, false, s.n(), s.in(), ranks, ranks, s.in(), s.in(), type, type, type)
        : new Gemm.Shape(false, true, s.n(), p.outs(), s.rank(), ranks, s.rank(), s.out(), type, type, type);
  }
}
