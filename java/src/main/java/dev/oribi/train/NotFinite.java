package dev.oribi.train;

import dev.oribi.data.Dataset;
import dev.oribi.data.MicroBatch;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

/** Finds the sample whose loss is no finite number. */
final class NotFinite {
  private static final int MOST_NAMED = 3;

  private NotFinite() {}

  /**
   * The place of the first row with a target whose loss is not finite; of all rows if each single loss is finite.
   *
   * @param losses of the targets of the micro-batch, in their order
   */
  static String sample(MicroBatch batch, float[] losses, Dataset data) {
    int target = 0;
    for (int sequence = 0; sequence < batch.rowOfSequence().length; sequence++) {
      for (int i = batch.cuSeqlens()[sequence]; i < batch.cuSeqlens()[sequence + 1]; i++) {
        if (batch.targets()[i] != MicroBatch.IGNORE && !Float.isFinite(losses[target++])) {
          return "the sample " + data.row(batch.rowOfSequence()[sequence]).source();
        }
      }
    }
    return samples(List.of(batch), data);
  }

  /** The places of the first rows of these micro-batches. */
  static String samples(List<MicroBatch> batches, Dataset data) {
    int[] rows = batches.stream().flatMapToInt(batch -> IntStream.of(batch.rowOfSequence())).toArray();
    String named = IntStream.of(rows).limit(MOST_NAMED).mapToObj(row -> data.row(row).source())
        .collect(Collectors.joining(", "));
    return rows.length <= MOST_NAMED ? "the samples " + named
        : "one of " + rows.length + " samples (" + named + ", …)";
  }
}
