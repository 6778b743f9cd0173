package dev.oribi.train;

import dev.oribi.kernel.Fp8;
import dev.oribi.layer.DecoderLayer;
import dev.oribi.layer.Linear;
import dev.oribi.layer.Projection;
import dev.oribi.model.Decoder;
import java.util.List;
import java.util.Locale;
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
    Set<String> unfit = new TreeSet<>();
    for (int i = 0; i < layers.size(); i++) {
      boolean copied = i >= layers.size() - copies;
      boolean any = false;
      for (Projection p : layers.get(i).linears()) {
        if (!(p instanceof Linear l)) {
          continue;
        }
        if (!Fp8.fits(l.outFeatures(), l.inFeatures())) {
          unfit.add(l.name().substring(l.name().lastIndexOf('.') + 1));
        } else if (l.inFp8() != null || copied) {
          any = true;
        }
      }
      inFp8 += any ? 1 : 0;
      without += !copied && !layers.get(i).in4Bits().isEmpty() ? 1 : 0;
    }
    StringBuilder s = new StringBuilder();
    s.append(String.format(Locale.ROOT, "FP8: products with frozen weights in %d of %d layers", inFp8, layers.size()));
    if (without > 0) {
      s.append(String.format(Locale.ROOT, "; %d have no room for weights in FP8 beside those in 4 bits and multiply in 16 bits", without));
    }
    if (!unfit.isEmpty()) {
      s.append(String.format(Locale.ROOT, "; %s in 16 bits: sizes that are no multiples of %d", String.join(", ", unfit), Fp8.MULTIPLE));
    }
    return s.toString();
  }
}
