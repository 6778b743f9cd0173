package dev.oribi.data;

import dev.oribi.OribiException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Comparator;
import java.util.List;
import java.util.Random;
import java.util.TreeMap;

/**
 * The deterministic order of a run. An epoch is a list of micro-batches that depends on nothing but the dataset and the
 * constructor's arguments, so that a resumed run goes on in the middle of one.
 *
 * <p>Without packing a micro-batch holds {@code batchSize} rows. With packing it holds {@code batchSize} bins of at most
 * {@code maxSeqLength} tokens each, filled with whole rows: the longest rows first, each into the bin that it fills best.
 * A row never sees its neighbours, as positions and {@code cuSeqlens} restart with each. The last micro-batch may be smaller.
 *
 * <p>Safe for use by several threads. The plan of the last epoch asked for is kept.
 */
public final class Batches {
  private final Dataset data;
  private final int batchSize;
  private final int maxSeqLength;
  private final boolean packing;
  private final boolean shuffle;
  private final long seed;
  private volatile Plan plan;

  private record Plan(int epoch, List<int[]> microBatches, int bins) {}

  public Batches(Dataset data, int batchSize, int maxSeqLength, boolean packing, boolean shuffle, long seed) {
    if (batchSize < 1) {
      throw new OribiException("The batch size is " + batchSize + ": it must be at least 1.");
    }
    this.data = data;
    this.batchSize = batchSize;
    this.maxSeqLength = maxSeqLength;
    this.packing = packing;
    this.shuffle = shuffle;
    this.seed = seed;
    for (int i = 0; i < data.size(); i++) {
      if (data.row(i).length() > maxSeqLength) {
        throw new OribiException("The row " + data.row(i).source() + " has " + data.row(i).length()
            + " tokens, more than the maximum length " + maxSeqLength + ": raise --max-seq-length or shorten the row.");
      }
    }
  }

  /** Micro-batches of an epoch. */
  public int microBatches(int epoch) {
    return plan(epoch).microBatches().size();
  }

  /** One micro-batch of an epoch; equal for equal arguments. */
  public MicroBatch get(int epoch, int index) {
    return MicroBatch.of(data, plan(epoch).microBatches().get(index));
  }

  /** Tokens that no micro-batch of any epoch exceeds: what memory has to be planned for. */
  public int maxTokens() {
    int[] lengths = sortedLengths();
    long total = Arrays.stream(lengths).asLongStream().sum();
    if (packing) {
      return Math.toIntExact(Math.min(total, (long) batchSize * maxSeqLength));
    }
    long longest = 0;
    for (int i = Math.max(0, lengths.length - batchSize); i < lengths.length; i++) {
      longest += lengths[i];
    }
    return Math.toIntExact(longest);
  }

  /** Sequences that no micro-batch of any epoch exceeds. */
  public int maxSequences() {
    if (!packing) {
      return Math.min(batchSize, data.size());
    }
    long room = (long) batchSize * maxSeqLength;
    int n = 0;
    for (int length : sortedLengths()) {
      room -= length;
      if (room < 0) {
        break;
      }
      n++;
    }
    return n;
  }

  /** Length of the longest sequence. */
  public int maxSequenceLength() {
    int[] lengths = sortedLengths();
    return lengths.length == 0 ? 0 : lengths[lengths.length - 1];
  }

  /** Part of the bins that tokens fill, between 0 and 1; without packing each row counts as one bin. */
  public double fillRate(int epoch) {
    long total = Arrays.stream(sortedLengths()).asLongStream().sum();
    return data.size() == 0 ? 0 : (double) total / ((long) plan(epoch).bins() * maxSeqLength);
  }

  private int[] sortedLengths() {
    int[] lengths = new int[data.size()];
    Arrays.setAll(lengths, i -> data.row(i).length());
    Arrays.sort(lengths);
    return lengths;
  }

  private Plan plan(int epoch) {
    Plan known = plan;
    if (known == null || known.epoch() != epoch) {
      known = makePlan(epoch);
      plan = known;
    }
    return known;
  }

  private Plan makePlan(int epoch) {
    // A random number for each epoch, not seed + epoch: epoch 1 of seed 0 is not epoch 0 of seed 1.
    Random random = new Random(new Random(seed).nextLong() ^ (0x9E3779B97F4A7C15L * (epoch + 1)));
    List<Integer> order = new ArrayList<>(data.size());
    for (int i = 0; i < data.size(); i++) {
      order.add(i);
    }
    if (shuffle) {
      Collections.shuffle(order, random);
    }
    List<List<Integer>> bins = new ArrayList<>();
    if (packing) {
      bins = pack(order);
      if (shuffle) {
        // Packing sorts by length; the bins must not come in that order.
        Collections.shuffle(bins, random);
      }
    } else {
      for (Integer row : order) {
        bins.add(List.of(row));
      }
    }
    return new Plan(epoch, group(bins), bins.size());
  }

  /** Best fit, longest first. Rows of equal length keep their order; a bin's rows stand in the order given. */
  private List<List<Integer>> pack(List<Integer> order) {
    int[] rank = new int[order.size()];
    for (int i = 0; i < rank.length; i++) {
      rank[order.get(i)] = i;
    }
    List<Integer> longestFirst = new ArrayList<>(order);
    longestFirst.sort(Comparator.comparingInt((Integer row) -> -data.row(row).length()));
    List<List<Integer>> bins = new ArrayList<>();
    TreeMap<Integer, List<List<Integer>>> byRoom = new TreeMap<>();
    for (Integer row : longestFirst) {
      int length = data.row(row).length();
      Integer room = byRoom.ceilingKey(length);
      List<Integer> bin = room == null ? new ArrayList<>() : removeLast(byRoom, room);
      if (room == null) {
        bins.add(bin);
      }
      bin.add(row);
      byRoom.computeIfAbsent((room == null ? maxSeqLength : room) - length, r -> new ArrayList<>()).add(bin);
    }
    bins.forEach(bin -> bin.sort(Comparator.comparingInt(row -> rank[row])));
    bins.sort(Comparator.comparingInt(bin -> rank[bin.get(0)]));
    return bins;
  }

  private static List<Integer> removeLast(TreeMap<Integer, List<List<Integer>>> byRoom, Integer room) {
    List<List<Integer>> bins = byRoom.get(room);
    List<Integer> bin = bins.remove(bins.size() - 1);
    if (bins.isEmpty()) {
      byRoom.remove(room);
    }
    return bin;
  }

  private List<int[]> group(List<List<Integer>> bins) {
    List<int[]> microBatches = new ArrayList<>();
    for (int begin = 0; begin < bins.size(); begin += batchSize) {
      microBatches.add(bins.subList(begin, Math.min(begin + batchSize, bins.size())).stream()
          .flatMap(List::stream).mapToInt(Integer::intValue).toArray());
    }
    return List.copyOf(microBatches);
  }
}
