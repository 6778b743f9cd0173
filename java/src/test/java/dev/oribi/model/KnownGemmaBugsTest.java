package dev.oribi.model;

import static org.assertj.core.api.Assertions.assertThat;

import dev.oribi.device.Arena;
import dev.oribi.device.Device;
import dev.oribi.device.Mem;
import dev.oribi.io.Half;
import dev.oribi.io.Json;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.Kernels.NormWeight;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.config.RopeConfig;
import dev.oribi.model.family.Architecture.SelfAttentionSpec;
import dev.oribi.program.Emit.RopeTable;
import dev.oribi.testing.SmallDecoder;
import dev.oribi.testing.TestMachine;
import dev.oribi.text.ChatTemplate;
import dev.oribi.text.Message;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * The bugs of Gemma's first implementations: https://unsloth.ai/blog/gemma-bugs, with the pull requests 29285 and 29402 of
 * huggingface/transformers. The first, a missing beginning of the text, is in {@code KnownTemplateBugsTest}.
 */
class KnownGemmaBugsTest {
  private static final String CONFIG = """
      {"model_type": "gemma", "architectures": ["GemmaForCausalLM"], "vocab_size": 8, "hidden_size": %d, "intermediate_size": 8,
       "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 16, "rms_norm_eps": 1e-6,
       "max_position_embeddings": 8192, "hidden_act": "gelu", "torch_dtype": "bfloat16"%s}
      """;

  /** Of Gemma's published template. */
  private static final String TEMPLATE = "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'assistant') %}"
      + "{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' +"
      + " message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}"
      + "{% endif %}";

  private static ModelConfig config(int hidden, String more) {
    return ModelConfig.parse(Json.parse(String.format(CONFIG, hidden, more), "config.json"), "config.json");
  }

  // ------------------------------------------------------------------------------------------------- 2: the template

  /** The paper writes {@code <end_of_turn>model}; the models were trained with a new turn and a line's end after "model". */
  @Test
  void theTemplateOpensTheTurnOfTheModel() {
    List<Map<String, Object>> asked = List.of(new Message("user", "Hello").toMap());
    assertThat(ChatTemplate.parse(TEMPLATE).render(asked, true, Map.of("bos_token", "<bos>")).text())
        .isEqualTo("<bos><start_of_turn>user\nHello<end_of_turn>\n<start_of_turn>model\n");
  }

  // --------------------------------------------------------------------------------------------------- 3: embedding

  /** The root of the hidden size is rounded to bfloat16 before it multiplies: 55.4256 is 55.5, 45.2548 is 45.25. */
  @ParameterizedTest
  @CsvSource({"3072, 55.5", "2048, 45.25"})
  void theScaleOfTheEmbeddingIsRoundedFirst(int hidden, float scale) {
    try (SmallDecoder model = new SmallDecoder(config(hidden, ""), DType.BF16, 8)) {
      assertThat(model.embedded(1)).containsOnly(scale);
      float telling = 1;
      while (rounded(telling * scale) == rounded(telling * (float) Math.sqrt(hidden))) {
        telling += 0x1p-7f; // the next number of bfloat16
      }
      assertThat(model.embedded(telling)).containsOnly(rounded(telling * scale));
    }
  }

  private static float rounded(float value) {
    return Half.fromBf16(Half.toBf16(value));
  }

  // -------------------------------------------------------------------------------------------------------- 4: norm

  /** x * (1 + w) in fp32 and rounded once. Rounding the quotient first, as Llama's norm does, errs by up to twice as much. */
  @Test
  void theNormIsRoundedOnce() {
    int rows = 32;
    int cols = 128;
    short[] x = random16(rows * cols, 1, 5);
    short[] w = random16(cols, 0.5f, 6);
    float[] y = norm(x, w, rows, cols);
    int wouldBeOff = 0;
    for (int i = 0; i < y.length; i++) {
      double quotient = Half.fromBf16(x[i]) / rms(x, i / cols * cols, cols);
      double weight = 1.0 + Half.fromBf16(w[i % cols]);
      double exact = quotient * weight;
      double halfUlp = Math.ulp((float) exact) * 0x1p15;
      assertThat(Math.abs(y[i] - exact)).as("element %d, %g", i, exact).isLessThanOrEqualTo(halfUlp * 1.001);
      double roundedFirst = rounded((float) (rounded((float) quotient) * weight));
      wouldBeOff += Math.abs(roundedFirst - exact) > halfUlp * 1.001 ? 1 : 0;
    }
    assertThat(wouldBeOff).as("elements that Llama's order gets wrong").isGreaterThan(y.length / 20);
  }

  private static double rms(short[] x, int from, int cols) {
    double squares = 0;
    for (int i = from; i < from + cols; i++) {
      squares += (double) Half.fromBf16(x[i]) * Half.fromBf16(x[i]);
    }
    return Math.sqrt(squares / cols + 1e-6);
  }

  private static short[] random16(int count, float std, long seed) {
    Random random = new Random(seed);
    short[] values = new short[count];
    for (int i = 0; i < count; i++) {
      values[i] = Half.toBf16((float) (std * random.nextGaussian()));
    }
    return values;
  }

  private static float[] norm(short[] x, short[] w, int rows, int cols) {
    try (Machine machine = TestMachine.open();
        Arena arena = machine.device().allocate("a test", 5L * x.length + 4096)) {
      Device d = machine.device();
      Mem in = put(d, arena.all(), 0, x);
      Mem weight = put(d, arena.all(), 2L * x.length, w);
      Mem out = arena.all().slice(2L * x.length + 2L * cols, 2L * x.length);
      Mem rstd = arena.all().slice(4L * x.length + 2L * cols, 4L * rows);
      machine.kernels().rmsNormForward(out, rstd, in, weight, rows, cols, 1e-6f, NormWeight.ONE_PLUS, DType.BF16);
      machine.kernels().synchronize();
      return get(d, out);
    }
  }

  private static Mem put(Device d, Mem all, long at, short[] values) {
    Mem mem = all.slice(at, 2L * values.length);
    ByteBuffer bytes = ByteBuffer.allocate(2 * values.length).order(ByteOrder.nativeOrder());
    bytes.asShortBuffer().put(values);
    d.write(mem, bytes);
    return mem;
  }

  private static float[] get(Device d, Mem mem) {
    ByteBuffer bytes = ByteBuffer.allocate((int) mem.bytes()).order(ByteOrder.nativeOrder());
    d.read(mem, bytes);
    bytes.rewind();
    float[] values = new float[(int) (mem.bytes() / 2)];
    for (int i = 0; i < values.length; i++) {
      values[i] = Half.fromBf16(bytes.getShort());
    }
    return values;
  }

  // ------------------------------------------------------------------------------------------- 5, 6, 7: positions

  /**
   * Positions 8,190 and 8,191 are both 8,192 in bfloat16. Ours are whole numbers and the tables of cosines and sines of a
   * bfloat16 model are fp32: neighbours differ, and each is that of the exact angle but for fp32's own rounding.
   */
  @Test
  void tablesAreExactInABfloat16Model() {
    ModelConfig config = config(32, "");
    try (SmallDecoder model = new SmallDecoder(config, DType.BF16, 8192)) {
      RopeTable table = model.model().ropeTables().get(config.rope());
      float[] cos = model.angles(table, true);
      float[] sin = model.angles(table, false);
      int pairs = config.headDim() / 2;
      assertThat(cos).hasSize(8192 * pairs);
      assertThat(cos[8190 * pairs]).isNotEqualTo(cos[8191 * pairs]);
      for (int p : new int[] {0, 1, 255, 257, 8190, 8191}) {
        for (int i = 0; i < pairs; i++) {
          double exact = p / Math.pow(10_000, 2.0 * i / config.headDim());
          // fp32 holds a frequency to 2^-24 of it, so an angle to that part of itself.
          double allowed = Math.max(1, exact) * 0x1p-23;
          assertThat(Math.abs(cos[p * pairs + i] - Math.cos(exact))).as("cos of pair %d at %d", i, p).isLessThan(allowed);
          assertThat(Math.abs(sin[p * pairs + i] - Math.sin(exact))).as("sin of pair %d at %d", i, p).isLessThan(allowed);
        }
      }
    }
  }

  /**
   * Gemma divides the position by base^(2i/d), transformers multiplied it by a rounded reciprocal, and does again. Ours are
   * transformers 5's, to the bit of the goldens: a few units of the last place from the exact quotient, for fp32's power.
   */
  @ParameterizedTest
  @ValueSource(ints = {128, 256})
  void frequenciesAreTheExactQuotients(int headDim) {
    for (double base : new double[] {10_000, 1_000_000}) {
      float[] found = RopeConfig.plain(base).invFreq(headDim);
      for (int i = 0; i < found.length; i++) {
        double exact = 1 / Math.pow(base, 2.0 * i / headDim);
        assertThat(Math.abs(found[i] - exact)).as("pair %d", i).isLessThanOrEqualTo(16 * Math.ulp((float) exact));
      }
    }
  }

  // -------------------------------------------------------------------------------------------------- 8: activation

  /** The first files say "gelu", the exact function; the models were trained with the approximation by tanh. */
  @Test
  void geluIsTheApproximation() {
    assertThat(config(32, "").hiddenAct()).isEqualTo("gelu_pytorch_tanh");
    assertThat(config(32, ", \"hidden_activation\": \"gelu_pytorch_tanh\"").hiddenAct()).isEqualTo("gelu_pytorch_tanh");
    assertThat(config(32, ", \"hidden_activation\": null").hiddenAct()).isEqualTo("gelu_pytorch_tanh");
  }

  // --------------------------------------------------------------------------------------------------------- Gemma 2

  /** The 27B model scales scores by the root of 144, not of its heads of 128: https://github.com/google/gemma_pytorch. */
  @ParameterizedTest
  @CsvSource({"144, 128", "256, 256", "224, 256"})
  void scoresAreScaledByTheirOwnNumber(int scalar, int headDim) {
    String json = String.format(CONFIG, 64, ", \"query_pre_attn_scalar\": " + scalar).replace("gemma\"", "gemma2\"")
        .replace("GemmaFor", "Gemma2For").replace("\"head_dim\": 16", "\"head_dim\": " + headDim);
    ModelConfig config = ModelConfig.parse(Json.parse(json, "config.json"), "config.json");
    SelfAttentionSpec attention = (SelfAttentionSpec) config.architecture().layers().get(0).attention();
    assertThat(attention.scale()).isEqualTo(Math.pow(scalar, -0.5));
  }
}
