package dev.oribi.model;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import dev.oribi.export.ExportFormat;
import dev.oribi.export.Exporter;
import dev.oribi.export.GgufMix;
import dev.oribi.generate.Generator;
import dev.oribi.generate.TextModel;
import dev.oribi.gguf.GgufFile;
import dev.oribi.gguf.GgufFolder;
import dev.oribi.gguf.GgufModel;
import dev.oribi.gguf.GgufTensor;
import dev.oribi.io.Checkpoint;
import dev.oribi.io.Json;
import dev.oribi.io.SafetensorsWriter;
import dev.oribi.io.TensorInfo;
import dev.oribi.io.TensorType;
import dev.oribi.kernel.DType;
import dev.oribi.layer.Parameters.Tensor;
import dev.oribi.model.Decoder.Training;
import dev.oribi.model.config.ModelTensors;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.config.TensorSpec;
import dev.oribi.program.Emit;
import dev.oribi.testing.FamilyConfigs;
import dev.oribi.testing.RandomAdapter;
import dev.oribi.testing.RandomModel;
import dev.oribi.testing.TestMachine;
import dev.oribi.testing.TokenizerOnlyModel;
import dev.oribi.text.TestData;
import dev.oribi.text.Tokenizer;
import dev.oribi.train.StorageType;
import dev.oribi.train.Trace;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Named;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

/** A GGUF file as the base: loss and every gradient of an adapter on its blocks are those on the same numbers in fp32. */
class GgufBaseTest {
  private static final Path TINY = Path.of("../models/tiny/model");
  private static final int PROMPTS = 60;
  private static final int SHORT = 9;
  private static final int LONG = 40;

  @TempDir private Path folder;

  /** The tiny model's tokenizer around random weights whose rows hold whole blocks of 256; own head or not. */
  private Path random(boolean tied) throws IOException {
    Path model = Files.createDirectory(folder.resolve("model"));
    ModelFiles.copyCompanions(TINY, model);
    ObjectNode json = Json.readObject(TINY.resolve(ModelConfig.FILE));
    json.put("hidden_size", 256).put("intermediate_size", 512).put("num_attention_heads", 4).put("num_key_value_heads", 2)
        .put("head_dim", 64).put("tie_word_embeddings", tied);
    Json.write(model.resolve(ModelConfig.FILE), json);
    List<TensorSpec> specs = ModelTensors.of(ModelConfig.read(model));
    SafetensorsWriter.writeModel(model,
        specs.stream().map(s -> new SafetensorsWriter.Tensor(s.name(), TensorType.F32, s.shape())).toList(), 1L << 30, (t, sink) -> {
          Random random = new Random(t.name().hashCode());
          boolean norm = t.shape().length == 1;
          float[] values = new float[(int) (t.bytes() / 4)];
          for (int i = 0; i < values.length; i++) {
            values[i] = (float) (norm ? 1 + 0.1 * random.nextGaussian() : random.nextGaussian() / 16);
          }
          sink.floats(FloatBuffer.wrap(values));
        });
    return model;
  }

  private Path gguf(Path model, GgufMix mix) {
    Path file = folder.resolve(mix + ".gguf");
    try (Machine machine = TestMachine.open()) {
      new Exporter(new Exporter.Request(model, null, TextModel.Storage.PLAIN, ExportFormat.GGUF, mix, file, false), machine, line -> {}).run();
    }
    return file;
  }

  /** The same numbers as plain fp32 tensors. */
  private Path expanded(Path file) throws IOException {
    Path plain = Files.createDirectory(folder.resolve("expanded"));
    Path around = GgufFolder.of(file);
    ModelFiles.copyCompanions(around, plain);
    ObjectNode json = Json.readObject(around.resolve(ModelConfig.FILE));
    json.remove(GgufFolder.TYPES);
    Json.write(plain.resolve(ModelConfig.FILE), json.put("torch_dtype", "float32"));
    try (GgufModel model = GgufModel.open(file)) {
      SafetensorsWriter.writeModel(plain, model.tensors().entrySet().stream()
          .map(e -> new SafetensorsWriter.Tensor(e.getKey(), TensorType.F32, e.getValue().shape())).toList(), 1L << 30, (t, sink) -> {
            FloatBuffer values = FloatBuffer.allocate((int) (t.bytes() / 4));
            model.readRows(t.name(), 0, values);
            sink.floats(values.flip());
          });
    }
    return plain;
  }

  @ParameterizedTest
  @EnumSource(names = {"F16", "BF16", "Q8_0", "Q4_0", "Q4_K_M", "Q5_K_M", "Q6_K"})
  void gradientsAreThoseOfTheExpandedBase(GgufMix mix) throws IOException {
    sameGradients(random(mix != GgufMix.Q4_K_M), mix);
  }

  static Stream<Arguments> families() {
    return FamilyConfigs.all().entrySet().stream().map(f -> Arguments.of(f.getKey(), Named.of("config", f.getValue())));
  }

  /** Experts stay in their blocks too. */
  @ParameterizedTest
  @MethodSource("families")
  void gradientsOfEveryFamily(String family, ObjectNode config) throws IOException {
    sameGradients(RandomModel.write(folder.resolve("model"), TINY, config), GgufMix.Q4_K_M);
  }

  private void sameGradients(Path model, GgufMix mix) throws IOException {
    Path adapter = RandomAdapter.write(Files.createDirectory(folder.resolve("adapter")), model, 4, 8, false, 0.1);
    Path file = gguf(model, mix);
    Path batch = Files.writeString(folder.resolve("batch.json"), "{\"input_ids\": [[5, 9, 77, 300, 1200, 8, 41], [2047, 3, 3, 19, 20, 20, 7]],"
        + " \"labels\": [[-100, 9, 77, 300, 1200, 8, 41], [-100, 3, 3, 19, 20, 20, 7]]}");
    Path ours = folder.resolve("ours.safetensors");
    Path theirs = folder.resolve("theirs.safetensors");
    try (Machine machine = TestMachine.open()) {
      Trace.write(GgufFolder.of(file), adapter, false, batch, ours, StorageType.FLOAT32, machine);
      Trace.write(expanded(file), adapter, false, batch, theirs, StorageType.FLOAT32, machine);
    }
    try (Checkpoint a = Checkpoint.open(ours); Checkpoint b = Checkpoint.open(theirs)) {
      assertThat(a.tensors().keySet()).isEqualTo(b.tensors().keySet());
      assertThat(a.tensors().keySet()).anyMatch(n -> n.contains("lora_B"));
      for (TensorInfo t : b.tensors().values()) {
        assertThat(relative(read(a, t.name()), read(b, t.name()))).as(mix + " " + t.name()).isLessThan(1e-5);
      }
    }
  }

  private static float[] read(Checkpoint files, String name) {
    TensorInfo t = files.tensor(name);
    FloatBuffer values = FloatBuffer.allocate((int) t.elements());
    files.readFloats(t, 0, values);
    return values.array();
  }

  private static double relative(float[] found, float[] expected) {
    double difference = 0;
    double norm = 0;
    for (int i = 0; i < found.length; i++) {
      difference += Math.pow((double) found[i] - expected[i], 2);
      norm += Math.pow(expected[i], 2);
    }
    return Math.sqrt(difference / Math.max(norm, 1e-30));
  }

  /** Every packed tensor takes what it takes in the file. */
  @Test
  void memoryIsThatOfTheFile() throws IOException {
    Path file = gguf(random(false), GgufMix.Q4_K_M);
    Path around = GgufFolder.of(file);
    ModelConfig config = ModelConfig.read(around);
    Decoder model = new Decoder(config, DType.F32, Training.NONE, FrozenStorage.of(config, false, false), 16);
    try (GgufFile read = GgufFile.open(file)) {
      long packed = read.tensors().values().stream().filter(t -> t.type().packed()).mapToLong(GgufTensor::bytes).sum();
      long held = model.parameters().tensors().stream().filter(t -> t.ggml() != null).mapToLong(t -> t.ggml().blocks().bytes()).sum();
      assertThat(held).isEqualTo(packed);
      List<String> plain = model.parameters().tensors().stream().filter(t -> t.ggml() == null).map(Tensor::name).toList();
      assertThat(plain).isNotEmpty().allMatch(n -> n.contains("norm"));
    }
  }

  /**
   * Decoding and short prompts read the blocks and round x to 8 bits; long ones expand them, but for the head: another token now and
   * then, where two are about as likely.
   */
  @ParameterizedTest
  @EnumSource(names = {"Q8_0", "Q4_0", "Q4_K_M", "Q5_K_M", "Q6_K"})
  void roundingXChangesFewTokens(GgufMix mix) throws IOException {
    Path file = gguf(random(true), mix);
    Path exact = expanded(file);
    assertThat(Emit.readsBlocks(SHORT)).isTrue();
    assertThat(same(nextTokens(file, SHORT), nextTokens(exact, SHORT))).as(mix + ", short prompts").isGreaterThan(PROMPTS * 8 / 10);
    assertThat(Emit.readsBlocks(LONG)).isFalse();
    assertThat(same(nextTokens(file, LONG), nextTokens(exact, LONG))).as(mix + ", long prompts").isGreaterThan(PROMPTS * 8 / 10);
  }

  private static int same(List<Integer> a, List<Integer> b) {
    return (int) IntStream.range(0, PROMPTS).filter(i -> a.get(i).equals(b.get(i))).count();
  }

  /** Weights in 16 bits stay as the file has them where a CPU generates, and x is not rounded: short prompts are exact too. */
  @ParameterizedTest
  @EnumSource(names = {"F16", "BF16"})
  void halvesAreExact(GgufMix mix) throws IOException {
    Path file = gguf(random(true), mix);
    assertThat(nextTokens(file, SHORT)).isEqualTo(nextTokens(expanded(file), SHORT));
  }

  /** The likeliest token after each of some random prompts of a length. */
  private static List<Integer> nextTokens(Path model, int length) {
    Random random = new Random(length);
    try (TextModel text = TextModel.open(model, null, TextModel.Storage.PLAIN, TestMachine.open(), 64)) {
      return IntStream.range(0, PROMPTS)
          .mapToObj(i -> text.continueIds(random.ints(length, 5, 2000).toArray(), Generator.Options.greedy(1, Set.of()))[0]).toList();
    }
  }

  /** Published weights with a vocabulary of SentencePiece: tokens and text as llama2.c has them. */
  @Test
  void storiesOfTinyLlamas() throws IOException {
    Path file = TestData.file("stories260K/stories260K.gguf");
    String expected = Files.readString(TestData.file("stories260K/expected-greedy-200-steps.txt"));
    try (TextModel text = TextModel.open(file, null, TextModel.Storage.PLAIN, TestMachine.open(), 512)) {
      String found = text.tokenizer().decode(text.continueIds(new int[] {1}, Generator.Options.greedy(120, Set.of())), true);
      assertThat(expected.strip()).startsWith(found.strip());
      assertThat(found).hasSizeGreaterThan(200);
      assertThat(text.tokenizer().encode("Once upon a time", true)[0]).isEqualTo(1);
    }
  }

  /** Out and in again gives the same tokens, for byte pairs and for pieces. */
  @Test
  void tokenizersComeBack() throws IOException {
    String[] texts = {"Once upon a time, 12345 dogs didn't bark.", "  two  spaces\n\n\tand tabs", "Grüße, 東京! 🦌", "a<|end|>b", ""};
    for (Path model : List.of(TINY, real("mistral-v0.1"), real("llama3.1"), real("qwen3"))) {
      Path out = folder.resolve("t.gguf");
      TokenizerOnlyModel.write(out, model);
      try (Tokenizer a = Tokenizer.load(model); Tokenizer b = Tokenizer.load(GgufFolder.of(out))) {
        for (String text : texts) {
          assertThat(b.encode(text, true)).as(model + ": " + text).isEqualTo(a.encode(text, true));
          assertThat(b.decode(b.encode(text, false), false)).isEqualTo(a.decode(a.encode(text, false), false));
        }
      }
      Files.delete(out);
    }
  }

  private Path real(String name) throws IOException {
    return TestData.tokenizer(name, folder);
  }

  @Test
  void fewBitsOnTopOfBlocksAreRefused() throws IOException {
    Path around = GgufFolder.of(gguf(random(true), GgufMix.Q8_0));
    assertThatThrownBy(() -> FrozenStorage.of(ModelConfig.read(around), true, false))
        .isInstanceOf(OribiException.class).hasMessageContaining("--load-in-4bit");
  }
}
