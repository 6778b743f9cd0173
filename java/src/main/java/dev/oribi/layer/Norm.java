package dev.oribi.layer;

import dev.oribi.kernel.Kernels.NormWeight;
import dev.oribi.layer.Parameters.Param;
import dev.oribi.program.Buffer;
import dev.oribi.program.Emit;
import dev.oribi.program.View;

/**
 * A root-mean-square norm of rows, or of the heads in them: y = x * rstd * w, or times 1 + w. Derivations:
 * docs/derivations/rms_norm.md, docs/derivations/head_norm.md
 *
 * @param name of its ops
 * @param param w
 * @param weight how w is applied
 */
public record Norm(String name, Param param, float eps, NormWeight weight) {
  public boolean trainable() {
    return param.trainable();
  }

  /** y, rstd = norm(x) */
  public void emit(Emit e, View y, View rstd, View x) {
    e.rmsNorm(name, y, rstd, x, param.value(), eps, weight);
  }

  public void emit(Emit e, Buffer y, Buffer rstd, Buffer x) {
    emit(e, View.of(y), View.of(rstd), View.of(x));
  }

  /** sum = x + delta; y, rstd = norm(sum) */
  void emitAdd(Emit e, Buffer sum, Buffer y, Buffer rstd, Buffer x, Buffer delta) {
    e.addRmsNorm(name, sum, y, rstd, x, delta, param.value(), eps, weight);
  }

  /** dx = or +=, dw += where w learns */
  public void emitBackward(Emit e, View dx, View rstd, View dy, View x, boolean accumulate) {
    e.rmsNormBackward(name, dx, param.grad(), rstd, dy, x, param.value(), accumulate, weight);
  }

  public void emitBackward(Emit e, Buffer dx, Buffer rstd, Buffer dy, Buffer x, boolean accumulate) {
    emitBackward(e, View.of(dx), View.of(rstd), View.of(dy), View.of(x), accumulate);
  }

  /** The same of each head; a head has as many channels as w. */
  void emitHeads(Emit e, View y, Buffer rstd, View x) {
    e.headNorm(name, y, rstd, x, param.value(), headDim(), eps, weight);
  }

  void emitHeadsBackward(Emit e, View dx, Buffer rstd, View dy, View x) {
    e.headNormBackward(name, dx, dy, param.grad(), rstd, x, param.value(), headDim(), weight);
  }

  private int headDim() {
    return Math.toIntExact(param.cols());
  }
}
