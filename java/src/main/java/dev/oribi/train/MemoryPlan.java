package dev.oribi.train;

import dev.oribi.OribiException;
import dev.oribi.layer.Saving;
import dev.oribi.layer.Saving.How;
import dev.oribi.layer.Saving.Tensor;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.EnumMap;
import java.util.EnumSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;

/**
 * Decides what a step keeps, makes again, or sends to the host's memory, so that it fits a budget and takes the least time.
 *
 * <p>The choices are lined up once as a list of moves, the best saving for a microsecond first; a plan is a prefix of the list,
 * and the one taken is the shortest that fits. Bytes are exact: each prefix that is looked at is written out as a program and
 * placed. Microseconds come from a {@link Calibration}. The order:
 *
 * <ol>
 *   <li>f is made again in the pass that reads gu anyway; then x1 and x2, and q and k after their norm, each one pass over
 *       memory. Where attention's output has a norm of its own, so is r1.
 *   <li>Tensors go to the host and come back, as many as the bus carries while a layer computes. That costs no time.
 *   <li>The second copies of weights in 4 bits are given up; those in FP8, which save more, after what is made again.
 *   <li>The embedding's table lies in the host's memory; its rows are read from there.
 *   <li>What is left is made again by products and attention, the best first.
 *   <li>The MLP is made in tiles of tokens, and logits in smaller chunks; what was on the host but for r0 is made again too.
 * </ol>
 */
public final class MemoryPlan {
  /**
   * One way to run a step.
   *
   * @param savings of each layer
   * @param copies layers, from the last, whose weights in 4 bits are kept in 16 bits or FP8 too
   * @param prefetch the other weights in 4 bits are dequantized beside the product before
   */
  public record Choice(List<Saving> savings, int copies, boolean embeddingOnHost, boolean prefetch, long logitsBudget) {
    private Choice with(int layer, Tensor t, How how) {
      List<Saving> changed = new ArrayList<>(savings);
      changed.set(layer, changed.get(layer).with(t, how));
      return new Choice(changed, copies, embeddingOnHost, prefetch, logitsBudget);
    }

    /** The same for the first {@code count} layers of the model, the last of which stays the last. */
    public Choice firstLayers(int count) {
      List<Saving> first = new ArrayList<>(savings.subList(0, count - 1));
      first.add(savings.get(savings.size() - 1));
      return new Choice(first, Math.min(count, copies), embeddingOnHost, prefetch, logitsBudget);
    }

    private Choice tiled(long rows) {
      List<Saving> tiled = savings.stream().map(s -> s.withTileRows(rows)).toList();
      return new Choice(tiled, copies, embeddingOnHost, prefetch, logitsBudget);
    }

    /** In a few words, such as "f rebuilt in 31 layers, r0 on the host in 31". */
    public String describe(int layers) {
      return describe(layers, false);
    }

    /** {@code fp8}: the second copies of weights in 4 bits are in FP8. */
    public String describe(int layers, boolean fp8) {
      List<String> parts = new ArrayList<>();
      for (Tensor t : Tensor.values()) {
        for (How how : List.of(How.REBUILD, How.OFFLOAD)) {
          long count = savings.stream().filter(s -> s.of(t) == how).count();
          if (count > 0) {
            parts.add(t.name().toLowerCase(Locale.ROOT) + (how == How.REBUILD ? " rebuilt" : " on the host") + in(count, layers));
          }
        }
      }
      if (copies > 0) {
        parts.add((fp8 ? "weights in FP8 too" : "weights in 16 bits too") + in(copies, layers));
      }
      if (embeddingOnHost) {
        parts.add("embedding on the host");
      }
      long tile = savings.get(0).tileRows();
      if (tile > 0) {
        parts.add("MLP in tiles of " + tile + " tokens");
      }
      return parts.isEmpty() ? "everything kept" : String.join(", ", parts);
    }

    private static String in(long count, int layers) {
      return count == layers ? "" : " in " + count + " of " + layers + " layers";
    }
  }

  /**
   * What a choice takes: bytes exactly, seconds as predicted (NaN where nothing was calibrated).
   *
   * @param seconds of a micro-batch and an update
   * @param forwardSeconds of the forward pass, up to the loss
   */
  public record Point(Choice choice, long bytes, long hostBytes, double seconds, double forwardSeconds) {}

  /**
   * What there is to choose from.
   *
   * @param frozen4Bit weights are in 4 bits and could be kept in 16 bits or FP8 too
   * @param device has memory of its own, so that something can be sent to the host
   * @param embedding its table is frozen and nothing else uses it
   * @param hostBudget bytes of the host's memory that may be pinned
   * @param tensors those that the model's layers save
   */
  record Options(
      int layers, long tokens, boolean frozen4Bit, boolean device, boolean embedding, boolean prefetch, long logitsBudget,
      long hostBudget, Set<Tensor> tensors) {
    /** For layers without norms of heads and outputs. */
    Options(
        int layers, long tokens, boolean frozen4Bit, boolean device, boolean embedding, boolean prefetch, long logitsBudget,
        long hostBudget) {
      this(
          layers, tokens, frozen4Bit, device, embedding, prefetch, logitsBudget, hostBudget,
          EnumSet.complementOf(EnumSet.of(Tensor.QK, Tensor.Y, Tensor.D)));
    }
  }

  /** What a choice would take. */
  interface Estimate {
    /** Writes the choice out and places it. */
    Point of(Choice choice);

    /** From here on choices have times. */
    void calibrate();

    /** Bytes of a tensor of one layer. */
    long bytes(Tensor t);

    /** Bytes a second between the host and the device. */
    double link();
  }

  /** Of the time of a layer's forward pass, what copies may take: the rest is for what the calibration cannot see. */
  private static final double LINK_SHARE = 0.9;

  /** A tile of fewer rows wastes the products' width and dequantizes the weights too often. */
  private static final long LEAST_TILE = 2048;

  /** More tiles make a program longer and not smaller: the rest of a layer is larger than one of so many. */
  private static final long MOST_TILES = 8;

  private static final long LARGEST_TILE = 8192;
  private static final long LEAST_LOGITS = 32L << 20;

  private final Options options;
  private final Estimate estimate;
  private List<Choice> line;
  private long hostBytes;

  MemoryPlan(Options options, Estimate estimate) {
    this.options = options;
    this.estimate = estimate;
  }

  /** Everything kept: the fastest. */
  Choice everything() {
    return new Choice(
        Collections.nCopies(options.layers, Saving.KEEP), options.frozen4Bit ? options.layers : 0, false,
        options.frozen4Bit && options.prefetch, options.logitsBudget);
  }

  /** Gradient checkpointing as others know it: only the inputs of the layers are kept. */
  Choice checkpointed() {
    return new Choice(
        Collections.nCopies(options.layers, Saving.REBUILD), 0, false, options.frozen4Bit && options.prefetch, options.logitsBudget);
  }

  /**
   * The smallest plan there is, whatever it costs.
   *
   * @param onHost layers whose input goes to the host
   */
  public static Choice smallest(int layers, long tokens, int onHost, boolean embeddingOnHost) {
    long tile = Math.max(LEAST_TILE, tokens / MOST_TILES);
    List<Saving> savings = new ArrayList<>(Collections.nCopies(layers, Saving.REBUILD.withTileRows(tile)));
    for (int i = 0; i < Math.min(onHost, layers - 1); i++) {
      savings.set(i, savings.get(i).with(Tensor.R0, How.OFFLOAD));
    }
    return new Choice(savings, 0, embeddingOnHost, false, LEAST_LOGITS);
  }

  /**
   * The fastest plan of at most {@code budget} bytes of the device's memory.
   *
   * @throws OribiException if there is none
   */
  Point fit(long budget) {
    Point all = estimate.of(everything());
    if (all.bytes <= budget) {
      return all;
    }
    List<Choice> line = line();
    int low = 0; // does not fit
    int high = line.size() - 1;
    Point best = estimate.of(line.get(high));
    if (best.bytes > budget) {
      throw new OribiException(
          String.format(
              Locale.ROOT,
              "the smallest step of this model with %d tokens takes %s and there are %s: lower"
                  + " --per-device-train-batch-size or --max-seq-length, use --load-in-4bit, or give more with --memory",
              options.tokens, MemorySize.format(best.bytes), MemorySize.format(budget)));
    }
    while (high - low > 1) {
      int middle = (low + high) >>> 1;
      Point p = estimate.of(line.get(middle));
      if (p.bytes <= budget) {
        high = middle;
        best = p;
      } else {
        low = middle;
      }
    }
    return best;
  }

  /** {@link #checkpointed} where it fits, else what {@link #fit} finds. */
  Point fitCheckpointed(long budget) {
    Point p = estimate.of(checkpointed());
    return p.bytes <= budget ? p : fit(budget);
  }

  /** Points from the largest plan to the smallest, each smaller than the one before; at most {@code count} of them. */
  List<Point> curve(int count) {
    List<Choice> line = line();
    List<Point> points = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      Point p = estimate.of(line.get((int) ((long) (line.size() - 1) * i / (count - 1))));
      if (points.isEmpty() || p.bytes < points.get(points.size() - 1).bytes) {
        points.add(p);
      }
    }
    return points;
  }

  /** All prefixes of the list of moves. */
  private List<Choice> line() {
    if (line == null) {
      line = new ArrayList<>(List.of(everything()));
      estimate.calibrate();
      Set<Tensor> left = EnumSet.copyOf(options.tensors);
      left.remove(Tensor.R0);
      List<Tensor> cheap = new ArrayList<>(List.of(Tensor.F, Tensor.X2, Tensor.X1, Tensor.QK));
      if (left.contains(Tensor.Y)) {
        cheap.add(Tensor.R1); // from y, a norm and a sum
      }
      for (Tensor t : cheap) {
        if (left.remove(t)) {
          everyLayer(t, How.REBUILD);
        }
      }
      offload(left);
      if (copiesAreCheapest(left)) {
        giveUpCopies();
      }
      embeddingToHost();
      rebuild(left);
      giveUpCopies();
      for (long rows = LARGEST_TILE; rows >= LEAST_TILE; rows /= 2) {
        if (rows < options.tokens) {
          line.add(last().tiled(rows));
        }
      }
      for (long budget = options.logitsBudget / 2; budget >= LEAST_LOGITS; budget /= 2) {
        Choice c = last();
        line.add(new Choice(c.savings, c.copies, c.embeddingOnHost, c.prefetch, budget));
      }
      if (last().prefetch) {
        Choice c = last();
        line.add(new Choice(c.savings, c.copies, c.embeddingOnHost, false, c.logitsBudget));
      }
      if (last().savings.get(0).of(Tensor.R0) == How.KEEP) {
        toHost(Tensor.R0, options.layers - 1); // whatever it costs
      }
      for (Tensor t : List.of(Tensor.D, Tensor.QKV, Tensor.R1, Tensor.Y, Tensor.O)) {
        for (int i = 0; i < options.layers; i++) { // what comes back a layer ahead is there twice; the last layer still has its own
          if (options.tensors.contains(t) && last().savings.get(i).of(t) != How.REBUILD) {
            line.add(last().with(i, t, How.REBUILD));
          }
        }
      }
    }
    return line;
  }

  private Choice last() {
    return line.get(line.size() - 1);
  }

  /** The last layer comes last: what it makes again is needed at once, at the peak. */
  private void everyLayer(Tensor t, How how) {
    for (int i = 0; i < options.layers; i++) {
      if (last().savings.get(i).of(t) == How.KEEP) {
        line.add(last().with(i, t, how));
      }
    }
  }

  /**
   * What costs most to make again goes to the host first, while the bus has room beside the forward pass; the last of it in
   * some layers only, evenly spread.
   */
  private void offload(Set<Tensor> left) {
    double room = LINK_SHARE * estimate.of(last()).forwardSeconds;
    for (Tensor t : List.of(Tensor.D, Tensor.O, Tensor.R0, Tensor.R1, Tensor.Y, Tensor.QKV, Tensor.GU)) {
      if (t != Tensor.R0 && !left.contains(t)) {
        continue; // not there, or made again already
      }
      double seconds = estimate.bytes(t) / estimate.link();
      int count = (int) Math.min(options.layers - 1, room / seconds);
      boolean pays = t == Tensor.GU ? count == options.layers - 1 : count > 0; // two of so large a tensor are on their way at once
      if (pays && toHost(t, count)) {
        room -= count * seconds;
        if (count == options.layers - 1) {
          left.remove(t);
        }
      }
    }
  }

  /** In {@code count} layers, but not in the last, which would need it back at once; false if the host has no room for it. */
  private boolean toHost(Tensor t, int count) {
    if (!options.device || hostBytes + count * estimate.bytes(t) > options.hostBudget) {
      return false;
    }
    hostBytes += count * estimate.bytes(t);
    int layers = options.layers - 1;
    for (int i = 0; i < layers; i++) {
      if ((i + 1) * count / layers > i * count / layers) {
        line.add(last().with(i, t, How.OFFLOAD));
      }
    }
    return true;
  }

  private void giveUpCopies() {
    while (last().copies > 0) {
      line.add(oneCopyLess());
    }
  }

  private Choice oneCopyLess() {
    Choice c = last();
    return new Choice(c.savings, c.copies - 1, c.embeddingOnHost, c.prefetch, c.logitsBudget);
  }

  /** Whether a byte of a copy saves less time than one of any tensor: in 16 bits it saves dequantizing, in FP8 half a product. */
  private boolean copiesAreCheapest(Set<Tensor> left) {
    if (last().copies == 0 || left.isEmpty()) {
      return true;
    }
    Point now = estimate.of(last());
    Point less = estimate.of(oneCopyLess());
    double cost = (less.seconds - now.seconds) / (now.bytes - less.bytes);
    return costs(left).values().stream().allMatch(c -> cost <= c);
  }

  private void embeddingToHost() {
    Choice c = last();
    Choice moved = new Choice(c.savings, c.copies, true, c.prefetch, c.logitsBudget);
    if (options.device && options.embedding && estimate.of(moved).hostBytes <= options.hostBudget) {
      line.add(moved);
    }
  }

  /** By what a byte costs, as predicted for one layer. */
  private void rebuild(Set<Tensor> left) {
    Map<Tensor, Double> cost = costs(left);
    left.stream().sorted(Comparator.comparing(cost::get)).forEach(t -> everyLayer(t, How.REBUILD));
  }

  /** Seconds for a byte that making a tensor again in one layer saves. */
  private Map<Tensor, Double> costs(Set<Tensor> left) {
    Point now = estimate.of(last());
    Map<Tensor, Double> cost = new EnumMap<>(Tensor.class);
    for (Tensor t : left) {
      int layer = options.layers - 1; // where nothing is on the host
      Point one = estimate.of(now.choice.with(layer, t, How.REBUILD));
      cost.put(t, (one.seconds - now.seconds) / estimate.bytes(t));
    }
    return cost;
  }
}
