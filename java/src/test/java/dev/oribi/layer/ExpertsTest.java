package dev.oribi.layer;

import static org.assertj.core.api.Assertions.assertThat;

import dev.oribi.device.Device;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.Kernels.Activation;
import dev.oribi.kernel.RouterShape;
import dev.oribi.kernel.RouterShape.Score;
import dev.oribi.layer.Parameters.Param;
import dev.oribi.layer.Saving.How;
import dev.oribi.layer.Saving.Tensor;
import dev.oribi.model.Machine;
import dev.oribi.program.Buffer;
import dev.oribi.program.Buffer.Lifetime;
import dev.oribi.program.Buffer.Rows;
import dev.oribi.program.Emit;
import dev.oribi.program.Executor;
import dev.oribi.program.Op;
import dev.oribi.program.Plan;
import dev.oribi.program.Program;
import dev.oribi.program.Run;
import dev.oribi.testing.Compare;
import dev.oribi.testing.ReferenceExperts;
import dev.oribi.testing.ReferenceExperts.Sizes;
import dev.oribi.testing.TestMachine;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;

/**
 * Routed experts forward and backward in fp32 against the reference in double and its finite differences, for every way to
 * route, to train and to save, and for random routings with experts that no token chose.
 */
class ExpertsTest {
  private static final int TOKENS = 11;
  private static final int HIDDEN = 10;
  private static final int INTERMEDIATE = 6;

  /** Five to ten times what is seen. */
  private static final double OUTPUT = 1e-6;

  private static final double GRADIENT = 2e-6;

  private static final RouterShape MIXTRAL = RouterShape.softmax(5, 2, true);
  private static final RouterShape DEEPSEEK_V3 = new RouterShape(8, 3, 4, 2, 2, Score.SIGMOID, true, 2.5f, DType.F32);
  private static final RouterShape DEEPSEEK_V2 = new RouterShape(6, 2, 3, 2, 1, Score.SOFTMAX, false, 16, DType.F32);

  private enum Learns {
    NOTHING,
    ADAPTERS,
    EVERYTHING
  }

  private record Case(String name, RouterShape router, boolean bias, int shared, Learns learns, Saving saving, long seed) {
    int rank() {
      return learns == Learns.ADAPTERS ? 3 : 0;
    }
  }

  @TestFactory
  Stream<DynamicTest> outputAndGradients() {
    List<Case> cases = new ArrayList<>();
    Saving rebuild = Saving.REBUILD;
    Saving offload = Saving.KEEP.with(Tensor.GU, How.OFFLOAD);
    for (Learns learns : Learns.values()) {
      cases.add(new Case("softmax, " + learns, MIXTRAL, false, 0, learns, Saving.KEEP, 1));
      cases.add(new Case("softmax, rebuilt, " + learns, MIXTRAL, false, 0, learns, rebuild, 1));
      cases.add(new Case("sigmoid in groups, a bias and a shared expert, " + learns, DEEPSEEK_V3, true, 7, learns, Saving.KEEP, 2));
      cases.add(new Case("the same, rebuilt, " + learns, DEEPSEEK_V3, true, 7, learns, rebuild, 2));
      cases.add(new Case("softmax in groups, not normalized, gu on the host, " + learns, DEEPSEEK_V2, false, 4, learns, offload, 3));
      cases.add(new Case("f rebuilt, " + learns, DEEPSEEK_V2, true, 0, learns, Saving.KEEP.with(Tensor.F, How.REBUILD), 4));
    }
    return cases.stream().map(c -> DynamicTest.dynamicTest(c.name, () -> check(c, TOKENS)));
  }

  /** Random sizes of a routing, most with experts that have no rows, and runs of fewer tokens than were planned. */
  @Test
  void anyRouting() {
    Random random = new Random(77);
    int empty = 0;
    for (int i = 0; i < 40; i++) {
      int groups = 1 + random.nextInt(3);
      int ofGroup = 1 + random.nextInt(4);
      int top = 1 + random.nextInt(groups);
      int k = 1 + random.nextInt(Math.min(4, top * ofGroup));
      Score score = Score.values()[random.nextInt(2)];
      RouterShape router =
          new RouterShape(
              groups * ofGroup, k, groups, top, 1 + random.nextInt(ofGroup), score, random.nextBoolean(), 1.5f, DType.F32);
      Saving saving = random.nextBoolean() ? Saving.KEEP : Saving.REBUILD;
      Case c = new Case("try " + i, router, random.nextBoolean(), random.nextInt(3), Learns.values()[random.nextInt(3)], saving, i);
      empty += check(c, random.nextInt(TOKENS + 1));
    }
    assertThat(empty).as("experts without rows").isGreaterThan(20);
  }

  /** What is kept or made again changes no bit. */
  @Test
  void savingChangesNoBit() {
    for (int shared : new int[] {0, 7}) {
      Case kept = new Case("kept", DEEPSEEK_V3, true, shared, Learns.ADAPTERS, Saving.KEEP, 5);
      Case again = new Case("again", DEEPSEEK_V3, true, shared, Learns.ADAPTERS, Saving.REBUILD, 5);
      try (Step a = new Step(kept); Step b = new Step(again)) {
        a.run(TOKENS);
        b.run(TOKENS);
        a.results().forEach((name, g) -> assertThat(b.results().get(name)).as(name).isEqualTo(g));
      }
    }
  }

  /** Returns how many experts had no rows. */
  private static int check(Case c, int tokens) {
    try (Step step = new Step(c)) {
      step.run(tokens);
      ReferenceExperts reference =
          new ReferenceExperts(new Sizes(HIDDEN, INTERMEDIATE, c.shared, c.rank(), 2), c.router, step.bias);
      double[] x = Arrays.copyOf(step.x, tokens * HIDDEN);
      Map<String, float[]> results = step.results();
      double worst = close(c, "delta", Arrays.copyOf(results.remove("delta"), x.length), reference.forward(x, step.weights), OUTPUT);
      double[] dx = differences(step, reference, x, x, step.weights);
      worst = Math.max(worst, close(c, "dx", Arrays.copyOf(results.remove("dx"), x.length), dx, GRADIENT));
      for (Map.Entry<String, float[]> g : results.entrySet()) {
        double[] dw = differences(step, reference, x, step.weights.get(g.getKey()), step.weights);
        worst = Math.max(worst, close(c, g.getKey(), g.getValue(), dw, GRADIENT));
      }
      System.out.printf("%-80s %2d gradients, off by %.1e%n", c.name, results.size() + 1, worst);
      return (int) Arrays.stream(reference.rows(x, step.weights)).filter(rows -> rows == 0).count();
    }
  }

  private static double close(Case c, String name, float[] actual, double[] expected, double tolerance) {
    double off = Compare.relative(actual, expected);
    assertThat(off).as(c.name + ": " + name).isLessThanOrEqualTo(tolerance);
    return off;
  }

  /** Of dy · delta by each of {@code in}, which is x or a weight, by central differences. */
  private static double[] differences(
      Step step, ReferenceExperts reference, double[] x, double[] in, Map<String, double[]> weights) {
    double[] out = new double[in.length];
    double h = 1e-5;
    for (int i = 0; i < in.length; i++) {
      double here = in[i];
      in[i] = here + h;
      double above = loss(step, reference.forward(x, weights));
      in[i] = here - h;
      out[i] = (above - loss(step, reference.forward(x, weights))) / (2 * h);
      in[i] = here;
    }
    return out;
  }

  private static double loss(Step step, double[] delta) {
    double sum = 0;
    for (int i = 0; i < delta.length; i++) {
      sum += delta[i] * step.dy[i];
    }
    return sum;
  }

  /** A program of one layer of experts, planned, with random weights. */
  private static final class Step implements AutoCloseable {
    final Machine machine = TestMachine.open(2);
    final Parameters parameters = new Parameters(DType.F32);
    final Map<String, double[]> weights = new LinkedHashMap<>();
    final double[] x;
    final double[] dy;
    final double[] bias;
    private final Program program = new Program("experts");
    private final Buffer xIn = io("x");
    private final Buffer dyIn = io("dy");
    private final Buffer deltaOut = io("delta.out");
    private final Buffer dxOut = io("dx.out");
    private final Buffer biasIn;
    private final Plan plan;
    private int tokens;

    Step(Case c) {
      int experts = c.router.experts();
      boolean full = c.learns == Learns.EVERYTHING;
      biasIn = c.bias ? new Buffer("bias", Lifetime.WEIGHT, DType.F32, Rows.FIXED, 1, experts) : null;
      Experts layer = layer(c, full);
      Emit.Sizes sizes = new Emit.Sizes(TOKENS, 1, 1, TOKENS, DType.F32, false, 0);
      Emit e = new Emit(program, sizes, machine.library());
      Saved saved = new Saved(c.saving);
      Buffer delta = layer.emitForward(e, xIn, saved);
      e.experts().cast("delta", deltaOut, delta);
      saved.emitArrived(e);
      saved.emitFetch(e);
      e.experts().cast("dx", dxOut, layer.emitBackward(e, dyIn, () -> xIn, saved));
      saved.emitEnd(e);
      plan = new Plan(List.of(program), parameters.buffers());
      plan.take(machine.device(), "experts");
      Random random = new Random(c.seed);
      x = random(random, TOKENS * HIDDEN, 1, xIn);
      dy = random(random, TOKENS * HIDDEN, 1, dyIn);
      bias = c.bias ? random(random, experts, 0.3, biasIn) : null;
      for (Parameters.Tensor t : parameters.tensors()) {
        Buffer group = t.trainable() ? t.group().value() : null;
        double std = t.name().equals("gate.weight") ? 1 : 1 / Math.sqrt(t.shape()[1]);
        double[] values = values(random, (int) t.elements(), std);
        float[] w = narrow(values);
        machine.device().write(group == null ? t.value().mem() : t.part(group).mem(), w, 0, w.length);
        weights.put(t.name(), values);
      }
      for (Parameters.Group g : parameters.groups()) {
        float[] zeros = new float[(int) g.count()];
        machine.device().write(g.grad().mem(), zeros, 0, zeros.length);
      }
    }

    private Experts layer(Case c, boolean full) {
      int experts = c.router.experts();
      int r = c.rank();
      Param gate = parameters.add("gate.weight", experts, HIDDEN, false, full, true);
      Experts.Router router = new Experts.Router(gate, biasIn, c.router);
      Param gateUp = parameters.add("gate_up.weight", experts * 2L * INTERMEDIATE, HIDDEN, false, full, true);
      Param down = parameters.add("down.weight", (long) experts * HIDDEN, INTERMEDIATE, false, full, true);
      ExpertLinear.Lora ofGateUp = null;
      ExpertLinear.Lora ofDown = null;
      if (r > 0) {
        Param a = parameters.add("gate_up.lora_A", experts * 2L * r, HIDDEN, false, true, true);
        Param bGate = parameters.add("gate.lora_B", (long) experts * INTERMEDIATE, r, false, true, true);
        Param bUp = parameters.add("up.lora_B", (long) experts * INTERMEDIATE, r, false, true, true);
        ofGateUp =
            new ExpertLinear.Lora(
                a,
                List.of(
                    new ExpertLinear.Adapter(0, INTERMEDIATE, 0, r, bGate, 2),
                    new ExpertLinear.Adapter(INTERMEDIATE, INTERMEDIATE, r, r, bUp, 2)));
        Param aDown = parameters.add("down.lora_A", (long) experts * r, INTERMEDIATE, false, true, true);
        Param bDown = parameters.add("down.lora_B", (long) experts * HIDDEN, r, false, true, true);
        ofDown = new ExpertLinear.Lora(aDown, List.of(new ExpertLinear.Adapter(0, HIDDEN, 0, r, bDown, 2)));
      }
      ExpertLinear gu = new ExpertLinear("gate_up_proj", experts, gateUp, ofGateUp);
      ExpertLinear d = new ExpertLinear("down_proj", experts, down, ofDown);
      GatedMlp shared = null;
      if (c.shared > 0) {
        Param sharedGateUp = parameters.add("shared.gate_up.weight", 2L * c.shared, HIDDEN, false, full, true);
        Param sharedDown = parameters.add("shared.down.weight", HIDDEN, c.shared, false, full, true);
        shared =
            new GatedMlp(
                "shared", Activation.SILU, new Linear("shared.gate_up_proj", sharedGateUp, null),
                new Linear("shared.down_proj", sharedDown, null), null);
      }
      return new Experts("layer", router, gu, d, Activation.SILU, shared);
    }

    private static Buffer io(String name) {
      return new Buffer(name, Lifetime.IO, DType.F32, Rows.TOKENS, TOKENS, HIDDEN);
    }

    private double[] random(Random random, int count, double std, Buffer to) {
      double[] values = values(random, count, std);
      machine.device().write(to.mem(), narrow(values), 0, count);
      return values;
    }

    /** Numbers that are the same in float. */
    private static double[] values(Random random, int count, double std) {
      return random.doubles(count).map(u -> (float) (std * 3.4 * (u - 0.5))).toArray();
    }

    private static float[] narrow(double[] x) {
      float[] y = new float[x.length];
      for (int i = 0; i < x.length; i++) {
        y[i] = (float) x[i];
      }
      return y;
    }

    void run(int count) {
      tokens = count;
      Executor executor = new Executor();
      executor.run(program, new Run(machine.library(), count, 0, 1, count, 0));
      machine.kernels().synchronize();
    }

    /** delta, dx and every gradient. */
    Map<String, float[]> results() {
      Device device = machine.device();
      Map<String, float[]> all = new LinkedHashMap<>();
      for (Buffer b : List.of(deltaOut, dxOut)) {
        float[] values = new float[tokens * HIDDEN];
        device.read(b.mem(), values, 0, values.length);
        all.put(b.name().replace(".out", ""), values);
      }
      for (Parameters.Tensor t : parameters.trainable()) {
        float[] g = new float[(int) t.elements()];
        device.read(t.part(t.group().grad()).mem(), g, 0, g.length);
        all.put(t.name(), g);
      }
      return all;
    }

    @Override
    public void close() {
      plan.close();
      machine.close();
    }
  }

  /** Nothing of a frozen router or of frozen experts is written, and no op of theirs makes a gradient of a weight. */
  @Test
  void whatIsFrozenHasNoGradient() {
    try (Step step = new Step(new Case("frozen", MIXTRAL, false, 0, Learns.ADAPTERS, Saving.KEEP, 6))) {
      assertThat(step.program.ops()).noneMatch(op -> op.kind() == Op.Kind.EXPERTS_DW || op.kind() == Op.Kind.MATMUL_DW);
      assertThat(step.program.ops()).anyMatch(op -> op.kind() == Op.Kind.ROUTER_BACKWARD);
    }
  }
}
