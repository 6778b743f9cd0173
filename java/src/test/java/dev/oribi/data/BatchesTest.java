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

  /** Every row once; within a pass lengths differ less than if rows came as they are. */
  @Test
  void groupsByLength() {
    Random random = new Random(2);
    Dataset data = rows(IntStream.range(0, 430).mapToObj(i -> 1 + random.nextInt(60)).toList());
    Batches grouped = new Batches(data, 4, 64, false, true, true, 3);
    Batches plain = new Batches(data, 4, 64, false, false, true, 3);
    assertThat(order(grouped, 0).stream().flatMap(List::stream)).hasSize(430).doesNotHaveDuplicates();
    assertThat(spread(data, grouped)).isLessThan(spread(data, plain) / 10);
    assertThat(order(grouped, 0)).isNotEqualTo(order(grouped, 1)).isEqualTo(order(new Batches(data, 4, 64, false, true, true, 3), 0));
    assertThat(epoch(grouped, 0)).allSatisfy(b -> assertThat(b.tokens()).isLessThanOrEqualTo(grouped.maxTokens()));
    List<Integer> firsts = epoch(grouped, 0).stream().limit(20).map(b -> b.tokens()).toList();
    assertThat(firsts).as("the long ones do not come first").isNotEqualTo(firsts.stream().sorted(java.util.Comparator.reverseOrder()).toList());
  }

  private static double spread(Dataset data, Batches batches) {
    return epoch(batches, 0).stream().mapToInt(b -> Arrays.stream(b.rowOfSequence()).map(data::length).max().getAsInt()
        - Arrays.stream(b.rowOfSequence()).map(data::length).min().getAsInt()).average().orElseThrow();
  }

  /** The same bins as the plain way of packing, which looks at every bin for each row. */
  @Test
  void packsAsTheSimpleWayDoes() {
    Random random = new Random(4);
    for (int n : new int[] {1, 2, 17, 300}) {
      List<Integer> lengths = IntStream.range(0, n).mapToObj(i -> 1 + random.nextInt(32)).toList();
      List<Integer> rooms = new java.util.ArrayList<>();
      lengths.stream().sorted(java.util.Comparator.reverseOrder()).forEach(length -> {
        int best = -1;
        for (int b = 0; b < rooms.size(); b++) {
          best = rooms.get(b) >= length && (best < 0 || rooms.get(b) < rooms.get(best)) ? b : best;
        }
        if (best < 0) {
          rooms.add(32 - length);
        } else {
          rooms.set(best, rooms.get(best) - length);
        }
      });
      Batches batches = new Batches(rows(lengths), 1, 32, true, true, 8);
      assertThat(epoch(batches, 0).stream().map(b -> 32 - b.tokens()).sorted().toList()).isEqualTo(rooms.stream().sorted().toList());
      assertThat(batches.bins(0)).isEqualTo(rooms.size());
    }
  }

  @Test
  void refusesWhatCannotBe() {
    assertThatThrownBy(() -> new Batches(rows(List.of(9)), 1, 8, true, false, 0)).hasMessageContaining("r:0 has 9 tokens, more than the maximum length 8");
    assertThatThrownBy(() -> new Batches(rows(List.of(9)), 0, 8, true, false, 0)).hasMessageContaining("batch size is 0");
    assertThatThrownBy(() -> new Row(new int[2], new int[3], "x:1", false)).hasMessageContaining("x:1: 2 tokens but 3 labels");
  }
}
