package dev.oribi.train;

import dev.oribi.kernel.Fp8;
import dev.oribi.layer.DecoderLayer;
import dev.oribi.layer.Linear;
import dev.oribi.layer.Projection;
import dev.oribi.model.Decoder;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;

/** Which products of a model are in FP8, and why the others are not: nothing falls back unsaid. */
final class Fp8Report {
  private Fp8Report() {}

  /** @param copies layers, from the last, whose weights in 4 bits have a second copy */
  static String of(Decoder model, int copies) {
    List<DecoderLayer> layers = model.layers();
    int inFp8 = 0;
    int without = 0;
    boolean experts = false;
    Set<String> unfit = new TreeSet<>();
    for (int i = 0; i < layers.size(); i++) {
      boolean copied = i >= layers.size() - copies;
      boolean any = false;
      for (Projection p : layers.get(i).linears()) {
        if (!(p instanceof Linear l)) {
          experts = true; // their products are grouped, which the library's FP8 products are not
        } else if (!Fp8.fits(l.outFeatures(), l.inFeatures())) {
          unfit.add(l.name().substring(l.name().lastIndexOf('.') + 1));
        } else if (l.inFp8() != null || copied) {
          any = true;
        }
      }
      inFp8 += any ? 1 : 0;
      without += !copied && !layers.get(i).in4Bits().isEmpty() ? 1 : 0;
    }
    StringBuilder s = new StringBuilder("FP8: products with frozen weights in ");
    s.append(inFp8).append(" of ").append(layers.size()).append(" layers");
    if (without > 0) {
      s.append("; in ").append(without).append(" the weights in 4 bits have no copy in FP8 (more --memory makes room, and"
          + " --gradient-checkpointing none): multiplied in 16 bits");
    }
    if (!unfit.isEmpty()) {
      s.append("; ").append(String.join(", ", unfit)).append(" in 16 bits: sizes that are no multiples of ").append(Fp8.MULTIPLE);
    }
    if (experts) {
      s.append("; routed experts in 16 bits");
    }
    return s.toString();
  }
}
