package dev.oribi.data;

import dev.oribi.OribiException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;

/**
 * The deterministic order of a run. An epoch is a list of micro-batches that depends on nothing but the dataset and the
 * constructor's arguments, so that a resumed run goes on in the middle of one.
 *
 * <p>Without packing a micro-batch holds {@code batchSize} rows. With packing it holds {@code batchSize} bins of at most
 * {@code maxSeqLength} tokens each, filled with whole rows: the longest rows first, each into the bin that it fills best.
 * A row never sees its neighbours, as positions and {@code cuSeqlens} restart with each. The last micro-batch may be smaller.
 * Grouped by length, a micro-batch without packing holds rows of nearly the same length: of every {@code 50 * batchSize} rows in
 * the epoch's order the longest together, then the next ones; the micro-batches come in any order.
 *
 * <p>Safe for use by several threads. The plan of the last epoch asked for is kept.
 */
public final class Batches {
  /** Micro-batches among whose rows lengths are sorted: enough that they are nearly equal, few enough that the order stays random. */
  private static final int GROUPED = 50;
  private static final int NO_BIN = -1;

  private final Dataset data;
  private final int batchSize;
  private final int maxSeqLength;
  private final boolean packing;
  private final boolean shuffle;
  private final long seed;
  private final boolean groupByLength;
  private final int[] sortedLengths;
  private volatile Plan plan;

  private record Plan(int epoch, List<int[]> microBatches, int bins) {}

  public Batches(Dataset data, int batchSize, int maxSeqLength, boolean packing, boolean shuffle, long seed) {
    this(data, batchSize, maxSeqLength, packing, false, shuffle, seed);
  }

  /** @param groupByLength whether micro-batches hold rows of nearly the same length; of no effect with packing */
  public Batches(Dataset data, int batchSize, int maxSeqLength, boolean packing, boolean groupByLength, boolean shuffle, long seed) {
    if (batchSize < 1) {
      throw new OribiException("The batch size is " + batchSize + ": it must be at least 1.");
    }
    this.data = data;
    this.batchSize = batchSize;
    this.maxSeqLength = maxSeqLength;
    this.packing = packing;
    this.shuffle = shuffle;
    this.seed = seed;
    this.groupByLength = groupByLength && !packing;
    this.sortedLengths = new int[data.size()];
    for (int i = 0; i < data.size(); i++) {
      sortedLengths[i] = data.length(i);
      if (data.length(i) > maxSeqLength) {
        throw new OribiException("The row " + data.row(i).source() + " has " + data.length(i)
            + " tokens, more than the maximum length " + maxSeqLength + ": raise --max-seq-length or shorten the row.");
      }
    }
    Arrays.sort(sortedLengths);
  }

  /** Micro-batches of an epoch. */
  public int microBatches(int epoch) {
    return packing ? plan(epoch).microBatches().size() : (int) (((long) data.size() + batchSize - 1) / batchSize);
  }

  /** One micro-batch of an epoch; equal for equal arguments. */
  public MicroBatch get(int epoch, int index) {
    return MicroBatch.of(data, plan(epoch).microBatches().get(index));
  }

  /** Tokens that no micro-batch of any epoch exceeds: what memory has to be planned for. */
  public int maxTokens() {
    int[] lengths = sortedLengths;
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
    for (int length : sortedLengths) {
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
    int[] lengths = sortedLengths;
    return lengths.length == 0 ? 0 : lengths[lengths.length - 1];
  }

  /** Sequences that packing fills in an epoch; without packing the rows. */
  public int bins(int epoch) {
    return plan(epoch).bins();
  }

  /** Part of the bins that tokens fill, between 0 and 1; without packing each row counts as one bin. */
  public double fillRate(int epoch) {
    long total = Arrays.stream(sortedLengths).asLongStream().sum();
    return data.size() == 0 ? 0 : (double) total / ((long) plan(epoch).bins() * maxSeqLength);
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
    int[] order = IntStream.range(0, data.size()).toArray();
    if (shuffle) {
      shuffle(order, random);
    }
    if (packing) {
      List<int[]> bins = pack(order);
      if (shuffle) {
        // Packing sorts by length; the bins must not come in that order.
        Collections.shuffle(bins, random);
      }
      return new Plan(epoch, group(bins), bins.size());
    }
    List<int[]> microBatches = groupByLength ? byLength(order) : slices(order, batchSize);
    if (groupByLength && shuffle) {
      Collections.shuffle(microBatches, random);
    }
    return new Plan(epoch, microBatches, order.length);
  }

  private static void shuffle(int[] values, Random random) {
    for (int i = values.length; i > 1; i--) {
      int j = random.nextInt(i);
      int value = values[i - 1];
      values[i - 1] = values[j];
      values[j] = value;
    }
  }

  private static List<int[]> slices(int[] order, int size) {
    List<int[]> slices = new ArrayList<>();
    for (int begin = 0; begin < order.length; begin += size) {
      slices.add(Arrays.copyOfRange(order, begin, Math.min(begin + size, order.length)));
    }
    return slices;
  }

  private List<int[]> byLength(int[] order) {
    List<int[]> microBatches = new ArrayList<>();
    for (int[] some : slices(order, Math.multiplyExact(GROUPED, batchSize))) {
      microBatches.addAll(slices(longestFirst(some), batchSize));
    }
    return microBatches;
  }

  /** Rows of equal length keep their order. */
  private int[] longestFirst(int[] rows) {
    int[] count = new int[maxSeqLength + 2];
    for (int row : rows) {
      count[maxSeqLength - data.length(row) + 1]++;
    }
    for (int i = 1; i < count.length; i++) {
      count[i] += count[i - 1];
    }
    int[] sorted = new int[rows.length];
    for (int row : rows) {
      sorted[count[maxSeqLength - data.length(row)]++] = row;
    }
    return sorted;
  }

  /** Best fit, longest first. The bins stand in the order of their first rows, the rows of a bin in the order given. */
  private List<int[]> pack(int[] order) {
    int[] binOf = new int[order.length];
    int[] below = new int[order.length];
    int[] last = new int[maxSeqLength + 1];
    BitSet rooms = new BitSet(maxSeqLength + 1);
    int bins = 0;
    for (int row : longestFirst(order)) {
      int length = data.length(row);
      int room = rooms.nextSetBit(length);
      int bin = room < 0 ? bins++ : last[room];
      if (room >= 0) {
        last[room] = below[bin];
        rooms.set(room, last[room] != NO_BIN);
      }
      int left = (room < 0 ? maxSeqLength : room) - length;
      // Of bins with the same room left the one that came last is filled first.
      below[bin] = rooms.get(left) ? last[left] : NO_BIN;
      last[left] = bin;
      rooms.set(left);
      binOf[row] = bin;
    }
    return contents(order, binOf, bins);
  }

  private static List<int[]> contents(int[] order, int[] binOf, int bins) {
    int[] size = new int[bins];
    for (int bin : binOf) {
      size[bin]++;
    }
    int[][] rows = new int[bins][];
    List<int[]> inOrder = new ArrayList<>(bins);
    for (int row : order) {
      int bin = binOf[row];
      if (rows[bin] == null) {
        rows[bin] = new int[size[bin]];
        inOrder.add(rows[bin]);
      }
      rows[bin][rows[bin].length - size[bin]--] = row;
    }
    return inOrder;
  }

  private List<int[]> group(List<int[]> bins) {
    List<int[]> microBatches = new ArrayList<>();
    for (int begin = 0; begin < bins.size(); begin += batchSize) {
      microBatches.add(bins.subList(begin, Math.min(begin + batchSize, bins.size())).stream()
          .flatMapToInt(Arrays::stream).toArray());
    }
    return List.copyOf(microBatches);
  }
}
