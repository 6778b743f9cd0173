package dev.oribi.layer;

import static org.assertj.core.api.Assertions.assertThat;

import dev.oribi.kernel.DType;
import dev.oribi.kernel.Kernels.NormWeight;
import dev.oribi.kernel.LatentShape;
import dev.oribi.layer.DecoderLayer.Packing;
import dev.oribi.layer.Parameters.Param;
import dev.oribi.layer.Saving.How;
import dev.oribi.layer.Saving.Tensor;
import dev.oribi.model.Machine;
import dev.oribi.program.Buffer;
import dev.oribi.program.Buffer.Lifetime;
import dev.oribi.program.Buffer.Rows;
import dev.oribi.program.Emit;
import dev.oribi.program.Emit.RopeTable;
import dev.oribi.program.Executor;
import dev.oribi.program.Plan;
import dev.oribi.program.Program;
import dev.oribi.program.Run;
import dev.oribi.testing.Compare;
import dev.oribi.testing.ReferenceLatent;
import dev.oribi.testing.TestMachine;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;

/**
 * Latent attention forward and backward in fp32 against the reference in double and its finite differences: with and without
 * q_lora_rank, both kinds of rotated pairs, heads of v shorter than those of q, every way to train and to save.
 */
class LatentAttentionTest {
  private static final int[] LENGTHS = {5, 1, 4};
  private static final int TOKENS = 10;
  private static final int HIDDEN = 9;
  private static final int KV_RANK = 5;
  private static final float EPS = 1e-5f;

  /** Five to ten times what is seen. */
  private static final double TOLERANCE = 5e-6;

  private static final LatentShape DEEPSEEK = new LatentShape(3, 4, 2, 4, true);
  private static final LatentShape EVEN = new LatentShape(2, 2, 4, 6, false);

  private record Case(String name, LatentShape shape, int qRank, int rank, boolean full, Saving saving) {}

  @TestFactory
  Stream<DynamicTest> outputAndGradients() {
    Saving rebuild = Saving.REBUILD;
    Saving offload = Saving.KEEP.with(Tensor.QKV, How.OFFLOAD).with(Tensor.O, How.REBUILD);
    List<Case> cases = new ArrayList<>();
    for (int qRank : new int[] {0, 7}) {
      String with = qRank == 0 ? "" : ", q_lora_rank";
      cases.add(new Case("frozen" + with, DEEPSEEK, qRank, 0, false, Saving.KEEP));
      cases.add(new Case("adapters" + with, DEEPSEEK, qRank, 3, false, Saving.KEEP));
      cases.add(new Case("adapters, rebuilt" + with, DEEPSEEK, qRank, 3, false, rebuild));
      cases.add(new Case("full" + with, DEEPSEEK, qRank, 0, true, Saving.KEEP));
      cases.add(new Case("full, rebuilt" + with, EVEN, qRank, 0, true, rebuild));
      cases.add(new Case("adapters, v as long as q, qkv on the host" + with, EVEN, qRank, 3, false, offload));
    }
    return cases.stream().map(c -> DynamicTest.dynamicTest(c.name, () -> check(c)));
  }

  /** What is kept or made again changes no bit. */
  @Test
  void savingChangesNoBit() {
    try (Step kept = new Step(new Case("kept", DEEPSEEK, 7, 3, false, Saving.KEEP));
        Step again = new Step(new Case("again", DEEPSEEK, 7, 3, false, Saving.REBUILD))) {
      Map<String, float[]> results = kept.run();
      again.run().forEach((name, g) -> assertThat(g).as(name).isEqualTo(results.get(name)));
    }
  }

  private static void check(Case c) {
    try (Step step = new Step(c)) {
      ReferenceLatent reference =
          new ReferenceLatent(HIDDEN, c.qRank, KV_RANK, c.shape, EPS, c.rank, 2, LENGTHS, step.cos, step.sin);
      Map<String, float[]> results = step.run();
      double worst = close("y", results.remove("y"), reference.forward(step.x, step.weights));
      worst = Math.max(worst, close("dx", results.remove("dx"), differences(step, reference, step.x)));
      for (Map.Entry<String, float[]> g : results.entrySet()) {
        double[] expected = differences(step, reference, step.weights.get(g.getKey()));
        worst = Math.max(worst, close(g.getKey(), g.getValue(), expected));
      }
      System.out.printf("%-60s %2d gradients, off by %.1e%n", c.name, results.size() + 1, worst);
    }
  }

  private static double close(String name, float[] actual, double[] expected) {
    double off = Compare.relative(actual, expected);
    assertThat(off).as(name).isLessThanOrEqualTo(TOLERANCE);
    return off;
  }

  /** Of dy · y by each of {@code in}, which is x or a weight, by central differences. */
  private static double[] differences(Step step, ReferenceLatent reference, double[] in) {
    double[] out = new double[in.length];
    double h = 1e-5;
    for (int i = 0; i < in.length; i++) {
      double here = in[i];
      in[i] = here + h;
      double above = loss(step, reference.forward(step.x, step.weights));
      in[i] = here - h;
      out[i] = (above - loss(step, reference.forward(step.x, step.weights))) / (2 * h);
      in[i] = here;
    }
    return out;
  }

  private static double loss(Step step, double[] y) {
    double sum = 0;
    for (int i = 0; i < y.length; i++) {
      sum += y[i] * step.dy[i];
    }
    return sum;
  }

  /** A program of one layer's attention, planned, with random weights. */
  private static final class Step implements AutoCloseable {
    final Machine machine = TestMachine.open(2);
    final Parameters parameters = new Parameters(DType.F32);
    final Map<String, double[]> weights = new LinkedHashMap<>();
    final double[] x;
    final double[] dy;
    final double[] cos;
    final double[] sin;
    private final Program program = new Program("latent attention");
    private final Buffer xIn = io("x", DType.F32, Rows.TOKENS, TOKENS, HIDDEN);
    private final Buffer dyIn = io("dy", DType.F32, Rows.TOKENS, TOKENS, HIDDEN);
    private final Buffer yOut = io("y", DType.F32, Rows.TOKENS, TOKENS, HIDDEN);
    private final Buffer dxOut = io("dx", DType.F32, Rows.TOKENS, TOKENS, HIDDEN);
    private final Plan plan;

    Step(Case c) {
      Buffer positions = io("positions", DType.I32, Rows.TOKENS, TOKENS, 1);
      Buffer cuSeqlens = io("cu_seqlens", DType.I32, Rows.FIXED, LENGTHS.length + 1, 1);
      int half = c.shape.rope() / 2;
      RopeTable table =
          new RopeTable(io("cos", DType.F32, Rows.FIXED, TOKENS, half), io("sin", DType.F32, Rows.FIXED, TOKENS, half));
      Packing packing = new Packing(positions, cuSeqlens, null);
      float scale = (float) (1 / Math.sqrt(c.shape.headDim()));
      LatentAttention layer = new LatentAttention("layer", c.shape, scale, table, projections(c));
      Emit.Sizes sizes = new Emit.Sizes(TOKENS, 1, LENGTHS.length, 5, DType.F32, false, 0);
      Emit e = new Emit(program, sizes, machine.library());
      Saved saved = new Saved(c.saving);
      Buffer y = layer.emitForward(e, xIn, packing, saved);
      e.experts().cast("y", yOut, y);
      saved.emitArrived(e);
      saved.emitFetch(e);
      layer.emitBackward(e, dyIn, dxOut, () -> xIn, packing, saved);
      saved.emitEnd(e);
      plan = new Plan(List.of(program), parameters.buffers());
      plan.take(machine.device(), "latent attention");
      Random random = new Random(3);
      x = random(random, 1, xIn);
      dy = random(random, 1, dyIn);
      cos = random(random, 1, table.cos());
      sin = random(random, 1, table.sin());
      int[] at = new int[TOKENS];
      int[] begins = new int[LENGTHS.length + 1];
      for (int s = 0, row = 0; s < LENGTHS.length; s++) {
        for (int t = 0; t < LENGTHS[s]; t++) {
          at[row++] = t;
        }
        begins[s + 1] = row;
      }
      write(positions, at);
      write(cuSeqlens, begins);
      for (Parameters.Tensor t : parameters.tensors()) {
        boolean norm = t.shape().length == 1;
        double[] values = values(random, (int) t.elements(), norm ? 0.3 : 1 / Math.sqrt(t.shape()[1]), norm ? 1 : 0);
        float[] w = narrow(values);
        machine.device().write(t.trainable() ? t.part(t.group().value()).mem() : t.value().mem(), w, 0, w.length);
        weights.put(t.name(), values);
      }
      for (Parameters.Group g : parameters.groups()) {
        machine.device().write(g.grad().mem(), new float[(int) g.count()], 0, (int) g.count());
      }
    }

    private LatentAttention.Projections projections(Case c) {
      LatentShape s = c.shape;
      boolean latentQ = c.qRank > 0;
      List<String> down = latentQ ? List.of("q_a_proj", "kv_a_proj_with_mqa") : List.of("kv_a_proj_with_mqa");
      long kvA = KV_RANK + s.rope();
      Linear first = linear(c, "down", down, latentQ ? new long[] {c.qRank, kvA} : new long[] {kvA}, HIDDEN);
      Linear q = linear(c, "q", List.of(latentQ ? "q_b_proj" : "q_proj"), new long[] {s.q()}, latentQ ? c.qRank : HIDDEN);
      Norm qNorm = latentQ ? norm(c, "q_a_layernorm", c.qRank) : null;
      Norm kvNorm = norm(c, "kv_a_layernorm", KV_RANK);
      Linear kv = linear(c, "kv", List.of("kv_b_proj"), new long[] {s.kv()}, KV_RANK);
      Linear o = linear(c, "o", List.of("o_proj"), new long[] {HIDDEN}, s.out());
      return new LatentAttention.Projections(first, qNorm, q, kvNorm, kv, o);
    }

    private Norm norm(Case c, String name, long cols) {
      return new Norm(name, parameters.add(name + ".weight", 1, cols, true, c.full, false), EPS, NormWeight.PLAIN);
    }

    private Linear linear(Case c, String name, List<String> modules, long[] out, long in) {
      List<String> names = modules.stream().map(m -> m + ".weight").toList();
      Param weight = parameters.stack(names, out, in, false, c.full, true);
      if (c.rank == 0) {
        return new Linear(name, weight, null);
      }
      long[] ranks = new long[out.length];
      java.util.Arrays.fill(ranks, c.rank);
      Param a = parameters.stack(modules.stream().map(m -> m + ".lora_A").toList(), ranks, in, false, true, true);
      Param b = parameters.stack(modules.stream().map(m -> m + ".lora_B").toList(), out, c.rank, false, true, true);
      List<Linear.Adapter> adapters = new ArrayList<>();
      long row = 0;
      for (int i = 0; i < out.length; i++) {
        adapters.add(new Linear.Adapter(row, out[i], (long) i * c.rank, c.rank, b.rows(row, out[i]), 2, i));
        row += out[i];
      }
      return new Linear(name, weight, new Linear.Lora(a, b, adapters, 0));
    }

    private static Buffer io(String name, DType type, Rows rowsOf, long rows, long cols) {
      return new Buffer(name, Lifetime.IO, type, rowsOf, rows, cols);
    }

    private void write(Buffer to, int[] values) {
      ByteBuffer bytes = ByteBuffer.allocate(4 * values.length).order(ByteOrder.nativeOrder());
      bytes.asIntBuffer().put(values);
      machine.device().write(to.mem(), bytes);
    }

    private double[] random(Random random, double std, Buffer to) {
      double[] values = values(random, (int) (to.rows() * to.cols()), std, 0);
      machine.device().write(to.mem(), narrow(values), 0, values.length);
      return values;
    }

    /** Numbers that are the same in float. */
    private static double[] values(Random random, int count, double std, double mean) {
      return random.doubles(count).map(u -> (float) (mean + std * 3.4 * (u - 0.5))).toArray();
    }

    private static float[] narrow(double[] x) {
      float[] y = new float[x.length];
      for (int i = 0; i < x.length; i++) {
        y[i] = (float) x[i];
      }
      return y;
    }

    /** y, dx and every gradient. */
    Map<String, float[]> run() {
      new Executor().run(program, new Run(machine.library(), TOKENS, 0, LENGTHS.length, 5, 0));
      machine.kernels().synchronize();
      Map<String, float[]> all = new LinkedHashMap<>();
      for (Buffer b : List.of(yOut, dxOut)) {
        float[] values = new float[TOKENS * HIDDEN];
        machine.device().read(b.mem(), values, 0, values.length);
        all.put(b.name(), values);
      }
      for (Parameters.Tensor t : parameters.trainable()) {
        float[] g = new float[(int) t.elements()];
        machine.device().read(t.part(t.group().grad()).mem(), g, 0, g.length);
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
}
