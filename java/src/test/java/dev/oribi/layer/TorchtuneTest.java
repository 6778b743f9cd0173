package dev.oribi.layer;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import dev.oribi.device.Device;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.Kernels.Activation;
import dev.oribi.kernel.Kernels.NormWeight;
import dev.oribi.layer.DecoderLayer.Packing;
import dev.oribi.layer.DecoderLayer.Stream;
import dev.oribi.layer.Parameters.Param;
import dev.oribi.layer.Parameters.Tensor;
import dev.oribi.model.Decoder;
import dev.oribi.model.Machine;
import dev.oribi.model.config.RopeConfig;
import dev.oribi.program.Buffer;
import dev.oribi.program.Buffer.Lifetime;
import dev.oribi.program.Buffer.Rows;
import dev.oribi.program.Emit;
import dev.oribi.program.Emit.Heads;
import dev.oribi.program.Emit.RopeTable;
import dev.oribi.program.Executor;
import dev.oribi.program.Plan;
import dev.oribi.program.Program;
import dev.oribi.program.Run;
import dev.oribi.program.View;
import dev.oribi.testing.TestMachine;
import dev.oribi.text.TestData;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.stream.IntStream;
import org.assertj.core.data.Offset;
import org.junit.jupiter.api.Test;

/**
 * The layers with adapters against the published values of torchtune's tests: every weight is a ramp from 0 to 1, the mean of
 * the output is what is compared. Its rotary pairs lie side by side, so the rows of q_proj and k_proj change places.
 */
class TorchtuneTest {
  private static final Heads HEADS = new Heads(4, 2, 16);
  private static final int SEQUENCES = 2;
  private static final int LENGTH = 32;
  private static final int TOKENS = SEQUENCES * LENGTH;
  private static final int HIDDEN = 64;

  /** A program under construction, with the adapters of one case. */
  private static final class Build {
    final Parameters parameters = new Parameters(DType.F32);
    final Program program = new Program("torchtune");
    final Emit emit;
    final Packing packing;
    final RopeTable table;
    final Set<String> adapted;
    final int rank;
    final float scale;

    Build(Machine machine, JsonNode c, Set<String> adapted) {
      this.adapted = adapted;
      rank = c.get("rank").intValue();
      scale = (float) (c.get("alpha").doubleValue() / rank);
      emit = new Emit(program, new Emit.Sizes(TOKENS, TOKENS, SEQUENCES, LENGTH, DType.F32, false, 0), machine.library());
      table = new RopeTable(angles("cos"), angles("sin"));
      packing =
          new Packing(
              Decoder.io("positions", DType.I32, Rows.TOKENS, TOKENS), Decoder.io("cu_seqlens", DType.I32, Rows.FIXED, SEQUENCES + 1),
              null);
    }

    private static Buffer angles(String name) {
      return new Buffer(name, Lifetime.WEIGHT, DType.F32, Rows.FIXED, LENGTH, HEADS.headDim() / 2);
    }

    /** Projections of one input, each [out, in], those of {@code adapted} with an adapter. */
    Linear linear(String layer, long in, List<String> modules, long... out) {
      Param weight = parameters.stack(modules.stream().map(m -> layer + m).toList(), out, in, false, false, true);
      List<String> withAdapter = modules.stream().filter(adapted::contains).toList();
      if (withAdapter.isEmpty()) {
        return new Linear(layer + modules.get(0), weight, null);
      }
      long[] ranks = new long[withAdapter.size()];
      Arrays.fill(ranks, rank);
      Param a = parameters.stack(withAdapter.stream().map(m -> layer + m + ".A").toList(), ranks, in, false, true, true);
      List<Linear.Adapter> adapters = new ArrayList<>();
      long row = 0;
      for (int i = 0; i < out.length; i++) {
        String m = modules.get(i);
        if (adapted.contains(m)) {
          Param b = parameters.add(layer + m + ".B", out[i], rank, false, true, true);
          adapters.add(new Linear.Adapter(row, out[i], (long) rank * adapters.size(), rank, b, scale, 0));
        }
        row += out[i];
      }
      return new Linear(layer + modules.get(0), weight, new Linear.Lora(a, null, adapters, 0));
    }

    Linear qkv(String layer) {
      return linear(layer, HIDDEN, List.of("q_proj", "k_proj", "v_proj"), HEADS.q(), HEADS.kv(), HEADS.kv());
    }

    Norm norm(String name) {
      return new Norm(name, parameters.add(name, 1, HIDDEN, true, false, false), 1e-5f, NormWeight.PLAIN);
    }

    DecoderLayer decoder(String layer, int intermediate) {
      return new DecoderLayer(
          layer, norm(layer + "sa_norm"),
          new SelfAttention(
              layer, HEADS, table, qkv(layer), linear(layer, HIDDEN, List.of("output_proj"), HIDDEN), SelfAttention.Norms.NONE),
          norm(layer + "mlp_norm"),
          new GatedMlp(
              layer, Activation.SILU, linear(layer, HIDDEN, List.of("gate_proj", "up_proj"), intermediate, intermediate),
              linear(layer, intermediate, List.of("down_proj"), HIDDEN), null));
    }
  }

  /** Takes the memory, fills ramps, runs, and returns the mean of the output. */
  private static double mean(Machine machine, Build b, Buffer out, Buffer in, float[] x, int[] ids) {
    List<Buffer> held = new ArrayList<>(b.parameters.buffers());
    held.addAll(List.of(b.packing.positions(), b.packing.cuSeqlens(), b.table.cos(), b.table.sin()));
    try (Plan plan = new Plan(List.of(b.program), held)) {
      plan.take(machine.device(), "a test");
      Device d = machine.device();
      b.parameters.tensors().forEach(t -> d.write((t.trainable() ? t.part(t.group().value()) : t.value()).mem(), ramp(t), 0, (int) t.elements()));
      fillAngles(d, b.table);
      d.write(b.packing.positions().mem(), IntStream.range(0, TOKENS).map(i -> i % LENGTH).toArray(), TOKENS);
      d.write(b.packing.cuSeqlens().mem(), new int[] {0, LENGTH, TOKENS}, SEQUENCES + 1);
      if (ids != null) {
        d.write(in.mem(), ids, ids.length);
      } else {
        d.write(in.mem(), x, 0, x.length);
      }
      new Executor().run(b.program, new Run(machine.library(), TOKENS, TOKENS, SEQUENCES, LENGTH, 0));
      float[] values = new float[(int) (out.rows() * out.cols())];
      d.read(out.mem(), values, 0, values.length);
      return IntStream.range(0, values.length).mapToDouble(i -> values[i]).average().orElseThrow();
    }
  }

  private static float[] ramp(Tensor t) {
    int n = (int) t.elements();
    int cols = (int) t.shape()[t.shape().length - 1];
    boolean turned = t.name().matches(".*[qk]_proj(\\.B)?");
    int d = HEADS.headDim();
    float[] values = new float[n];
    for (int k = 0; k < n; k++) {
      int row = k / cols;
      int split = turned ? row - row % d + row % d / 2 + row % 2 * (d / 2) : row;
      values[split * cols + k % cols] = (float) k / n;
    }
    return values;
  }

  private static void fillAngles(Device d, RopeTable table) {
    float[] invFreq = RopeConfig.plain(10_000).invFreq(HEADS.headDim());
    float[] cos = new float[LENGTH * invFreq.length];
    float[] sin = new float[cos.length];
    for (int i = 0; i < cos.length; i++) {
      cos[i] = (float) Math.cos((double) (i / invFreq.length) * invFreq[i % invFreq.length]);
      sin[i] = (float) Math.sin((double) (i / invFreq.length) * invFreq[i % invFreq.length]);
    }
    d.write(table.cos().mem(), cos, 0, cos.length);
    d.write(table.sin().mem(), sin, 0, sin.length);
  }

  private static Buffer io(String name, long cols) {
    return new Buffer(name, Lifetime.IO, DType.F32, Rows.TOKENS, TOKENS, cols);
  }

  private static List<JsonNode> named(JsonNode file, String name) {
    List<JsonNode> all = new ArrayList<>();
    file.get("cases").forEach(c -> {
      if (c.get("name").textValue().equals(name)) {
        all.add(c);
      }
    });
    assertThat(all).as(name).isNotEmpty();
    return all;
  }

  private static float[] input(JsonNode file) {
    JsonNode list = file.get("inputs").get("x_2x32x64");
    float[] x = new float[list.size()];
    for (int i = 0; i < x.length; i++) {
      x[i] = list.get(i).floatValue();
    }
    return x;
  }

  private static Set<String> modules(JsonNode list) {
    Set<String> all = new HashSet<>();
    list.forEach(m -> all.add(m.textValue()));
    return all;
  }

  /** The ninth case is a loss for preferences, which is not ours yet. */
  @Test
  void eightOfNineCasesApply() throws IOException {
    JsonNode cases = TestData.json("numeric/torchtune.json").get("cases");
    List<String> others = new ArrayList<>();
    cases.forEach(c -> others.add(c.get("name").textValue()));
    others.removeIf(Set.of("lora_linear", "lora_llama2_self_attention", "lora_llama2_model", "llama3_1_scaled_rope_cache")::contains);
    System.out.println("torchtune: " + (cases.size() - others.size()) + " of " + cases.size() + " cases apply");
    assertThat(others).containsExactly("dpo_loss");
  }

  @Test
  void linear() throws IOException {
    JsonNode file = TestData.json("numeric/torchtune.json");
    for (JsonNode c : named(file, "lora_linear")) {
      int out = c.get("out_dim").intValue();
      try (Machine machine = TestMachine.open(2)) {
        Build b = new Build(machine, c, Set.of("proj"));
        Buffer x = io("x", HIDDEN);
        Buffer y = io("y", out);
        forward(b, b.linear("", HIDDEN, List.of("proj"), out), y, x);
        double meanOfBias = (out - 1) / 2.0 / out; // our layers have none; it adds its mean, which is that of a ramp
        assertThat(mean(machine, b, y, x, input(file), null) + meanOfBias)
            .isEqualTo(c.get("expected_output_mean").doubleValue(), within(c.get("atol").doubleValue()));
      }
    }
  }

  private static void forward(Build b, Linear linear, Buffer y, Buffer x) {
    Buffer h = linear.h(b.emit);
    linear.emitForward(b.emit, View.of(y), View.of(x), h == null ? null : View.of(h));
  }

  private static Offset<Double> within(double tolerance) {
    return Offset.offset(tolerance);
  }

  @Test
  void selfAttention() throws IOException {
    JsonNode file = TestData.json("numeric/torchtune.json");
    List<JsonNode> cases = named(file, "lora_llama2_self_attention");
    assertThat(cases).hasSize(3);
    for (JsonNode c : cases) {
      try (Machine machine = TestMachine.open(2)) {
        Build b = new Build(machine, c, modules(c.get("lora_modules")));
        Buffer x = io("x", HIDDEN);
        Buffer y = io("y", HIDDEN);
        Buffer qkv = b.emit.activation("qkv", HEADS.all());
        forward(b, b.qkv(""), qkv, x);
        b.emit.rope("rope", qkv, HEADS, b.table, b.packing.positions(), false);
        Buffer o = b.emit.activation("o", HEADS.q());
        b.emit.attention("attention", o, null, HEADS.of(qkv), HEADS, b.packing.cuSeqlens(), null);
        forward(b, b.linear("", HIDDEN, List.of("output_proj"), HIDDEN), y, o);
        assertThat(mean(machine, b, y, x, input(file), null))
            .isEqualTo(c.get("expected_output_mean").doubleValue(), within(c.get("atol").doubleValue()));
      }
    }
  }

  /** Three decoder layers between embedding and head, with no last norm. */
  @Test
  void model() throws IOException {
    JsonNode file = TestData.json("numeric/torchtune.json");
    List<JsonNode> cases = named(file, "lora_llama2_model");
    assertThat(cases).hasSize(3);
    for (JsonNode c : cases) {
      Set<String> adapted = modules(c.get("lora_attn_modules"));
      if (c.get("apply_lora_to_mlp").booleanValue()) {
        adapted.addAll(List.of("gate_proj", "up_proj", "down_proj"));
      }
      if (c.get("apply_lora_to_output").booleanValue()) {
        adapted.add("head");
      }
      int vocabulary = c.get("vocab").intValue();
      try (Machine machine = TestMachine.open(2)) {
        Build b = new Build(machine, c, adapted);
        Buffer ids = Decoder.io("ids", DType.I32, Rows.TOKENS, TOKENS);
        Buffer logits = io("logits", vocabulary);
        Buffer r = b.emit.activation("r", HIDDEN);
        b.emit.embedding("embedding", r, b.parameters.add("embedding", vocabulary, HIDDEN, false, false, true).value(), ids);
        Stream stream = new Stream(r, null);
        for (int i = 0; i < c.get("layers").intValue(); i++) {
          Saved nothing = new Saved(Saving.REBUILD);
          stream = b.decoder("layers." + i + ".", c.get("hidden_dim").intValue()).emitForward(b.emit, stream, b.packing, nothing);
        }
        Buffer last = b.emit.activation("last", HIDDEN);
        b.emit.add("last", last, stream.r(), stream.delta());
        forward(b, b.linear("", HIDDEN, List.of("head"), vocabulary), logits, last);
        List<Integer> tokens = new ArrayList<>();
        file.get("inputs").get("ids_2x32").forEach(row -> row.forEach(t -> tokens.add(t.intValue())));
        double expected = c.get("expected_output_mean").doubleValue();
        assertThat(mean(machine, b, logits, ids, null, tokens.stream().mapToInt(Integer::intValue).toArray()))
            .isEqualTo(expected, within(c.get("rtol").doubleValue() * expected));
      }
    }
  }

  /** The cosines and sines of Llama 3.1's scaled frequencies. */
  @Test
  void scaledRope() throws IOException {
    for (JsonNode c : named(TestData.json("numeric/torchtune.json"), "llama3_1_scaled_rope_cache")) {
      RopeConfig rope =
          new RopeConfig(
              "llama3", c.get("base").doubleValue(), c.get("scale_factor").doubleValue(), c.get("low_freq_factor").doubleValue(),
              c.get("high_freq_factor").doubleValue(), c.get("original_context").intValue());
      double sum = 0;
      double max = 0;
      float[] invFreq = rope.invFreq(c.get("dim").intValue());
      int positions = c.get("max_seq_len").intValue();
      for (int p = 0; p < positions; p++) {
        for (float f : invFreq) {
          double angle = p * (double) f;
          sum += Math.cos(angle) + Math.sin(angle);
          max = Math.max(max, Math.max(Math.cos(angle), Math.sin(angle)));
        }
      }
      assertThat(sum).isEqualTo(c.get("expected_sum").doubleValue(), within(c.get("atol").get("sum").doubleValue()));
      assertThat(sum / (2.0 * positions * invFreq.length))
          .isEqualTo(c.get("expected_mean").doubleValue(), within(c.get("atol").get("mean").doubleValue()));
      assertThat(max).isEqualTo(c.get("expected_max").doubleValue());
    }
  }
}
