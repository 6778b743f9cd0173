package dev.oribi.bench;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.io.Json;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.program.Op;
import dev.oribi.program.Profile;
import dev.oribi.program.Profile.Sum;
import dev.oribi.train.MemorySize;
import java.io.PrintStream;
import java.util.Arrays;
import java.util.Locale;
import java.util.Map;
import java.util.Set;

/**
 * What a training step takes on a GPU. Whole steps are timed as they run in training, from recordings; then one more is
 * issued op by op for the table, in which every op is timed between two events and the host's gaps count.
 */
final class GpuStepReport {
  /** Steps before the timed ones: the first loads kernels and chooses algorithms, the second is recorded. */
  private static final int WARM_UP = 3;

  private static final Set<Op.Kind> UPDATE = Set.of(Op.Kind.ADAMW, Op.Kind.FILL);
  private static final Set<Op.Kind> CLIP = Set.of(Op.Kind.SUM_SQUARES, Op.Kind.CLIP);

  private final StepBench bench;
  private final Ceilings ceilings;
  private final Profile profile;

  GpuStepReport(StepBench bench, Ceilings ceilings, Profile profile) {
    this.bench = bench;
    this.ceilings = ceilings;
    this.profile = profile;
  }

  /**
   * Measures, prints, writes the JSON file if one is wanted; returns tokens per second.
   *
   * @param freeBefore bytes that were free on the device before the model was there
   */
  double measure(long freeBefore, PrintStream out) {
    long first = System.nanoTime();
    bench.step();
    bench.machine().kernels().synchronize();
    bench.start().end("first step");
    out.println(bench.start().line());
    if (bench.options().steps() == 0) {
      return printFirst((System.nanoTime() - first) / 1e9, freeBefore, out);
    }
    for (int i = 1; i < WARM_UP; i++) {
      bench.step();
    }
    double[] seconds = new double[Math.max(1, bench.options().steps())];
    bench.machine().kernels().synchronize();
    bench.step(); // as in training, a step begins while the last update still runs
    long begun = System.nanoTime();
    for (int i = 0; i < seconds.length; i++) {
      bench.step();
      long now = System.nanoTime();
      seconds[i] = (now - begun) / 1e9;
      begun = now;
    }
    bench.machine().kernels().synchronize();
    Arrays.sort(seconds);
    long taken = freeBefore - bench.machine().device().freeBytes();
    bench.modelStep().executor().listen(profile);
    bench.step(); // events are made and classes loaded while the card waits, inside the first op that is timed
    profile.clear();
    bench.step();
    bench.modelStep().executor().listen(null);
    ObjectNode numbers = numbers(seconds, taken);
    print(numbers, out);
    if (bench.options().json() != null) {
      Json.write(bench.options().json(), numbers);
      out.println("written: " + bench.options().json());
    }
    return numbers.get("tokens_per_second").asDouble();
  }

  /** The first step and no table: for steps that take minutes, beside which loading kernels is nothing. */
  private double printFirst(double seconds, long freeBefore, PrintStream out) {
    out.printf(Locale.ROOT, "%s, %d x %d tokens: first step of %.2f s, %.0f tok/s; %s planned, %s taken, %s on the host; plan: %s%n",
        bench.options().shape(), bench.options().batch(), bench.options().seq(), seconds, bench.tokens() / seconds,
        MemorySize.format(bench.modelStep().memoryBytes()), MemorySize.format(freeBefore - bench.machine().device().freeBytes()),
        MemorySize.format(bench.modelStep().plan().hostBytes()),
        bench.modelStep().describe(bench.modelStep().point().choice()));
    return bench.tokens() / seconds;
  }

  private ObjectNode numbers(double[] seconds, long taken) {
    StepBench.Options o = bench.options();
    double p50 = seconds[seconds.length / 2];
    double rate = bench.tokens() / p50;
    double n = denseWeights(bench.modelStep().model().config());
    ObjectNode j = JsonNodeFactory.instance.objectNode();
    j.put("shape", o.shape()).put("batch", o.batch()).put("seq", o.seq());
    j.put("training", o.full() ? "full" : "lora").put("rank", o.full() ? 0 : o.r());
    j.put("weights", o.loadIn4bit() ? "nf4" : bench.modelStep().model().parameters().type().label());
    j.put("head", o.headIn8bit() ? "int8" : bench.modelStep().model().parameters().type().label());
    j.put("products", o.fp8() ? "fp8" : "as stored");
    j.put("gradient_checkpointing", o.checkpointing()).put("optim", o.optim().toString());
    j.put("device", bench.modelStep().describe()).put("replayed", bench.modelStep().executor().replays());
    j.put("ms_p20", 1e3 * seconds[seconds.length / 5]).put("ms_p50", 1e3 * p50);
    j.put("ms_p80", 1e3 * seconds[seconds.length * 4 / 5]).put("steps", seconds.length);
    j.put("tokens_per_second", rate);
    j.put("plan", bench.modelStep().describe(bench.modelStep().point().choice()));
    j.put("ms_predicted", 1e3 * bench.predicted()).put("host_bytes", bench.modelStep().plan().hostBytes());
    j.put("planned_bytes", bench.modelStep().memoryBytes()).put("real_bytes", taken);
    j.put("tflops_4n", 4 * n * rate / 1e12).put("tflops_6n", 6 * n * rate / 1e12).put("n", n);
    j.put("ceiling_tflops", ceilings.gemm() / 1e12).put("ceiling_gb_per_second", ceilings.bandwidth() / 1e9);
    j.put("ms_forward", ms(false)).put("ms_backward", ms(true)).put("ms_clip", ms(CLIP)).put("ms_update", ms(UPDATE));
    ArrayNode ops = j.putArray("ops");
    for (Map.Entry<Op.Kind, Sum> e : profile.sums().entrySet()) {
      Sum s = e.getValue();
      ops.addObject().put("op", e.getKey().label()).put("calls", s.calls()).put("ms", s.nanos() / 1e6)
          .put("bytes", s.bytes()).put("flops", s.flops());
    }
    return j;
  }

  /** Weights that take part in a product once for every token: the linear layers and the head. */
  static double denseWeights(ModelConfig c) {
    double q = (double) c.numAttentionHeads() * c.headDim();
    double kv = (double) c.numKeyValueHeads() * c.headDim();
    double layer = c.hiddenSize() * (2 * q + 2 * kv) + 3.0 * c.hiddenSize() * c.intermediateSize();
    return c.numHiddenLayers() * layer + (double) c.vocabSize() * c.hiddenSize();
  }

  /** The loss, whose op goes both ways, counts as backward. */
  private double ms(boolean backward) {
    return profile.sums().entrySet().stream()
        .filter(e -> !CLIP.contains(e.getKey()) && e.getKey() != Op.Kind.ADAMW && backward == isBackward(e.getKey()))
        .mapToDouble(e -> e.getValue().nanos() / 1e6)
        .sum();
  }

  private static boolean isBackward(Op.Kind kind) {
    String name = kind.name();
    return name.endsWith("BACKWARD") || name.endsWith("DX") || name.endsWith("DW") || name.endsWith("DB")
        || name.endsWith("DA") || kind == Op.Kind.CROSS_ENTROPY || kind == Op.Kind.SCATTER || kind == Op.Kind.FILL;
  }

  private double ms(Set<Op.Kind> kinds) {
    return profile.sums().entrySet().stream()
        .filter(e -> kinds.contains(e.getKey()))
        .mapToDouble(e -> e.getValue().nanos() / 1e6)
        .sum();
  }

  private void print(ObjectNode j, PrintStream out) {
    double gib = 1L << 30;
    out.printf(Locale.ROOT, "%s, %d x %d tokens, %s weights, %s, on %s%n", j.get("shape").asText(), j.get("batch").asInt(),
        j.get("seq").asInt(), j.get("weights").asText(),
        bench.options().full() ? "every weight trained" : "LoRA r=" + j.get("rank").asInt() + " on seven projections",
        j.get("device").asText());
    out.printf(Locale.ROOT, "this card: product %.1f TFLOP/s, memory %.1f GB/s%n", j.get("ceiling_tflops").asDouble(),
        j.get("ceiling_gb_per_second").asDouble());
    out.print(profile.table(1));
    out.printf(Locale.ROOT, "by op: forward %.1f ms, loss and backward %.1f ms, clip %.2f ms, update %.2f ms%n",
        j.get("ms_forward").asDouble(), j.get("ms_backward").asDouble(), j.get("ms_clip").asDouble(), j.get("ms_update").asDouble());
    out.printf(Locale.ROOT, "step: p20 %.1f ms, p50 %.1f ms, p80 %.1f ms of %d (%d recordings replayed); %.0f tok/s%n",
        j.get("ms_p20").asDouble(), j.get("ms_p50").asDouble(), j.get("ms_p80").asDouble(), j.get("steps").asInt(),
        j.get("replayed").asLong(), j.get("tokens_per_second").asDouble());
    out.printf(Locale.ROOT, "%.1f TFLOP/s as 4N, %.1f as 6N, N = %.3f billion%n", j.get("tflops_4n").asDouble(),
        j.get("tflops_6n").asDouble(), j.get("n").asDouble() / 1e9);
    out.printf(Locale.ROOT, "plan: %s; predicted %.1f ms, real %.1f (%+.1f %%)%n", j.get("plan").asText(),
        j.get("ms_predicted").asDouble(), j.get("ms_p50").asDouble(),
        100 * (j.get("ms_p50").asDouble() / j.get("ms_predicted").asDouble() - 1));
    bench.modelStep().fp8Report().ifPresent(out::println);
    if (bench.options().layers() > 0) {
      out.printf(Locale.ROOT, "%d layers were run; the plan of all %d takes %.3f GiB%n", bench.modelStep().model().layers().size(),
          Shapes.of(bench.options().shape()).numHiddenLayers(), bench.wholeBytes() / gib);
    }
    out.printf(Locale.ROOT, "host: %.3f GiB pinned%n", j.get("host_bytes").asLong() / gib);
    out.printf(Locale.ROOT, "memory: %.3f GiB planned, %.3f GiB taken (%+.1f %%)%n", j.get("planned_bytes").asLong() / gib,
        j.get("real_bytes").asLong() / gib, 100.0 * (j.get("real_bytes").asLong() - j.get("planned_bytes").asLong()) / j.get("planned_bytes").asLong());
  }
}
