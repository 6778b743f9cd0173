package dev.oribi.gguf.family;

import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.config.RopeConfig;
import dev.oribi.model.family.Architecture;
import dev.oribi.model.family.Architecture.Layer;
import dev.oribi.model.family.Architecture.SelfAttentionSpec;
import java.lang.reflect.RecordComponent;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;

/**
 * Whether two configurations describe the same arithmetic up to some length of a sequence, whatever families they are of:
 * architectures are compared field by field, rotary positions by their angles.
 */
final class SameModel {
  /** fp32, in which a file holds its numbers, is exact to half of 1.2e-7. */
  private static final double TOLERANCE = 1e-6;

  /** What does not change the arithmetic, and what is compared otherwise. */
  private static final Set<String> NOT_COMPARED = Set.of("modelType", "raw", "dtype", "bosTokenId", "eosTokenIds", "padTokenId",
      "maxPositionEmbeddings", "rope", "ropes", "layers");

  private SameModel() {}

  /** The first thing that differs, in words. */
  static Optional<String> difference(ModelConfig a, ModelConfig b, int context) {
    Architecture first = a.architecture();
    Architecture second = b.architecture();
    return compare("", a, b).or(() -> compare("", first, second)).or(() -> {
      for (int i = 0; i < first.layers().size(); i++) {
        Layer x = first.layers().get(i);
        Layer y = second.layers().get(i);
        String where = "layer " + i + ": ";
        Optional<String> found = ropes(where, rope(first, x), rope(second, y), a.headDim(), context)
            .or(() -> compare(where, plain(x, context), plain(y, context)));
        if (found.isPresent()) {
          return found;
        }
      }
      return Optional.empty();
    });
  }

  private static RopeConfig rope(Architecture a, Layer layer) {
    int index = layer.attention() instanceof SelfAttentionSpec s ? s.rope() : ((Architecture.LatentAttentionSpec) layer.attention()).rope();
    return index == SelfAttentionSpec.NO_ROPE ? null : a.ropes().get(index);
  }

  /** A layer without its rotary positions, and without a window that no sequence is long enough for. */
  private static Layer plain(Layer layer, int context) {
    if (layer.attention() instanceof SelfAttentionSpec s) {
      SelfAttentionSpec plain = s.withRope(0).withWindow(s.window() >= context ? 0 : s.window());
      return new Layer(layer.inputNorm(), plain, layer.midNorm(), layer.mlp());
    }
    return layer;
  }

  private static Optional<String> ropes(String where, RopeConfig a, RopeConfig b, int headDim, int context) {
    if (a == null || b == null) {
      return a == b ? Optional.empty() : Optional.of(where + (a == null ? "does not turn" : "turns") + " its queries and keys");
    }
    boolean isLong = context > a.originalMaxPositionEmbeddings() && a.dependsOnLength();
    boolean same = near(a.attentionFactor(), b.attentionFactor()) && near(a.invFreq(headDim), b.invFreq(headDim))
        && (!isLong || near(a.invFreqOfLong(headDim, context), b.invFreqOfLong(headDim, context)));
    return same ? Optional.empty() : Optional.of(where + "rotary positions of " + a + ", which would be read as " + b);
  }

  private static boolean near(float[] a, float[] b) {
    boolean same = a.length == b.length;
    for (int i = 0; same && i < a.length; i++) {
      same = near(a[i], b[i]);
    }
    return same;
  }

  private static boolean near(double a, double b) {
    return Math.abs(a - b) <= TOLERANCE * Math.max(Math.abs(a), Math.abs(b));
  }

  private static Optional<String> compare(String where, Object a, Object b) {
    if (a instanceof Record && b != null && a.getClass() == b.getClass()) {
      for (RecordComponent c : a.getClass().getRecordComponents()) {
        if (NOT_COMPARED.contains(c.getName())) {
          continue;
        }
        Optional<String> found = compare(where + c.getName() + " ", value(c, a), value(c, b));
        if (found.isPresent()) {
          return found;
        }
      }
      return Optional.empty();
    }
    boolean same = a instanceof Double x && b instanceof Double y ? near(x, y) : Objects.equals(a, b);
    return same ? Optional.empty() : Optional.of(where + "is " + a + " and would be read as " + b);
  }

  private static Object value(RecordComponent c, Object record) {
    try {
      return c.getAccessor().invoke(record);
    } catch (ReflectiveOperationException e) {
      throw new IllegalStateException(e);
    }
  }
}
