package dev.oribi.kernel;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import dev.oribi.device.Arena;
import dev.oribi.device.Device;
import dev.oribi.device.Mem;
import dev.oribi.model.Machine;
import dev.oribi.model.config.RopeConfig;
import dev.oribi.testing.TestMachine;
import dev.oribi.text.TestData;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** The kernels against the published snapshots of Stanford's course CS336: attention, rotary positions, AdamW. */
class Cs336Test {
  private static final String FILE = "numeric/cs336-attention-rope-adamw-lr.json";

  private Machine machine;
  private Device device;
  private Kernels kernels;
  private final List<Arena> arenas = new ArrayList<>();

  @BeforeEach
  void open() {
    machine = TestMachine.open(2);
    device = machine.device();
    kernels = machine.kernels();
  }

  @AfterEach
  void close() {
    arenas.forEach(Arena::close);
    machine.close();
  }

  /** The fourth case is a schedule that ends above zero, which ours does not. */
  @Test
  void threeOfFourCasesApply() throws IOException {
    List<String> names = new ArrayList<>();
    TestData.json(FILE).get("cases").forEach(c -> names.add(c.get("name").textValue()));
    System.out.println("CS336: 3 of " + names.size() + " cases apply");
    assertThat(names).containsExactly(
        "scaled_dot_product_attention", "rope_interleaved", "adamw_1000_steps", "lr_cosine_with_warmup");
  }

  private static JsonNode named(String name) throws IOException {
    for (JsonNode c : TestData.json(FILE).get("cases")) {
      if (c.get("name").textValue().equals(name)) {
        return c;
      }
    }
    throw new AssertionError(FILE + " has no case " + name);
  }

  private Mem floats(float[] values) {
    Mem m = room(values.length);
    device.write(m, values, 0, values.length);
    return m;
  }

  private Mem ints(int[] values) {
    Mem m = room(values.length);
    device.write(m, values, values.length);
    return m;
  }

  private Mem room(int count) {
    Arena arena = device.allocate("a test", 4L * count);
    arenas.add(arena);
    return arena.all();
  }

  private float[] read(Mem m, int count) {
    float[] values = new float[count];
    device.read(m, values, 0, count);
    return values;
  }

  /** The numbers of nested lists, in order. */
  private static float[] flat(JsonNode lists) {
    List<Double> all = new ArrayList<>();
    collect(lists, all);
    float[] values = new float[all.size()];
    for (int i = 0; i < values.length; i++) {
      values[i] = all.get(i).floatValue();
    }
    return values;
  }

  private static void collect(JsonNode node, List<Double> into) {
    if (node.isArray()) {
      node.forEach(n -> collect(n, into));
    } else {
      into.add(node.isBoolean() ? node.booleanValue() ? 1.0 : 0.0 : node.doubleValue());
    }
  }

  private static void assertNear(float[] found, float[] expected, double tolerance) {
    assertThat(found).hasSameSizeAs(expected);
    for (int i = 0; i < found.length; i++) {
      assertThat(!(Math.abs(found[i] - expected[i]) <= tolerance)).as("%d: %s, expected %s", i, found[i], expected[i]).isFalse();
    }
  }

  /**
   * The snapshot has a mask of any form. Here each query is a sequence of its own, whose keys are those that it may see, laid
   * one after the other as in a cache.
   */
  @Test
  void attention() throws IOException {
    JsonNode c = named("scaled_dot_product_attention");
    int d = 64;
    int keys = 16;
    float[] q = flat(c.get("inputs").get("q"));
    float[] k = flat(c.get("inputs").get("k"));
    float[] v = flat(c.get("inputs").get("v"));
    float[] mask = flat(c.get("inputs").get("mask"));
    int n = q.length / d;
    int queriesOfBatch = n / (k.length / d / keys);
    float[] seenK = new float[n * keys * d];
    float[] seenV = new float[n * keys * d];
    int[] begin = new int[n];
    int[] count = new int[n];
    int[] cuSeqlens = new int[n + 1];
    for (int i = 0; i < n; i++) {
      cuSeqlens[i + 1] = i + 1;
      begin[i] = i * keys;
      for (int j = 0; j < keys; j++) {
        if (mask[i * keys + j] == 1) {
          int from = (i / queriesOfBatch * keys + j) * d;
          System.arraycopy(k, from, seenK, (begin[i] + count[i]) * d, d);
          System.arraycopy(v, from, seenV, (begin[i] + count[i]) * d, d);
          count[i]++;
        }
      }
    }
    AttentionShape shape = new AttentionShape(
        n, n, 1, 1, 1, d, d, d, d, d, ints(cuSeqlens), ints(begin), ints(count), 1f / 8, 0, 0, DType.F32);
    Mem o = room(n * d);
    Mem workspace = room((int) (kernels.attentionWorkspace(shape, false) / 4 + 16));
    kernels.attentionForward(o, null, floats(q), floats(seenK), floats(seenV), workspace, shape);
    assertNear(read(o, n * d), flat(c.get("expected").get("array")), c.get("tolerance").doubleValue());
  }

  /** The snapshot turns pairs (2i, 2i+1); ours are (i, i + D/2): the columns change places before and after. */
  @Test
  void rope() throws IOException {
    JsonNode c = named("rope_interleaved");
    int d = 64;
    int positions = 12;
    float[] x = flat(c.get("inputs").get("x"));
    int n = x.length / d;
    float[] invFreq = RopeConfig.plain(c.get("params").get("theta").doubleValue()).invFreq(d);
    float[] cos = new float[positions * d / 2];
    float[] sin = new float[cos.length];
    for (int i = 0; i < cos.length; i++) {
      double angle = (double) (i / (d / 2)) * invFreq[i % (d / 2)];
      cos[i] = (float) Math.cos(angle);
      sin[i] = (float) Math.sin(angle);
    }
    int[] position = new int[n];
    for (int i = 0; i < n; i++) {
      position[i] = i % positions;
    }
    Mem q = floats(halfSplit(x, d, true));
    Mem k = floats(halfSplit(x, d, true));
    kernels.rope(q, k, floats(cos), floats(sin), ints(position), n, 1, 1, d, d, d, positions, false, DType.F32);
    float[] expected = flat(c.get("expected").get("array"));
    assertNear(halfSplit(read(q, x.length), d, false), expected, c.get("tolerance").doubleValue());
    assertNear(halfSplit(read(k, x.length), d, false), expected, c.get("tolerance").doubleValue());
  }

  private static float[] halfSplit(float[] x, int d, boolean to) {
    float[] y = new float[x.length];
    for (int i = 0; i < x.length; i++) {
      int column = i % d;
      int split = i - column + column / 2 + column % 2 * (d / 2);
      y[to ? split : i] = x[to ? i : split];
    }
    return y;
  }

  /** A thousand updates of a small regression, whose gradient the test takes by hand. */
  @Test
  void adamw() throws IOException {
    JsonNode c = named("adamw_1000_steps");
    JsonNode params = c.get("params");
    float[] x = flat(c.get("inputs").get("x"));
    Mem w = floats(flat(c.get("inputs").get("w0")));
    Mem m = floats(new float[6]);
    Mem v = floats(new float[6]);
    Mem gradient = room(6);
    Mem numbers = room(AdamwHyper.BYTES / 4);
    for (int step = 1; step <= x.length / 3; step++) {
      float[] now = read(w, 6);
      float[] row = {x[3 * step - 3], x[3 * step - 2], x[3 * step - 1]};
      float[] target = {row[0] + row[1], -row[2]};
      float[] g = new float[6];
      for (int i = 0; i < 2; i++) {
        double error = -target[i];
        for (int j = 0; j < 3; j++) {
          error += now[3 * i + j] * row[j];
        }
        for (int j = 0; j < 3; j++) {
          g[3 * i + j] = (float) (2 * error * row[j]);
        }
      }
      AdamwHyper hyper =
          new AdamwHyper(
              params.get("lr").doubleValue(), params.get("betas").get(0).doubleValue(),
              params.get("betas").get(1).doubleValue(), params.get("eps").doubleValue(),
              params.get("weight_decay").doubleValue(), step);
      device.write(gradient, g, 0, 6);
      device.write(numbers, hyper.bytes());
      kernels.adamw(w, null, m, v, gradient, null, numbers, 6, DType.F32);
    }
    assertNear(read(w, 6), flat(c.get("expected").get("array")), c.get("tolerance").doubleValue());
    assertNear(read(w, 6), flat(c.get("pytorch_adamw_result")), 2e-6);
  }
}
