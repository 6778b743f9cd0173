package dev.oribi.model;

import dev.oribi.io.Checkpoint;
import dev.oribi.io.TensorInfo;
import dev.oribi.io.TensorType;
import java.nio.FloatBuffer;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Tokens that a model has never seen: rows of its embedding that are still zero. Base models have them for the tokens of the
 * chat template of their instruct sibling; a conversation gives such a model noise, and training on it may give no number.
 *
 * <p>The rule is Unsloth's: the row of the embedding is at most 1e-16, and that of the output head is too, or is, rounded to
 * three places, that of another such token.
 */
public final class UntrainedRows {
  private static final float ZERO = 1e-16f;

  /** A row with a larger value among its first ones is trained, and the rest of it is not read. */
  private static final int FIRST = 16;

  private static final Set<TensorType> FLOATS = Set.of(TensorType.F16, TensorType.BF16, TensorType.F32, TensorType.F64);

  private UntrainedRows() {}

  /** The ids of these tokens, ascending; none if the embedding is not stored as floats. */
  public static List<Integer> find(Checkpoint weights) {
    TensorInfo embedding = named(weights, "embed_tokens.weight");
    if (embedding == null) {
      return List.of();
    }
    List<Integer> ids = new ArrayList<>();
    for (int id = 0; id < embedding.shape()[0]; id++) {
      if (isZero(weights, embedding, id)) {
        ids.add(id);
      }
    }
    TensorInfo head = named(weights, "lm_head.weight");
    return head == null ? ids : untrainedInHead(weights, head, ids);
  }

  private static List<Integer> untrainedInHead(Checkpoint weights, TensorInfo head, List<Integer> candidates) {
    Map<List<Long>, List<Integer>> alike = new HashMap<>();
    List<Integer> ids = new ArrayList<>();
    for (int id : candidates) {
      if (id >= head.shape()[0]) {
        continue;
      }
      if (isZero(weights, head, id)) {
        ids.add(id);
      } else {
        alike.computeIfAbsent(rounded(row(weights, head, id)), row -> new ArrayList<>()).add(id);
      }
    }
    alike.values().stream().filter(twins -> twins.size() > 1).forEach(ids::addAll);
    return ids.stream().sorted().toList();
  }

  private static TensorInfo named(Checkpoint weights, String end) {
    return weights.tensors().values().stream()
        .filter(t -> t.name().endsWith(end) && t.shape().length == 2 && FLOATS.contains(t.type())).findFirst().orElse(null);
  }

  private static boolean isZero(Checkpoint weights, TensorInfo t, int row) {
    int cols = (int) t.shape()[1];
    int first = Math.min(FIRST, cols);
    return isZero(read(weights, t, row, 0, first)) && isZero(read(weights, t, row, first, cols - first));
  }

  private static boolean isZero(float[] values) {
    for (float value : values) {
      if (!(Math.abs(value) <= ZERO)) {
        return false;
      }
    }
    return true;
  }

  private static float[] row(Checkpoint weights, TensorInfo t, int row) {
    return read(weights, t, row, 0, (int) t.shape()[1]);
  }

  private static float[] read(Checkpoint weights, TensorInfo t, int row, int from, int count) {
    FloatBuffer into = FloatBuffer.allocate(count);
    weights.readFloats(t, row * t.shape()[1] + from, into);
    return into.array();
  }

  private static List<Long> rounded(float[] row) {
    List<Long> all = new ArrayList<>(row.length);
    for (float value : row) {
      all.add(Math.round(value * 1000.0));
    }
    return all;
  }
}
