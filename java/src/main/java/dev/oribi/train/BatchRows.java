package dev.oribi.train;

import dev.oribi.data.MicroBatch;
import dev.oribi.device.Device;
import dev.oribi.model.Decoder.Inputs;
import dev.oribi.program.Emit;
import dev.oribi.program.Run;
import dev.oribi.program.RowBuckets;
import java.util.Arrays;

/**
 * A micro-batch as the device gets it: N tokens, S sequences, T targets. Only rows with a target go through the vocabulary.
 *
 * @param ids token ids, N
 * @param positions places within the sequences, N
 * @param cuSeqlens beginnings of the sequences, and N, S+1
 * @param targetRows rows with a target, T
 * @param labels their targets, T
 * @param longest no sequence is longer
 */
record BatchRows(int[] ids, int[] positions, int[] cuSeqlens, int[] targetRows, int[] labels, long longest) {
  /** A batch as it is. */
  static BatchRows of(MicroBatch batch) {
    long bound = Run.lengthBound(longest(batch), batch.tokens());
    return of(batch, batch.inputIds(), batch.positions(), batch.cuSeqlens(), bound);
  }

  /** A batch rounded up; see {@link RowBuckets}. */
  static BatchRows of(MicroBatch batch, RowBuckets buckets) {
    int n = batch.tokens();
    RowBuckets.Counts counts = buckets.of(n, batch.sequences(), longest(batch));
    int[] ids = Arrays.copyOf(batch.inputIds(), Math.toIntExact(counts.tokens()));
    int[] positions = Arrays.copyOf(batch.positions(), ids.length);
    int[] cuSeqlens = Arrays.copyOf(batch.cuSeqlens(), Math.toIntExact(counts.sequences()) + 1);
    int source = longestOf(batch);
    int begin = batch.cuSeqlens()[source];
    int piece = batch.cuSeqlens()[source + 1] - begin;
    int end = n;
    for (int s = batch.sequences(); s + 1 < cuSeqlens.length; s++) {
      int length = Math.min(piece, ids.length - end);
      System.arraycopy(batch.inputIds(), begin, ids, end, length);
      System.arraycopy(batch.positions(), begin, positions, end, length);
      end += length;
      cuSeqlens[s + 1] = end;
    }
    return of(batch, ids, positions, cuSeqlens, counts.longest());
  }

  private static BatchRows of(MicroBatch batch, int[] ids, int[] positions, int[] cuSeqlens, long longest) {
    int[] rows = new int[batch.tokens()];
    int[] labels = new int[rows.length];
    int targets = 0;
    for (int i = 0; i < rows.length; i++) {
      if (batch.targets()[i] != MicroBatch.IGNORE) {
        rows[targets] = i;
        labels[targets++] = batch.targets()[i];
      }
    }
    return new BatchRows(ids, positions, cuSeqlens, Arrays.copyOf(rows, targets), Arrays.copyOf(labels, targets), longest);
  }

  private static int longest(MicroBatch batch) {
    int s = longestOf(batch);
    return batch.sequences() == 0 ? 0 : batch.cuSeqlens()[s + 1] - batch.cuSeqlens()[s];
  }

  private static int longestOf(MicroBatch batch) {
    int[] at = batch.cuSeqlens();
    int longest = 0;
    for (int s = 1; s < batch.sequences(); s++) {
      longest = at[s + 1] - at[s] > at[longest + 1] - at[longest] ? s : longest;
    }
    return longest;
  }

  int targets() {
    return labels.length;
  }

  /** Copies all of it to the device, and the scale of its gradients. */
  void write(Device device, Inputs inputs, double gradScale) {
    writeRows(device, inputs);
    writeScale(device, inputs, gradScale);
  }

  static void writeScale(Device device, Inputs inputs, double gradScale) {
    device.write(inputs.loss().gradScale().mem(), new float[] {(float) gradScale}, 0, 1);
  }

  /** Copies the rows alone, which may be done as soon as the run before this one is issued. */
  void writeRows(Device device, Inputs inputs) {
    device.write(inputs.ids().mem(), ids, ids.length);
    device.write(inputs.positions().mem(), inputs.places().of(positions, cuSeqlens), positions.length);
    device.write(inputs.cuSeqlens().mem(), cuSeqlens, cuSeqlens.length);
    device.write(inputs.targetRows().mem(), targetRows, targetRows.length);
    device.write(inputs.loss().labels().mem(), labels, labels.length);
  }

  /** The numbers of rows. */
  Run run(Emit.Library library, long targets, long dropoutStream) {
    return new Run(library, ids.length, targets, cuSeqlens.length - 1, longest, dropoutStream);
  }
}
