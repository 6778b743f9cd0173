package dev.oribi.data;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

class BatchesTest {
  static Dataset rows(List<Integer> lengths) {
    Random random = new Random(5);
    return Dataset.of(IntStream.range(0, lengths.size()).mapToObj(i -> {
      int[] ids = random.ints(lengths.get(i), 0, 1000).toArray();
      int[] labels = Arrays.stream(ids).map(id -> random.nextBoolean() ? id : MicroBatch.IGNORE).toArray();
      return new Row(ids, labels, "r:" + i, false);
    }).toList());
  }

  static List<MicroBatch> epoch(Batches batches, int epoch) {
    return IntStream.range(0, batches.microBatches(epoch)).mapToObj(i -> batches.get(epoch, i)).toList();
  }

  private static List<List<Integer>> order(Batches batches, int epoch) {
    return epoch(batches, epoch).stream().map(b -> Arrays.stream(b.rowOfSequence()).boxed().toList()).toList();
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
