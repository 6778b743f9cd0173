package dev.oribi.data;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import net.jqwik.api.constraints.IntRange;
import net.jqwik.api.constraints.Size;
import org.junit.jupiter.api.Test;

class BatchesTest {
  private static final int MAX_LENGTH = 32;

  private static Dataset rows(List<Integer> lengths) {
    Random random = new Random(5);
    return Dataset.of(IntStream.range(0, lengths.size()).mapToObj(i -> {
      int[] ids = random.ints(lengths.get(i), 0, 1000).toArray();
      int[] labels = Arrays.stream(ids).map(id -> random.nextBoolean() ? id : MicroBatch.IGNORE).toArray();
      return new Row(ids, labels, "r:" + i, false);
    }).toList());
  }

  private static List<MicroBatch> epoch(Batches batches, int epoch) {
    return IntStream.range(0, batches.microBatches(epoch)).mapToObj(i -> batches.get(epoch, i)).toList();
  }

  private static List<List<Integer>> order(Batches batches, int epoch) {
    return epoch(batches, epoch).stream().map(b -> Arrays.stream(b.rowOfSequence()).boxed().toList()).toList();
  }

  @Property(tries = 300)
  void everyRowComesOnceAndWhole(@ForAll @Size(min = 1, max = 60) List<@IntRange(min = 1, max = MAX_LENGTH) Integer> lengths,
      @ForAll @IntRange(min = 1, max = 5) int batchSize, @ForAll boolean packing, @ForAll boolean shuffle, @ForAll long seed) {
    Dataset data = rows(lengths);
    Batches batches = new Batches(data, batchSize, MAX_LENGTH, packing, shuffle, seed);
    List<Integer> seen = new ArrayList<>();
    for (MicroBatch batch : epoch(batches, 3)) {
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
    Batches first = new Batches(rows(lengths), batchSize, MAX_LENGTH, packing, true, seed);
    List<MicroBatch> second = epoch(first, 2);
    epoch(first, 0);
    Batches resumed = new Batches(rows(lengths), batchSize, MAX_LENGTH, packing, true, seed);
    for (int i = second.size() / 2; i < second.size(); i++) {
      assertThat(resumed.get(2, i)).usingRecursiveComparison().isEqualTo(second.get(i));
      assertThat(first.get(2, i)).usingRecursiveComparison().isEqualTo(second.get(i));
    }
  }

  @Property(tries = 100)
  void binsHoldWholeRowsUpToTheMaximumAndAreFewerThanTwiceTheBest(
      @ForAll @Size(min = 1, max = 200) List<@IntRange(min = 1, max = MAX_LENGTH) Integer> lengths, @ForAll boolean shuffle) {
    Batches batches = new Batches(rows(lengths), 1, MAX_LENGTH, true, shuffle, 1);
    int total = lengths.stream().mapToInt(i -> i).sum();
    int bins = batches.microBatches(0);
    assertThat(epoch(batches, 0)).allSatisfy(batch -> assertThat(batch.tokens()).isLessThanOrEqualTo(MAX_LENGTH));
    // First or best fit, longest first, uses at most 11/9 of the best number of bins and one more.
    int lowerBound = Math.max((total + MAX_LENGTH - 1) / MAX_LENGTH, (int) lengths.stream().filter(n -> 2 * n > MAX_LENGTH).count());
    assertThat(bins).isGreaterThanOrEqualTo(lowerBound).isLessThanOrEqualTo(2 * (total / MAX_LENGTH) + 1);
    assertThat(batches.fillRate(0)).isEqualTo((double) total / (bins * MAX_LENGTH));
  }

  @Test
  void ordersWithoutShuffleAsTheRowsCome() {
    Dataset data = rows(List.of(5, 1, 9, 3, 7));
    assertThat(order(new Batches(data, 2, 10, false, false, 1), 0)).isEqualTo(List.of(List.of(0, 1), List.of(2, 3), List.of(4)));
    assertThat(order(new Batches(data, 1, 10, true, false, 1), 0)).isEqualTo(List.of(List.of(0), List.of(1, 2), List.of(3, 4)));
    assertThat(order(new Batches(data, 2, 10, true, false, 1), 4)).isEqualTo(List.of(List.of(0, 1, 2), List.of(3, 4)));
  }

  @Test
  void shufflesAnewInEachEpochAndForEachSeed() {
    Dataset data = rows(IntStream.range(0, 40).mapToObj(i -> 4).toList());
    for (boolean packing : new boolean[] {false, true}) {
      Batches batches = new Batches(data, 1, 8, packing, true, 1);
      assertThat(order(batches, 0)).isNotEqualTo(order(batches, 1));
      assertThat(order(batches, 0)).isNotEqualTo(order(new Batches(data, 1, 8, packing, true, 2), 0));
      assertThat(order(batches, 1)).as("an epoch of one seed is not another of the next").isNotEqualTo(order(new Batches(data, 1, 8, packing, true, 2), 0));
    }
  }

  @Test
  void anExampleByHand() {
    Dataset data = Dataset.of(List.of(
        new Row(new int[] {1, 2, 3}, new int[] {-100, 2, 3}, "a:1", false), new Row(new int[] {4, 5}, new int[] {4, -100}, "a:2", false)));
    MicroBatch batch = new Batches(data, 2, 8, true, false, 0).get(0, 0);
    assertThat(batch.inputIds()).containsExactly(1, 2, 3, 4, 5);
    assertThat(batch.targets()).containsExactly(2, 3, -100, -100, -100);
    assertThat(batch.positions()).containsExactly(0, 1, 2, 0, 1);
    assertThat(batch.cuSeqlens()).containsExactly(0, 3, 5);
    assertThat(batch.rowOfSequence()).containsExactly(0, 1);
    assertThat(batch.targetTokens()).isEqualTo(2);
  }

  @Test
  void refusesWhatCannotBe() {
    assertThatThrownBy(() -> new Batches(rows(List.of(9)), 1, 8, true, false, 0)).hasMessageContaining("r:0 has 9 tokens, more than the maximum length 8");
    assertThatThrownBy(() -> new Batches(rows(List.of(9)), 0, 8, true, false, 0)).hasMessageContaining("batch size is 0");
    assertThatThrownBy(() -> new Row(new int[2], new int[3], "x:1", false)).hasMessageContaining("x:1: 2 tokens but 3 labels");
  }
}
