package dev.oribi.gguf;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.OribiException;
import dev.oribi.export.ExportFormat;
import dev.oribi.export.Exporter;
import dev.oribi.export.GgufMix;
import dev.oribi.generate.TextModel;
import dev.oribi.model.Machine;
import dev.oribi.model.config.GenerationConfig;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.testing.FamilyConfigs;
import dev.oribi.testing.RandomModel;
import dev.oribi.testing.TokenizerOnlyModel;
import dev.oribi.text.TestData;
import dev.oribi.text.Tokenizer;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Files as others write them, or wrote them once: with other keys, or the same weights in other tensors. */
class GgufOlderFilesTest {
  private static final Path TINY = Path.of("../models/tiny/model");

  @TempDir private Path folder;
  private Path model;
  private final Map<String, GgufValue> keys = new LinkedHashMap<>();
  private final Map<String, float[]> values = new LinkedHashMap<>();
  private final List<GgufWriter.Tensor> tensors = new ArrayList<>();

  /** A family's file in fp32, taken apart. */
  private void take(String family) throws IOException {
    model = RandomModel.write(folder.resolve("model"), TINY, FamilyConfigs.all().get(family));
    Path file = folder.resolve("new.gguf");
    try (Machine machine = Machine.cpu(1)) {
      new Exporter(new Exporter.Request(model, null, TextModel.Storage.PLAIN, ExportFormat.GGUF, GgufMix.F32, file, false), machine, line -> {}).run();
    }
    try (GgufFile read = GgufFile.open(file)) {
      keys.putAll(read.metadata());
      for (GgufTensor t : read.tensors().values()) {
        float[] numbers = new float[Math.toIntExact(t.elements())];
        read.readFloats(t, 0, FloatBuffer.wrap(numbers));
        put(t.name(), numbers, t.shape());
      }
    }
  }

  private void put(String name, float[] numbers, long... shape) {
    values.put(name, numbers);
    tensors.add(new GgufWriter.Tensor(name, GgmlType.F32, shape));
  }

  /** The smallest model around a tokenizer, taken apart. */
  private void takeTokenizer(Path tokenizer) throws IOException {
    try (GgufFile read = GgufFile.open(TokenizerOnlyModel.write(folder.resolve("t.gguf"), tokenizer))) {
      keys.putAll(read.metadata());
      for (GgufTensor t : read.tensors().values()) {
        put(t.name(), new float[Math.toIntExact(t.elements())], t.shape());
      }
    }
  }

  private float[] remove(String name) {
    tensors.removeIf(t -> t.name().equals(name));
    return values.remove(name);
  }

  private Path written() {
    Path file = folder.resolve("old.gguf");
    GgufWriter.write(file, keys, tensors, (t, sink) -> sink.floats(values.get(t.name()), values.get(t.name()).length));
    return file;
  }

  /** The file is read as the model that the other one was made of, and every weight is what it was. */
  private void sameModel() {
    Path old = written();
    assertThat(ModelConfig.read(GgufFolder.of(old)).architecture()).isEqualTo(ModelConfig.read(GgufFolder.of(folder.resolve("new.gguf"))).architecture());
    try (GgufModel a = GgufModel.open(folder.resolve("new.gguf")); GgufModel b = GgufModel.open(old)) {
      assertThat(b.tensors().keySet()).isEqualTo(a.tensors().keySet());
      a.tensors().forEach((name, t) -> {
        FloatBuffer first = FloatBuffer.allocate(Math.toIntExact(t.elements()));
        FloatBuffer second = FloatBuffer.allocate(first.capacity());
        a.readRows(name, 0, first);
        b.readRows(name, 0, second);
        assertThat(second.array()).as(name).isEqualTo(first.array());
      });
    }
  }

  /** Before llama.cpp attended to the short vectors themselves, what makes keys and values was one tensor. */
  @Test
  void keysAndValuesOfLatentAttentionInOne() throws IOException {
    take("deepseek_v3");
    int heads = 8;
    int nope = 32;
    int rank = 64;
    for (int layer = 0; layer < 3; layer++) {
      String block = "blk." + layer + ".attn_";
      float[] ofKeys = remove(block + "k_b.weight");
      float[] ofValues = remove(block + "v_b.weight");
      float[] whole = new float[heads * 2 * nope * rank]; // heads of keys and values have the same size here
      for (int h = 0; h < heads; h++) {
        for (int r = 0; r < nope; r++) {
          for (int c = 0; c < rank; c++) {
            whole[(h * 2 * nope + r) * rank + c] = ofKeys[(h * rank + c) * nope + r];
            whole[(h * 2 * nope + nope + r) * rank + c] = ofValues[(h * nope + r) * rank + c];
          }
        }
      }
      put(block + "kv_b.weight", whole, heads * 2 * nope, rank);
    }
    String p = "deepseek2.attention.";
    keys.remove(p + "key_length_mla");
    keys.remove(p + "value_length_mla");
    keys.put(p + "key_length", GgufValue.u32(nope + 16));
    keys.put(p + "value_length", GgufValue.u32(nope));
    keys.put(p + "head_count_kv", GgufValue.u32(heads));
    sameModel();
  }

  /** The files of V2 have no gating function, and no scale where it is one. */
  @Test
  void routersOfV2WithoutTheirKeys() throws IOException {
    take("deepseek_v2");
    for (String key : List.of("expert_gating_func", "expert_weights_scale", "expert_weights_norm", "attention.q_lora_rank", "rope.scaling.attn_factor")) {
      assertThat(keys.remove("deepseek2." + key)).as(key).isNotNull();
    }
    sameModel();
  }

  /** Those of Phi-3 have the tables of longrope and no type, and no size of a head. */
  @Test
  void longropeByItsTablesAlone() throws IOException {
    take("phi3, long factors");
    for (String key : List.of("rope.scaling.type", "attention.key_length", "attention.value_length")) {
      assertThat(keys.remove("phi3." + key)).as(key).isNotNull();
    }
    sameModel();
  }

  /** Those of Gemma 3 have no base for the layers with a window. */
  @Test
  void theUsualBaseOfGemma3sWindows() throws IOException {
    take("gemma3");
    assertThat(keys.remove("gemma3.rope.freq_base_swa")).isNotNull();
    sameModel();
  }

  /** Converters write Gemma's tokens for runs of spaces with spaces, not with the signs for them. */
  @Test
  void runsOfSpacesAsTokens() throws IOException {
    Path tokenizer = TestData.tokenizer("mistral-v0.1", folder);
    takeTokenizer(tokenizer);
    List<String> tokens = new ArrayList<>(keys.get("tokenizer.ggml.tokens").strings("test"));
    long[] types = keys.get("tokenizer.ggml.token_type").integers("test");
    List<Integer> runs = new ArrayList<>();
    for (int spaces = 2; spaces < 6; spaces++) {
      int id = 31_000 + spaces;
      runs.add(id);
      tokens.set(id, " ".repeat(spaces));
      types[id] = TokenizerKeys.USER_DEFINED;
    }
    keys.put("tokenizer.ggml.tokens", GgufValue.strings(tokens));
    keys.put("tokenizer.ggml.token_type", GgufValue.i32s(Arrays.stream(types).mapToInt(t -> (int) t).toArray()));
    keys.put("tokenizer.ggml.add_space_prefix", GgufValue.bool(false));
    try (Tokenizer read = Tokenizer.load(GgufFolder.of(written()))) {
      for (int spaces = 2; spaces < 6; spaces++) {
        assertThat(read.encode("a" + " ".repeat(spaces) + "b", false)).hasSize(3).contains(runs.get(spaces - 2));
      }
      assertThat(read.encode("a b", false)).hasSize(2);
    }
  }

  /** Many files name the end of a text and not that of a turn, which llama.cpp knows by its text. */
  @ParameterizedTest
  @CsvSource({"<end_of_turn>, 3", "<|end|>, 4", "<|im_end|>, 3"})
  void theEndOfATurnWithoutAKey(String token, int type) throws IOException {
    takeTokenizer(TestData.tokenizer("mistral-v0.1", folder));
    List<String> tokens = new ArrayList<>(keys.get("tokenizer.ggml.tokens").strings("test"));
    long[] types = keys.get("tokenizer.ggml.token_type").integers("test");
    tokens.set(31_000, token);
    types[31_000] = type;
    keys.put("tokenizer.ggml.tokens", GgufValue.strings(tokens));
    keys.put("tokenizer.ggml.token_type", GgufValue.i32s(Arrays.stream(types).mapToInt(t -> (int) t).toArray()));
    Path read = GgufFolder.of(written());
    assertThat(GenerationConfig.read(read, ModelConfig.read(read)).eosTokenIds()).containsExactly(2, 31_000);
  }

  /** DeepSeek R1's distilled Qwens name their tokenizer otherwise, and llama.cpp takes it for Qwen's. */
  @Test
  void otherNamesOfATokenizer() throws IOException {
    Path tokenizer = TestData.tokenizer("qwen3", folder);
    takeTokenizer(tokenizer);
    keys.put("tokenizer.ggml.pre", GgufValue.string("deepseek-r1-qwen"));
    String text = "12 dogs don't\n\n  bark.";
    try (Tokenizer read = Tokenizer.load(GgufFolder.of(written())); Tokenizer ours = Tokenizer.load(tokenizer)) {
      assertThat(read.encode(text, true)).isEqualTo(ours.encode(text, true));
    }
  }

  @Test
  void aPartOfASplitModelIsNamedAsSuch() throws IOException {
    take("qwen2");
    keys.put("split.no", GgufValue.u32(0));
    keys.put("split.count", GgufValue.u32(3));
    remove("blk.2.ffn_up.weight");
    assertThatThrownBy(() -> GgufModel.open(written())).isInstanceOf(OribiException.class).hasMessageContaining("one of 3 files")
        .hasMessageContaining("llama-gguf-split --merge");
  }

  /** A merge of a base in fp32 or bfloat16 is not rounded to float16. */
  @ParameterizedTest
  @CsvSource({"F32, float32", "BF16, bfloat16", "F16, float16", "Q8_0, float16"})
  void theTypeOfAModelIsThatOfItsWeights(GgufMix mix, String dtype) throws IOException {
    model = RandomModel.write(folder.resolve("model"), TINY, FamilyConfigs.all().get("llama"));
    Path file = folder.resolve("typed.gguf");
    try (Machine machine = Machine.cpu(1)) {
      new Exporter(new Exporter.Request(model, null, TextModel.Storage.PLAIN, ExportFormat.GGUF, mix, file, false), machine, line -> {}).run();
    }
    assertThat(ModelConfig.read(GgufFolder.of(file)).dtype()).isEqualTo(dtype);
  }

  /** A head beside the embedding is not left out in silence where llama.cpp would not read it. */
  @Test
  void aHeadThatGemmaDoesNotHaveIsRefused() throws IOException {
    take("gemma");
    put("output.weight", new float[2048 * 256], 2048, 256);
    assertThatThrownBy(() -> GgufModel.open(written())).isInstanceOf(OribiException.class).hasMessageContaining("output.weight");
  }

  @Test
  void aSplitOfAnotherShapeIsRefused() throws IOException {
    take("deepseek_v2");
    put("blk.1.attn_k_b.weight", remove("blk.1.attn_k_b.weight"), 8, 32, 64);
    assertThatThrownBy(() -> GgufModel.open(written())).isInstanceOf(OribiException.class).hasMessageContaining("attn_k_b").hasMessageContaining("[8, 64, 32]");
  }
}
