package dev.oribi.train;

import dev.oribi.data.MicroBatch;
import dev.oribi.device.Arena;
import dev.oribi.device.Clock;
import dev.oribi.device.Lanes.Lane;
import dev.oribi.kernel.DType;
import dev.oribi.layer.Saving;
import dev.oribi.model.Decoder;
import dev.oribi.model.Decoder.Inputs;
import dev.oribi.model.Machine;
import dev.oribi.model.Weights;
import dev.oribi.program.Copies;
import dev.oribi.program.Emit;
import dev.oribi.program.Executor;
import dev.oribi.program.Op;
import dev.oribi.program.Plan;
import dev.oribi.program.Program;
import dev.oribi.program.Run;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * How long each op of a model takes on this machine: the same model with two layers is run op by op with random weights and
 * tokens of the planned sizes, and every op is timed. From that the time of any program of the model follows.
 *
 * @param seconds by kind and name without the layer's number
 * @param link bytes a second between the host and the device, either way
 */
public record Calibration(Map<String, Timed> seconds, double link) {
  /** One op as it was timed: seconds, and its work at that size. */
  public record Timed(double seconds, long flops, long bytes) {}

  /** The first layer has no sum before its first norm; the second is as all others are. */
  static final int LAYERS = 2;

  /** Ops with fewer FLOPs a byte are bound by memory on every machine. */
  private static final double BOUND_BY_MEMORY = 60;

  /** Runs to warm up: the first loads kernels, and a card takes a while to come down to the clock that its power allows. */
  private static final int WARM_UP = 3;

  /** Enough for a median. */
  private static final int RUNS = 5;

  /** On a GPU, as long as all runs together take at least: short ones are repeated, so that the card is as warm as in training. */
  private static final double LEAST_SECONDS = 0.5;

  /** Long runs need no more than one after those that warm up. */
  private static final double ENOUGH_SECONDS = 3;

  private static final int MOST_RUNS = 1000;

  /** As long as the host may need to issue two layers' ops: meanwhile the device is kept busy, so that no op waits for the host. */
  private static final long BUSY_BYTES = 4L << 30;

  private static final long LINK_BYTES = 128L << 20;

  /**
   * Runs the calibration; takes and gives back the memory of a step of so few layers.
   *
   * @param whole of which {@link #LAYERS} layers are run, and one more where weights in 4 bits may also be multiplied in FP8
   * @param sizes of the planned micro-batch
   */
  static Calibration measure(Decoder whole, Machine machine, Emit.Sizes sizes, long logitsBudget) {
    int copies = whole.fp8() && whole.layers().stream().anyMatch(l -> !l.in4Bits().isEmpty()) ? 1 : 0;
    Decoder model = whole.withLayers(LAYERS + copies);
    Program program = new Program("calibration");
    Program unpack = new Program("unpack");
    Inputs inputs = model.inputs(sizes);
    Copies inFp8 = model.emitCopies(new Emit(unpack, sizes, machine.library()), Math.min(copies, model.layers().size()));
    model.emitTrain(
        new Emit(program, sizes, machine.library(), inFp8), inputs,
        Collections.nCopies(model.layers().size(), Saving.REBUILD), logitsBudget);
    try (Plan plan = new Plan(List.of(program, unpack), model.parameters().buffers(), model.loadingBytes());
        Executor executor = new Executor()) {
      plan.take(machine.device(), "the calibration of the planner");
      Weights weights = new Weights(model, machine, plan.shared());
      weights.initRandom(0.02f, 1);
      if (model.training().lora() != null) {
        weights.initAdapter(model.training().lora(), 1);
      }
      MicroBatch batch = randomBatch(sizes, model.config().vocabSize());
      BatchRows rows = BatchRows.of(batch);
      rows.write(machine.device(), inputs, 1.0 / sizes.tokens());
      Run run = rows.run(machine.library(), rows.targets(), 0);
      executor.run(unpack, Run.fixed(machine.library()));
      Times times = new Times(machine.device().clock());
      executor.listen(times);
      int warmUp = machine.isCuda() ? WARM_UP : 1;
      int runs = machine.isCuda() ? RUNS : 2;
      long begun = System.nanoTime();
      for (int i = 0; i < MOST_RUNS; i++) {
        double passed = (System.nanoTime() - begun) / 1e9;
        boolean warm = !machine.isCuda() || passed > LEAST_SECONDS;
        if (i >= warmUp + runs && warm || i > warmUp && passed > ENOUGH_SECONDS) {
          break;
        }
        keepBusy(machine, plan);
        executor.run(program, run);
        times.settle(i >= warmUp || passed > ENOUGH_SECONDS);
      }
      times.close();
      return new Calibration(times.medians(), link(machine));
    }
  }

  private static void keepBusy(Machine machine, Plan plan) {
    if (!machine.isCuda()) {
      return;
    }
    long bytes = plan.shared().bytes() / 4 * 4;
    for (long done = 0; done < BUSY_BYTES; done += bytes) {
      machine.kernels().fill(plan.shared(), bytes / 4, 0, DType.F32);
    }
  }

  private static MicroBatch randomBatch(Emit.Sizes s, int vocabulary) {
    java.util.Random random = new java.util.Random(1);
    int n = Math.toIntExact(s.tokens());
    int sequences = Math.toIntExact(s.sequences());
    MicroBatch b = new MicroBatch(new int[n], new int[n], new int[n], new int[sequences + 1], new int[sequences]);
    for (int q = 0; q <= sequences; q++) {
      b.cuSeqlens()[q] = Math.toIntExact((long) n * q / sequences);
    }
    for (int q = 0; q < sequences; q++) {
      for (int i = b.cuSeqlens()[q]; i < b.cuSeqlens()[q + 1]; i++) {
        b.inputIds()[i] = random.nextInt(vocabulary);
        b.targets()[i] = random.nextInt(vocabulary);
        b.positions()[i] = i - b.cuSeqlens()[q];
      }
    }
    return b;
  }

  private static double link(Machine machine) {
    if (!machine.isCuda()) {
      return Double.POSITIVE_INFINITY;
    }
    try (Arena host = machine.device().allocateHost("the calibration of the planner", LINK_BYTES);
        Arena here = machine.device().allocate("the calibration of the planner", LINK_BYTES);
        Clock clock = machine.device().clock()) {
      double best = 0;
      for (int i = 0; i < RUNS; i++) {
        machine.lanes().begin();
        int from = clock.mark();
        machine.lanes().fork(Lane.OUT);
        machine.lanes().copy(Lane.OUT, host.all(), here.all());
        machine.lanes().join(machine.lanes().mark(Lane.OUT));
        best = Math.max(best, LINK_BYTES / (clock.nanos(from, clock.mark()) / 1e9));
      }
      return best;
    }
  }

  /** Seconds of an op of the same model, also of one with other rows than were timed. */
  double of(Op op) {
    Timed t = seconds.get(key(op));
    if (t == null) {
      return 0;
    }
    if (t.flops < BOUND_BY_MEMORY * t.bytes) {
      return t.seconds * op.bytes() / Math.max(1, t.bytes);
    }
    double scale = (double) op.flops() / t.flops;
    // What is cut into smaller pieces than was timed reads its weights more often.
    return t.seconds * scale + Math.max(0, op.bytes() - scale * t.bytes) / bandwidth();
  }

  static String key(Op op) {
    return op.kind() + " " + op.name().replaceFirst("layers\\.\\d+\\.", "");
  }

  /**
   * Seconds of a part of a program: its ops one after the other, copies beside them, and waiting where a copy is joined before it is done.
   */
  double of(List<Op> ops) {
    double now = 0;
    double out = 0;
    double in = 0;
    Map<Op, Double> ends = new java.util.IdentityHashMap<>();
    for (Op op : ops) {
      if (op.lane() == Lane.OUT) {
        out = Math.max(out, now) + op.bytes() / link;
        ends.put(op, out);
      } else if (op.lane() == Lane.IN) {
        in = Math.max(in, now) + op.bytes() / link;
        ends.put(op, in);
      } else if (op.lane() == Lane.AHEAD) {
        ends.put(op, now + of(op));
      } else if (op.joined() != null) {
        now = Math.max(now, ends.get(op.joined()));
      } else {
        now += readsHost(op) ? Math.max(of(op), op.bytes() / 2 / link) : of(op);
      }
    }
    return now;
  }

  /** Bytes a second of the op that moves most. */
  double bandwidth() {
    return seconds.values().stream().mapToDouble(t -> t.bytes / t.seconds).max().orElseThrow();
  }

  private static boolean readsHost(Op op) {
    return op.reads().stream().anyMatch(b -> b.lifetime().onHost());
  }

  /** Times every op between two marks; the same op of several layers and runs counts by its median. */
  private static final class Times implements Executor.Listener {
    private record Span(Op op, int from, int to) {}

    private final Clock clock;
    private final List<Span> spans = new ArrayList<>();
    private final Map<String, List<Timed>> all = new HashMap<>();
    private int begun;

    Times(Clock clock) {
      this.clock = clock;
    }

    @Override
    public void before(Op op, Run run) {
      begun = clock.mark();
    }

    @Override
    public void after(Op op, Run run) {
      spans.add(new Span(op, begun, clock.mark()));
    }

    void settle(boolean counts) {
      for (Span s : spans) {
        double seconds = clock.nanos(s.from, s.to) / 1e9;
        if (counts) {
          all.computeIfAbsent(key(s.op), k -> new ArrayList<>()).add(new Timed(seconds, s.op.flops(), s.op.bytes()));
        }
      }
      spans.clear();
      clock.reset();
    }

    Map<String, Timed> medians() {
      Map<String, Timed> medians = new HashMap<>();
      all.forEach((key, timed) -> {
        timed.sort(Comparator.comparing(Timed::seconds));
        medians.put(key, timed.get(timed.size() / 2));
      });
      return medians;
    }

    void close() {
      clock.close();
    }
  }
}
