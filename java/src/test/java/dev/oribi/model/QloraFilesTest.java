package dev.oribi.model;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;

import dev.oribi.io.Checkpoint;
import dev.oribi.io.Json;
import dev.oribi.io.SafetensorsWriter;
import dev.oribi.io.TensorInfo;
import dev.oribi.io.TensorType;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.Kernels;
import dev.oribi.layer.Parameters.Tensor;
import dev.oribi.model.Decoder.Training;
import dev.oribi.model.config.ModelTensors;
import dev.oribi.model.config.LoraConfig;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.config.QuantizationConfig;
import dev.oribi.quant.Nf4Format;
import dev.oribi.testing.Compare;
import dev.oribi.testing.Nf4Reference;
import dev.oribi.testing.ReferenceDecoder.Sequence;
import dev.oribi.testing.StepFixture;
import dev.oribi.testing.StepFixture.Plan;
import dev.oribi.testing.TinyModels;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Folders in 4 bits: quantized on load, written, read again to the bit; and damaged ones, each refused with one line. */
class QloraFilesTest {
  /** gate and up have 320 blocks of 64: one whole and one begun block of blocks. */
  private static final ModelConfig CONFIG = TinyModels.config(64, 320, 1, 2, 1, 32, 13, "silu", false);

  private static final List<Sequence> BATCH = TinyModels.sequences(2, 13, 9, 4);
  private static final String GATE = "model.layers.0.mlp.gate_proj.weight";
  private static final Training ADAPTER =
      Training.adapter(LoraConfig.of(8, 16, 0, LoraConfig.ALL_LINEAR, false, List.of(), null));

  @TempDir Path temp;

  private Path plain;
  private Path quantized;

  @BeforeEach
  void write() throws IOException {
    plain = temp.resolve("plain");
    quantized = temp.resolve("quantized");
    try (StepFixture f = new StepFixture(CONFIG, Training.FULL, Plan.DEFAULT, 1)) {
      new ModelFiles(f.model(), f.weights(), null).write(plain);
    }
    try (StepFixture f = fixture(CONFIG, Training.NONE, QuantizationConfig.ON_LOAD, 2)) {
      f.weights().load(plain, null);
      new ModelFiles(f.model(), f.weights(), null).write(quantized);
    }
  }

  private static StepFixture fixture(ModelConfig config, Training training, QuantizationConfig quantization, long seed) {
    return new StepFixture(config, training, quantization, Plan.DEFAULT, seed);
  }

  @Test
  void whatIsQuantizedOnLoadIsWrittenAndReadToTheBit() throws IOException {
    ModelConfig config = ModelConfig.read(quantized);
    assertThat(config.quantization()).isEqualTo(new QuantizationConfig(List.of(), true));
    try (Checkpoint files = Checkpoint.open(quantized)) {
      ModelTensors.check(config, files);
      assertThat(files.tensor(GATE).type()).isEqualTo(TensorType.U8);
      assertThat(files.tensor(GATE).shape()).containsExactly(320 * 64 / 2, 1);
      assertThat(files.tensor(GATE + ".absmax").shape()).containsExactly(320);
      assertThat(files.tensor(GATE + ".nested_absmax").shape()).containsExactly(2);
      assertThat(files.tensor("lm_head.weight").type()).isEqualTo(TensorType.F32);
    }
    Path again = temp.resolve("again");
    try (StepFixture f = fixture(config, Training.NONE, config.quantization(), 3)) {
      f.weights().load(quantized, null);
      new ModelFiles(f.model(), f.weights(), null).write(again);
    }
    for (String file : List.of("model.safetensors", "config.json")) {
      assertThat(again.resolve(file)).hasSameBinaryContentAs(quantized.resolve(file));
    }
  }

  @Test
  void bothFoldersTrainAlike() {
    ModelConfig config = ModelConfig.read(quantized);
    for (DType type : List.of(DType.F32, DType.BF16)) {
      Plan plan = Plan.DEFAULT.type(type);
      try (StepFixture onLoad = new StepFixture(CONFIG, ADAPTER, QuantizationConfig.ON_LOAD, plan, 4);
          StepFixture stored = new StepFixture(config, ADAPTER, config.quantization(), plan, 4)) {
        onLoad.weights().load(plain, null);
        stored.weights().load(quantized, null);
        assertThat(stored.microStep(BATCH)).isEqualTo(onLoad.microStep(BATCH));
        Map<String, float[]> other = onLoad.gradients();
        stored.gradients().forEach((name, g) -> assertThat(g).as(name).isEqualTo(other.get(name)));
        assertThat(onLoad.model().loadingBytes()).isGreaterThanOrEqualTo(4 * 320 * 64);
        assertThat(stored.model().loadingBytes()).isZero();
      }
    }
  }

  @Test
  void quantizingIsThatOfThePlainReference() {
    try (StepFixture f = fixture(CONFIG, ADAPTER, QuantizationConfig.ON_LOAD, 5);
        Checkpoint files = Checkpoint.open(plain)) {
      f.weights().load(plain, null);
      for (Tensor t : f.model().parameters().tensors()) {
        if (t.nf4() != null) {
          float[] w = new float[(int) t.elements()];
          files.readFloats(files.tensor(t.name()), 0, java.nio.FloatBuffer.wrap(w));
          assertThat(Compare.relative(dequantized(f, t), Nf4Reference.roundTrip(w))).as(t.name()).isLessThan(1e-6);
        }
      }
    }
  }

  private static float[] dequantized(StepFixture f, Tensor t) {
    float[] values = new float[(int) t.elements()];
    try (var arena = f.machine().device().allocate("a matrix", 4L * values.length)) {
      f.machine().kernels().lora().nf4Dequantize(arena.all(), t.nf4().place(), t.shape()[0], t.shape()[1], t.shape()[1], DType.F32);
      f.machine().device().read(arena.all(), values, 0, values.length);
    }
    return values;
  }

  @Test
  void theTableOfScalesIsThatOfTheKernels() {
    assertThat(Nf4Format.dynamicMap()).usingComparatorWithPrecision(1e-7f).containsExactly(Kernels.dynamicMap(true));
  }

  @Test
  void anAdapterOnFourBitsIsSavedAndGoesOn() throws IOException {
    Path adapter = temp.resolve("adapter");
    ModelConfig config = ModelConfig.read(quantized);
    double loss;
    try (StepFixture f = fixture(config, ADAPTER, config.quantization(), 6)) {
      f.weights().load(quantized, null);
      f.microStep(BATCH);
      f.step().update(1, 1e-2);
      new ModelFiles(f.model(), f.weights(), quantized).write(adapter);
      loss = f.step().evaluate(TinyModels.batch(BATCH));
    }
    try (StepFixture f = fixture(config, Training.adapter(LoraConfig.read(adapter)), config.quantization(), 7)) {
      f.weights().load(quantized, adapter);
      assertThat(f.step().evaluate(TinyModels.batch(BATCH))).isEqualTo(loss);
    }
  }

  // ------------------------------------------------------------------------------------------------- damaged folders

  private record Raw(TensorType type, long[] shape, byte[] bytes) {
    Raw bytes(byte... other) {
      return new Raw(type, new long[] {other.length}, other);
    }

    Raw with(int at, float value) {
      byte[] copy = bytes.clone();
      ByteBuffer.wrap(copy).order(ByteOrder.LITTLE_ENDIAN).putFloat(4 * at, value);
      return new Raw(type, shape, copy);
    }

    Raw text(String from, String to) {
      String text = new String(bytes, StandardCharsets.UTF_8);
      assertThat(text).contains(from);
      return bytes(text.replace(from, to).getBytes(StandardCharsets.UTF_8));
    }
  }

  private void refused(Consumer<Map<String, Raw>> damage, String message) throws IOException {
    Map<String, Raw> tensors = new LinkedHashMap<>();
    try (Checkpoint files = Checkpoint.open(quantized)) {
      for (TensorInfo t : files.tensors().values()) {
        byte[] bytes = new byte[(int) t.bytes()];
        files.fileOf(t).slice(t, 0, bytes.length).get(bytes);
        tensors.put(t.name(), new Raw(t.type(), t.shape(), bytes));
      }
    }
    damage.accept(tensors);
    Path folder = Files.createTempDirectory(temp, "damaged");
    Files.copy(quantized.resolve("config.json"), folder.resolve("config.json"));
    SafetensorsWriter.write(
        folder.resolve("model.safetensors"),
        tensors.entrySet().stream().map(e -> new SafetensorsWriter.Tensor(e.getKey(), e.getValue().type, e.getValue().shape)).toList(),
        SafetensorsWriter.PT,
        (t, sink) -> sink.bytes(ByteBuffer.wrap(tensors.get(t.name()).bytes)));
    ModelConfig config = ModelConfig.read(folder);
    try (StepFixture f = fixture(config, ADAPTER, config.quantization(), 8)) {
      assertThatThrownBy(() -> f.weights().load(folder, null))
          .isInstanceOf(OribiException.class)
          .hasMessageContaining(message)
          .satisfies(e -> assertThat(e.getMessage().lines()).hasSize(1));
    }
  }

  @Test
  void damagedTensorsAreRefused() throws IOException {
    String state = GATE + Nf4Format.STATE;
    refused(t -> t.remove(GATE + ".absmax"), "has no tensor " + GATE + ".absmax");
    refused(t -> t.remove(state), "has no tensor " + state);
    refused(t -> t.remove(GATE), "has no tensor " + GATE);
    refused(t -> t.computeIfPresent(GATE, (n, r) -> r.bytes(new byte[100])), "has 100 bytes; [320, 64] in 4 bits takes 10240");
    refused(t -> t.computeIfPresent(GATE + ".absmax", (n, r) -> r.bytes(new byte[321])), "is U8[321]; expected U8[320]");
    refused(t -> t.put(GATE + ".absmax", new Raw(TensorType.F32, new long[] {320}, new byte[1280])), "without double quantization");
    refused(t -> t.put(GATE + ".nested_absmax", new Raw(TensorType.F32, new long[] {1}, new byte[4])), "is F32[1]; expected F32[2]");
    refused(t -> t.computeIfPresent(GATE + ".quant_map", (n, r) -> r.with(3, -0.4f)), "has -0.4 at 3 where bitsandbytes has -0.39491");
    refused(t -> t.computeIfPresent(GATE + ".nested_quant_map", (n, r) -> r.with(255, Float.NaN)), "has NaN at 255");
    refused(t -> t.computeIfPresent(state, (n, r) -> r.text("\"nf4\"", "\"fp4\"")), "quant_type is \"fp4\"; only \"nf4\"");
    refused(t -> t.computeIfPresent(state, (n, r) -> r.text("\"blocksize\":64", "\"blocksize\":0")), "blocksize is 0; only 64");
    refused(t -> t.computeIfPresent(state, (n, r) -> r.text("[320,64]", "[64,320]")), "shape is [64,320]; only [320,64]");
    refused(t -> t.computeIfPresent(state, (n, r) -> r.text("\"nested_offset\":", "\"nested_offset\":1e99,\"x\":")), "nested_offset must be a number");
    refused(t -> t.computeIfPresent(state, (n, r) -> r.text("{", "[")), "is not valid JSON");
    refused(t -> t.computeIfPresent(state, (n, r) -> r.bytes(new byte[1 << 15])), "expected JSON of at most");
    refused(t -> t.put(GATE + ".quant_state.bitsandbytes__fp4", t.remove(state)), "is in FP4, which is not supported");
    refused(t -> t.put(GATE + ".scb", t.get(state)), "has no place in a llama model");
  }

  @Test
  void configAndWeightsMustAgree() throws IOException {
    refused(
        t -> Nf4Format.SUFFIXES.forEach(s -> t.remove(GATE + s)),
        "is not in 4 bits although quantization_config of config.json says so");
    Path folder = temp.resolve("skips");
    Files.createDirectory(folder);
    Files.copy(quantized.resolve("model.safetensors"), folder.resolve("model.safetensors"));
    ObjectNode json = Json.readObject(quantized.resolve("config.json"));
    ((ObjectNode) json.get("quantization_config")).putArray("llm_int8_skip_modules").add("lm_head").add("gate_proj");
    Json.write(folder.resolve("config.json"), json);
    ModelConfig config = ModelConfig.read(folder);
    try (StepFixture f = fixture(config, ADAPTER, config.quantization(), 8)) {
      assertThatThrownBy(() -> f.weights().load(folder, null)).hasMessageContaining(GATE + " is in 4 bits, and config.json does not say so");
    }
  }
}
