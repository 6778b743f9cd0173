package dev.oribi.data;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import net.jqwik.api.constraints.IntRange;
import net.jqwik.api.constraints.Size;

/** What holds for every dataset. */
class BatchesPropertyTest {
  private static final int MAX_LENGTH = 32;

  @Property(tries = 300)
  void everyRowComesOnceAndWhole(@ForAll @Size(min = 1, max = 60) List<@IntRange(min = 1, max = MAX_LENGTH) Integer> lengths,
      @ForAll @IntRange(min = 1, max = 5) int batchSize, @ForAll boolean packing, @ForAll boolean shuffle, @ForAll long seed) {
    Dataset data = BatchesTest.rows(lengths);
    Batches batches = new Batches(data, batchSize, MAX_LENGTH, packing, shuffle, seed);
    List<Integer> seen = new ArrayList<>();
    for (MicroBatch batch : BatchesTest.epoch(batches, 3)) {
      check(data, batch);
      Arrays.stream(batch.rowOfSequence()).forEach(seen::add);
      assertThat(batch.tokens()).isLessThanOrEqualTo(batches.maxTokens());
      assertThat(batch.sequences()).isLessThanOrEqualTo(batches.maxSequences());
    }
    assertThat(seen).hasSize(data.size()).doesNotHaveDuplicates();
    assertThat(batches.maxSequenceLength()).isEqualTo(lengths.stream().mapToInt(i -> i).max().orElseThrow());
    assertThat(batches.fillRate(3)).isGreaterThan(0).isLessThanOrEqualTo(1);
  }

  /** The arrays say what the rows say, and nothing of one row reaches another. */
  private static void check(Dataset data, MicroBatch batch) {
    assertThat(batch.cuSeqlens()).hasSize(batch.sequences() + 1).startsWith(0).endsWith(batch.tokens());
    int targets = 0;
    for (int s = 0; s < batch.sequences(); s++) {
      Row row = data.row(batch.rowOfSequence()[s]);
      int begin = batch.cuSeqlens()[s];
      assertThat(batch.cuSeqlens()[s + 1] - begin).isEqualTo(row.length());
      for (int i = 0; i < row.length(); i++) {
        assertThat(batch.inputIds()[begin + i]).isEqualTo(row.inputIds()[i]);
        assertThat(batch.positions()[begin + i]).isEqualTo(i);
        assertThat(batch.targets()[begin + i]).isEqualTo(i + 1 < row.length() ? row.labels()[i + 1] : MicroBatch.IGNORE);
      }
      targets += row.targetTokens();
    }
    assertThat(batch.targetTokens()).isEqualTo(targets);
  }

  @Property(tries = 200)
  void equalArgumentsGiveEqualBatches(@ForAll @Size(min = 1, max = 60) List<@IntRange(min = 1, max = MAX_LENGTH) Integer> lengths,
      @ForAll @IntRange(min = 1, max = 4) int batchSize, @ForAll boolean packing, @ForAll long seed) {
    Batches first = new Batches(BatchesTest.rows(lengths), batchSize, MAX_LENGTH, packing, true, seed);
    List<MicroBatch> second = BatchesTest.epoch(first, 2);
    BatchesTest.epoch(first, 0);
    Batches resumed = new Batches(BatchesTest.rows(lengths), batchSize, MAX_LENGTH, packing, true, seed);
    for (int i = second.size() / 2; i < second.size(); i++) {
      assertThat(resumed.get(2, i)).usingRecursiveComparison().isEqualTo(second.get(i));
      assertThat(first.get(2, i)).usingRecursiveComparison().isEqualTo(second.get(i));
    }
  }

  @Property(tries = 100)
  void binsHoldWholeRowsUpToTheMaximumAndAreFewerThanTwiceTheBest(
      @ForAll @Size(min = 1, max = 200) List<@IntRange(min = 1, max = MAX_LENGTH) Integer> lengths, @ForAll boolean shuffle) {
    Batches batches = new Batches(BatchesTest.rows(lengths), 1, MAX_LENGTH, true, shuffle, 1);
    int total = lengths.stream().mapToInt(i -> i).sum();
    int bins = batches.microBatches(0);
    assertThat(BatchesTest.epoch(batches, 0)).allSatisfy(batch -> assertThat(batch.tokens()).isLessThanOrEqualTo(MAX_LENGTH));
    // First or best fit, longest first, uses at most 11/9 of the best number of bins and one more.
    int lowerBound = Math.max((total + MAX_LENGTH - 1) / MAX_LENGTH, (int) lengths.stream().filter(n -> 2 * n > MAX_LENGTH).count());
    assertThat(bins).isGreaterThanOrEqualTo(lowerBound).isLessThanOrEqualTo(2 * (total / MAX_LENGTH) + 1);
    assertThat(batches.fillRate(0)).isEqualTo((double) total / (bins * MAX_LENGTH));
  }
}
