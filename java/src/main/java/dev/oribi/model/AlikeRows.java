package dev.oribi.model;

import dev.oribi.io.Checkpoint;
import dev.oribi.io.TensorInfo;
import dev.oribi.io.TensorType;
import java.nio.FloatBuffer;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.stream.IntStream;

/**
 * Tokens that an output head cannot tell apart: their rows point the same way, as those of tokens do that never occurred in
 * training, because every step pushed all of them the same way. An adapter below such a head cannot teach a model to write one
 * of them and not another.
 *
 * <p>In the tiny model 471 of 2,048 rows have another with a cosine above 0.995, one more has above 0.98, and no other above 0.97.
 */
public final class AlikeRows {
  private static final double COSINE = 0.98;

  /** Square of the distance of unit vectors with that cosine. */
  private static final float NEAR = (float) (2 - 2 * COSINE);

  private static final Set<TensorType> FLOATS = Set.of(TensorType.F16, TensorType.BF16, TensorType.F32, TensorType.F64);

  private AlikeRows() {}

  /**
   * Those of {@code ids} whose rows are like that of another one of them, in the order given; none if the head is not stored as
   * floats. Takes time with the square of their number, though most pairs differ within their first channels.
   */
  public static List<Integer> find(Checkpoint weights, List<Integer> ids) {
    TensorInfo head = named(weights, "lm_head.weight");
    TensorInfo rows = head != null ? head : named(weights, "embed_tokens.weight");
    if (rows == null) {
      return List.of();
    }
    int cols = Math.toIntExact(rows.shape()[1]);
    List<Integer> known = ids.stream().filter(id -> id >= 0 && id < rows.shape()[0]).toList();
    float[][] units = known.stream().map(id -> unit(weights, rows, id, cols)).toArray(float[][]::new);
    return IntStream.range(0, units.length).parallel()
        .filter(i -> IntStream.range(0, units.length).anyMatch(j -> j != i && near(units[i], units[j])))
        .mapToObj(known::get).toList();
  }

  private static TensorInfo named(Checkpoint weights, String end) {
    return weights.tensors().values().stream()
        .filter(t -> t.name().endsWith(end) && t.shape().length == 2 && FLOATS.contains(t.type())).findFirst().orElse(null);
  }

  /** A row of length 1; one of zeros stays one, and is like every other of them. */
  private static float[] unit(Checkpoint weights, TensorInfo t, int row, int cols) {
    float[] values = new float[cols];
    weights.readFloats(t, (long) row * cols, FloatBuffer.wrap(values));
    double square = 0;
    for (float v : values) {
      square += (double) v * v;
    }
    if (square > 0) {
      float scale = (float) (1 / Math.sqrt(square));
      for (int i = 0; i < cols; i++) {
        values[i] *= scale;
      }
    } else {
      Arrays.fill(values, 0);
    }
    return values;
  }

  private static boolean near(float[] a, float[] b) {
    float square = 0;
    for (int i = 0; i < a.length; i++) {
      float d = a[i] - b[i];
      square += d * d;
      if (square > NEAR) {
        return false;
      }
    }
    return true;
  }
}
