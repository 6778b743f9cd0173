package dev.oribi.export;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import dev.oribi.generate.TextModel;
import dev.oribi.gguf.GgmlType;
import dev.oribi.gguf.GgufFile;
import dev.oribi.gguf.GgufFolder;
import dev.oribi.gguf.GgufTensor;
import dev.oribi.io.AtomicFiles;
import dev.oribi.io.Checkpoint;
import dev.oribi.io.FileOwner;
import dev.oribi.io.SafetensorsWriter;
import dev.oribi.io.TensorInfo;
import dev.oribi.io.TensorType;
import dev.oribi.model.Machine;
import dev.oribi.model.ModelFiles;
import dev.oribi.model.config.LoraConfig;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.testing.FamilyConfigs;
import dev.oribi.testing.RandomAdapter;
import dev.oribi.testing.RandomModel;
import dev.oribi.text.ChatTemplate;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Each export of the tiny model with an adapter: what is written is what was trained, and nothing is left half written. */
class ExporterTest {
  private static final Path TINY = Path.of("../models/tiny/model");

  @TempDir private static Path adapterFolder;
  @TempDir private Path folder;

  private final List<String> said = new ArrayList<>();

  @BeforeAll
  static void makeAdapter() {
    RandomAdapter.write(adapterFolder, TINY, 4, 6, true, 0.2);
  }

  private Exporter.Request request(ExportFormat format, GgufMix mix, String name) {
    return new Exporter.Request(TINY, adapterFolder, TextModel.Storage.PLAIN, format, mix, folder.resolve(name), false);
  }

  private Difference export(Exporter.Request request) {
    try (Machine machine = Machine.cpu(1)) {
      return new Exporter(request, machine, said::add).run().orElse(null);
    }
  }

  private void assertNothingElse(String... names) throws IOException {
    try (Stream<Path> files = Files.list(folder)) {
      assertThat(files.map(f -> f.getFileName().toString())).containsExactlyInAnyOrder(names);
    }
  }

  /** Bounds are a few times what was found; the least is fp32's own noise. */
  @ParameterizedTest
  @EnumSource
  void ggufIsTheTrainedModel(GgufMix mix) throws IOException {
    Difference d = export(request(ExportFormat.GGUF, mix, "m.gguf"));
    double most = switch (mix) {
      case F32 -> 1e-9;
      case F16 -> 1e-5;
      case BF16 -> 5e-4;
      case Q8_0, Q6_K -> 0.02;
      case Q5_K_M, Q4_K_M, Q4_0 -> 1.2;
    };
    assertThat(d.positions()).isGreaterThan(100);
    assertThat(d.kl()).isLessThan(most);
    assertThat(d.largest()).isPositive();
    assertNothingElse("m.gguf");
  }

  @Test
  void sameModelGivesTheSameBytes() throws IOException {
    export(request(ExportFormat.GGUF, GgufMix.Q4_K_M, "a.gguf"));
    Files.move(folder.resolve("a.gguf"), folder.resolve("b.gguf"));
    export(request(ExportFormat.GGUF, GgufMix.Q4_K_M, "a.gguf"));
    assertThat(folder.resolve("a.gguf")).hasSameBinaryContentAs(folder.resolve("b.gguf"));
  }

  @Test
  void mergedAddsInFp32OntoTheWeightsAsTheyAre() {
    Difference d = export(request(ExportFormat.MERGED, GgufMix.F32, "merged"));
    assertThat(d.largest()).isLessThan(1e-4);
    try (Checkpoint base = Checkpoint.open(TINY); Checkpoint adapter = Checkpoint.open(adapterFolder.resolve(LoraConfig.WEIGHTS_FILE));
        Checkpoint merged = Checkpoint.open(folder.resolve("merged"))) {
      assertThat(merged.tensors().keySet()).containsExactlyInAnyOrderElementsOf(base.tensors().keySet());
      String module = "model.layers.2.mlp.down_proj";
      float[] w = read(base, module + ".weight");
      float[] found = read(merged, module + ".weight");
      float[] a = read(adapter, LoraConfig.tensorName(module, "lora_A"));
      float[] b = read(adapter, LoraConfig.tensorName(module, "lora_B"));
      int in = a.length / 4;
      for (int i = 0; i < w.length; i++) {
        double delta = 0;
        for (int k = 0; k < 4; k++) {
          delta += (double) b[i / in * 4 + k] * a[k * in + i % in];
        }
        double expected = w[i] + 3 * delta; // 6 / sqrt(4)
        assertThat(Math.abs(found[i] - expected)).as("element " + i).isLessThan(1e-6 * Math.max(1, Math.abs(expected)));
      }
    }
  }

  private static float[] read(Checkpoint files, String name) {
    TensorInfo t = files.tensor(name);
    float[] values = new float[(int) t.elements()];
    files.readFloats(t, 0, FloatBuffer.wrap(values));
    return values;
  }

  @Test
  void everyOtherForm() throws IOException {
    assertThat(export(request(ExportFormat.ADAPTER, GgufMix.F32, "adapter")).largest()).isZero();
    assertThat(folder.resolve("adapter/adapter_config.json")).exists();
    assertThat(folder.resolve("adapter/tokenizer.json")).exists();
    assertThat(export(request(ExportFormat.MERGED_NF4, GgufMix.F32, "nf4")).kl()).isLessThan(0.5);
    assertThat(folder.resolve("nf4/merged")).doesNotExist();
    export(request(ExportFormat.GGUF_ADAPTER, GgufMix.F32, "adapter.gguf"));
    assertThat(export(request(ExportFormat.OLLAMA, GgufMix.Q8_0, "ollama")).kl()).isLessThan(0.02);
    assertThat(folder.resolve("ollama/Modelfile")).content()
        .startsWith("FROM ./model-Q8_0.gguf\n")
        .contains("PARAMETER num_ctx 512\n")
        .contains("PARAMETER stop \"<|end|>\"")
        .contains("{{ if eq .Role \"user\" }}<|user|>{{ .Content }}<|end|>{{ else if eq .Role \"assistant\" }}<|assistant|>{{ .Content }}<|end|>");
    assertNothingElse("adapter", "nf4", "adapter.gguf", "ollama");
  }

  /** Without its own tensors renamed, an adapter in GGUF would run with the wrong rows: B of q and k is turned as their weights are. */
  @Test
  void adapterInGgufHasTheRowsOfItsWeights() {
    export(request(ExportFormat.GGUF_ADAPTER, GgufMix.F32, "adapter.gguf"));
    try (GgufFile file = GgufFile.open(folder.resolve("adapter.gguf"));
        Checkpoint adapter = Checkpoint.open(adapterFolder.resolve(LoraConfig.WEIGHTS_FILE))) {
      assertThat(file.tensors()).hasSize(2 * 7 * 4);
      GgufTensor t = file.tensor("blk.1.attn_k.weight.lora_b");
      float[] found = new float[(int) t.elements()];
      file.readFloats(t, 0, FloatBuffer.wrap(found));
      float[] b = read(adapter, LoraConfig.tensorName("model.layers.1.self_attn.k_proj", "lora_B"));
      // Row 1 of a head in the file is row 16 of a head of 32 in the model; alpha 6 over rank 4 is half of 6 / sqrt(4).
      assertThat(found[4]).isEqualTo(b[16 * 4] * 2);
      assertThat(found[33 * 4]).isEqualTo(b[48 * 4] * 2);
    }
  }

  @Test
  void existingTargetsAreKeptOrReplacedWhole() throws IOException {
    Path file = Files.writeString(folder.resolve("m.gguf"), "mine");
    assertThatThrownBy(() -> export(request(ExportFormat.GGUF, GgufMix.F16, "m.gguf")))
        .isInstanceOf(OribiException.class).hasMessageContaining("--overwrite");
    assertThat(file).hasContent("mine");
    export(new Exporter.Request(TINY, null, TextModel.Storage.PLAIN, ExportFormat.GGUF, GgufMix.F16, file, true));
    GgufFile.open(file).close();
    assertNothingElse("m.gguf");
  }

  private Path former(ExportFormat format) throws IOException {
    Path target = folder.resolve("out");
    if (format == ExportFormat.GGUF || format == ExportFormat.GGUF_ADAPTER) {
      return Files.writeString(target, "mine");
    }
    return Files.writeString(Files.createDirectory(target).resolve(format == ExportFormat.OLLAMA ? "Modelfile" : "config.json"), "mine");
  }

  @ParameterizedTest
  @EnumSource
  void everyFormatKeepsATargetThatExists(ExportFormat format) throws IOException {
    Path mine = former(format);
    assertThatThrownBy(() -> export(request(format, GgufMix.F16, "out"))).isInstanceOf(OribiException.class).hasMessageContaining("--overwrite");
    assertThat(mine).hasContent("mine");
    assertNothingElse("out");
  }

  @ParameterizedTest
  @EnumSource
  void everyFormatSurvivesAnInterrupt(ExportFormat format) throws IOException {
    Path mine = former(format);
    Exporter.Request request = new Exporter.Request(TINY, adapterFolder, TextModel.Storage.PLAIN, format, GgufMix.F16, folder.resolve("out"), true);
    try (Machine machine = Machine.cpu(1)) {
      Exporter exporter = new Exporter(request, machine, said::add);
      Thread.currentThread().interrupt();
      assertThatThrownBy(exporter::run).isInstanceOf(OribiException.class).satisfies(e -> assertThat(e.getMessage()).hasLineCount(1));
    } finally {
      assertThat(Thread.interrupted()).isTrue();
    }
    assertThat(mine).hasContent("mine");
    assertNothingElse("out");
  }

  /** The template that an adapter was trained with is that of the export, not the base model's. */
  @Test
  void theTemplateOfTheAdapterGoesWithIt() throws IOException {
    Path own = RandomAdapter.write(Files.createDirectory(folder.resolve("own")), TINY, 4, 4, false, 0.1);
    String template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}";
    Files.writeString(own.resolve("chat_template.jinja"), template);
    export(new Exporter.Request(TINY, own, TextModel.Storage.PLAIN, ExportFormat.GGUF, GgufMix.Q8_0, folder.resolve("m.gguf"), false));
    export(new Exporter.Request(TINY, own, TextModel.Storage.PLAIN, ExportFormat.MERGED, GgufMix.Q8_0, folder.resolve("merged"), false));
    assertThat(GgufFolder.of(folder.resolve("m.gguf")).resolve("chat_template.jinja")).hasContent(template);
    assertThat(folder.resolve("merged/chat_template.jinja")).hasContent(template);
  }

  /** A run that is stopped between its first byte and its check leaves what was there, and the next one clears what it left. */
  @Test
  void nothingHalfWritten() throws IOException {
    Path file = Files.writeString(folder.resolve("m.gguf"), "mine");
    Exporter.Request request = new Exporter.Request(TINY, adapterFolder, TextModel.Storage.PLAIN, ExportFormat.GGUF, GgufMix.F16, file, true);
    try (Machine machine = Machine.cpu(1)) {
      Exporter stopped = new Exporter(request, machine, line -> {
        throw new OribiException("stopped");
      });
      assertThatThrownBy(stopped::run).hasMessage("stopped");
    }
    assertThat(file).hasContent("mine");
    assertNothingElse("m.gguf");
    String[] self = FileOwner.SELF.split("-");
    Files.writeString(folder.resolve(".m.gguf.tmp-" + self[0] + "-999999999-" + self[2] + "-01"), "left by a killed process");
    export(request);
    assertNothingElse("m.gguf");
  }

  @Test
  void noTensorOfAnAdapterIsLeftOut() throws IOException {
    Path other = Files.createDirectory(folder.resolve("other"));
    new LoraConfig(4, 4, 0, List.of("q_proj"), null, false, List.of(), LoraConfig.Init.KAIMING, Map.of(), Map.of(), null).write(other);
    String stray = LoraConfig.tensorName("model.layers.9.self_attn.q_proj", "lora_A");
    SafetensorsWriter.write(other.resolve(LoraConfig.WEIGHTS_FILE), List.of(new SafetensorsWriter.Tensor(stray, TensorType.F32, 4, 192)),
        SafetensorsWriter.PT, (t, sink) -> sink.floats(FloatBuffer.allocate(4 * 192)));
    assertThatThrownBy(() -> new MergedModel(TINY, other).close())
        .isInstanceOf(OribiException.class).hasMessageContaining(stray).hasMessageContaining("nothing of an adapter is left out");
    assertThatThrownBy(() -> export(new Exporter.Request(TINY, folder, TextModel.Storage.PLAIN, ExportFormat.GGUF, GgufMix.F16,
        folder.resolve("x.gguf"), false))).isInstanceOf(OribiException.class).hasMessageContaining("adapter_model.safetensors");
  }

  /** The adapter is not run for this format, so what a run would refuse is refused by itself. */
  @Test
  void anAdapterOfAnotherModelIsNoGgufAdapter() throws IOException {
    Path config = Files.copy(adapterFolder.resolve(LoraConfig.FILE), Files.createDirectory(folder.resolve("other")).resolve(LoraConfig.FILE)).getParent();
    String a = LoraConfig.tensorName("model.layers.0.self_attn.q_proj", "lora_A");
    String b = LoraConfig.tensorName("model.layers.0.self_attn.q_proj", "lora_B");
    int width = 192;
    requireRefused(config, "has shape [4, 64]", new SafetensorsWriter.Tensor(a, TensorType.F32, 4, 64), new SafetensorsWriter.Tensor(b, TensorType.F32, width, 4));
    requireRefused(config, "has shape [2, 192]", new SafetensorsWriter.Tensor(a, TensorType.F32, 2, width), new SafetensorsWriter.Tensor(b, TensorType.F32, width, 2));
    requireRefused(config, "has no " + b, new SafetensorsWriter.Tensor(a, TensorType.F32, 4, width));
    requireRefused(config, "belongs to no weight", new SafetensorsWriter.Tensor(a.replace("layers.0", "layers.9"), TensorType.F32, 4, width));
  }

  private void requireRefused(Path adapter, String message, SafetensorsWriter.Tensor... tensors) {
    SafetensorsWriter.write(adapter.resolve(LoraConfig.WEIGHTS_FILE), List.of(tensors), SafetensorsWriter.PT,
        (t, sink) -> sink.floats(FloatBuffer.allocate(Math.toIntExact(t.shape()[0] * t.shape()[1]))));
    assertThatThrownBy(() -> export(new Exporter.Request(TINY, adapter, TextModel.Storage.PLAIN, ExportFormat.GGUF_ADAPTER, GgufMix.F32,
        folder.resolve("lora.gguf"), false))).isInstanceOf(OribiException.class).hasMessageContaining(message);
    assertThat(folder.resolve("lora.gguf")).doesNotExist();
  }

  /** Under another name the target is still what is to be exported. */
  @Test
  void theModelIsNotReplacedThroughALink() throws IOException {
    Path model = Files.createDirectories(folder.resolve("real/model"));
    ModelFiles.copyCompanions(TINY, model);
    Files.copy(TINY.resolve("config.json"), model.resolve("config.json"));
    Files.copy(TINY.resolve("model.safetensors"), model.resolve("model.safetensors"));
    Path link = Files.createSymbolicLink(folder.resolve("link"), folder.resolve("real"));
    for (Path[] pair : new Path[][] {{model, link.resolve("model")}, {link.resolve("model"), model}}) {
      assertThatThrownBy(() -> export(new Exporter.Request(pair[0], null, TextModel.Storage.PLAIN, ExportFormat.MERGED, GgufMix.F32, pair[1], true)))
          .isInstanceOf(OribiException.class).hasMessageContaining("which is to be exported");
    }
    assertThat(model.resolve("model.safetensors")).hasSameBinaryContentAs(TINY.resolve("model.safetensors"));
  }

  /** Some files hold the tied head a second time; a head that was trained is not taken for that copy. */
  @Test
  void aTrainedHeadBesideACopyOfTheEmbedding() throws IOException {
    ObjectNode config = FamilyConfigs.all().get("qwen2").deepCopy();
    Path model = RandomModel.write(folder.resolve("model"), TINY, config);
    float[] embedding;
    try (Checkpoint files = Checkpoint.open(model)) {
      embedding = read(files, "model.embed_tokens.weight");
      List<SafetensorsWriter.Tensor> all = new ArrayList<>(files.tensors().values().stream()
          .map(t -> new SafetensorsWriter.Tensor(t.name(), t.type(), t.shape())).toList());
      all.add(new SafetensorsWriter.Tensor("lm_head.weight", TensorType.F32, 2048, 256));
      SafetensorsWriter.write(folder.resolve("copy"), all, SafetensorsWriter.PT, (t, sink) ->
          sink.floats(FloatBuffer.wrap(t.name().equals("lm_head.weight") ? embedding : read(files, t.name()))));
    }
    Files.move(folder.resolve("copy"), model.resolve("model.safetensors"), StandardCopyOption.REPLACE_EXISTING);
    Path adapter = Files.createDirectory(folder.resolve("adapter"));
    new LoraConfig(4, 4, 0, List.of("q_proj"), null, false, List.of("lm_head"), LoraConfig.Init.KAIMING, Map.of(), Map.of(), null).write(adapter);
    List<SafetensorsWriter.Tensor> tensors = new ArrayList<>();
    tensors.add(new SafetensorsWriter.Tensor(LoraConfig.savedName("lm_head"), TensorType.F32, 2048, 256));
    for (int layer = 0; layer < 3; layer++) {
      String q = "model.layers." + layer + ".self_attn.q_proj";
      tensors.add(new SafetensorsWriter.Tensor(LoraConfig.tensorName(q, "lora_A"), TensorType.F32, 4, 256));
      tensors.add(new SafetensorsWriter.Tensor(LoraConfig.tensorName(q, "lora_B"), TensorType.F32, 256, 4));
    }
    SafetensorsWriter.write(adapter.resolve(LoraConfig.WEIGHTS_FILE), tensors, SafetensorsWriter.PT, (t, sink) -> {
      float[] values = new float[Math.toIntExact(t.shape()[0] * t.shape()[1])];
      for (int i = 0; i < values.length; i++) {
        values[i] = t.name().contains("lm_head") ? -embedding[i] : 0;
      }
      sink.floats(FloatBuffer.wrap(values));
    });
    for (ExportFormat format : List.of(ExportFormat.MERGED, ExportFormat.GGUF)) {
      Difference d = export(new Exporter.Request(model, adapter, TextModel.Storage.PLAIN, format, GgufMix.F32, folder.resolve(format.name()), false));
      assertThat(d.largest()).as(format.name()).isLessThan(1e-3);
    }
    assertThat(ModelConfig.read(folder.resolve("MERGED")).tieWordEmbeddings()).isFalse();
  }

  /** transformers keeps the bias of the choice in fp32 in a model of 16 bits, and in 16 bits it would choose other experts. */
  @ParameterizedTest
  @EnumSource(names = {"MERGED", "MERGED_NF4"})
  void theBiasOfTheChoiceIsNotRounded(ExportFormat format) throws IOException {
    ObjectNode config = FamilyConfigs.all().get("deepseek_v3").deepCopy().put("torch_dtype", "bfloat16");
    Path model = RandomModel.write(folder.resolve("model"), TINY, config);
    export(new Exporter.Request(model, null, TextModel.Storage.PLAIN, format, GgufMix.F32, folder.resolve("out"), false));
    String name = "model.layers.1.mlp.gate.e_score_correction_bias";
    try (Checkpoint base = Checkpoint.open(model); Checkpoint merged = Checkpoint.open(folder.resolve("out"))) {
      assertThat(merged.tensor("model.embed_tokens.weight").type()).isEqualTo(TensorType.BF16);
      assertThat(read(merged, name)).isEqualTo(read(base, name));
    }
  }

  /** What a merge of QLoRA costs is not called rounding where nothing was rounded. */
  @Test
  void aBaseIn4bitIsNotCalledRounding() throws IOException {
    Path small = RandomAdapter.write(Files.createDirectory(folder.resolve("small")), TINY, 4, 4, false, 1e-3);
    export(new Exporter.Request(TINY, small, new TextModel.Storage(true, false), ExportFormat.MERGED, GgufMix.F32, folder.resolve("merged"), false));
    assertThat(said).noneMatch(line -> line.contains("lost in rounding")).anyMatch(line -> line.startsWith("WARNING: the base in 4 bits"));
  }

  /** Ollama would take memory for every token that a model can see, and ends a template at its quotes. */
  @Test
  void aModelfileForALongContext() throws IOException {
    ObjectNode config = FamilyConfigs.all().get("qwen2").deepCopy().put("max_position_embeddings", 131_072);
    Path model = RandomModel.write(folder.resolve("model"), TINY, config);
    Files.writeString(model.resolve("chat_template.jinja"),
        "{% for m in messages %}{% if m.role == 'user' %}`{{ '{{' }}\n\"{{ m.content }}{% else %}A{{ m.content }}{% endif %}\n{% endfor %}"
            + "{% if add_generation_prompt %}A{% endif %}");
    String written = Modelfile.of(model, "m.gguf", 131_072, ChatTemplate.load(model));
    assertThat(written).contains("PARAMETER num_ctx 8192\n").contains("{{ \"`{{\\n\\\"\" }}{{ .Content }}");
    Files.writeString(model.resolve("chat_template.jinja"),
        "{% for m in messages %}{% if m.role == 'user' %}\"\"\"{{ m.content }}{% else %}A{{ m.content }}{% endif %}\n{% endfor %}"
            + "{% if add_generation_prompt %}A{% endif %}");
    assertThat(Modelfile.of(model, "m.gguf", 512, ChatTemplate.load(model))).contains("num_ctx 512\n").doesNotContain("TEMPLATE");
  }

  @Test
  void warnsWhereRoundingLosesTheAdapter() throws IOException {
    Path small = RandomAdapter.write(Files.createDirectory(folder.resolve("small")), TINY, 4, 4, false, 1e-3);
    export(new Exporter.Request(TINY, small, TextModel.Storage.PLAIN, ExportFormat.GGUF, GgufMix.Q4_0, folder.resolve("q4.gguf"), false));
    assertThat(said).anyMatch(line -> line.startsWith("WARNING") && line.contains("lost in rounding"));
    said.clear();
    export(new Exporter.Request(TINY, small, TextModel.Storage.PLAIN, ExportFormat.GGUF, GgufMix.F32, folder.resolve("f32.gguf"), false));
    assertThat(said).noneMatch(line -> line.startsWith("WARNING"));
  }

  /** In and out again: an F32 file of a GGUF base is the base, byte for byte. */
  @Test
  void aGgufBaseComesBack() {
    Path first = folder.resolve("a.gguf");
    export(new Exporter.Request(TINY, null, TextModel.Storage.PLAIN, ExportFormat.GGUF, GgufMix.Q8_0, first, false));
    Path second = folder.resolve("b.gguf");
    export(new Exporter.Request(first, null, TextModel.Storage.PLAIN, ExportFormat.GGUF, GgufMix.Q8_0, second, false));
    try (GgufFile a = GgufFile.open(first); GgufFile b = GgufFile.open(second)) {
      for (GgufTensor t : a.tensors().values()) {
        assertThat(b.slice(b.tensor(t.name()), 0, (int) t.bytes())).as(t.name()).isEqualTo(a.slice(t, 0, (int) t.bytes()));
      }
    }
    AtomicFiles.deleteTree(GgufFolder.of(second));
  }

  /** llama.cpp's choice for Q4_K_M, from its own published listing of Llama 3.1 8B: 32 layers, an output of its own. */
  @Test
  void mixesAreThoseOfLlamaCpp() {
    GgufMix.Model m = new GgufMix.Model(32, true, 0, false);
    List<Integer> better = new ArrayList<>();
    for (int i = 0; i < 32; i++) {
      GgmlType v = GgufMix.Q4_K_M.of("blk." + i + ".attn_v.weight", new long[] {1024, 4096}, m);
      GgmlType down = GgufMix.Q4_K_M.of("blk." + i + ".ffn_down.weight", new long[] {4096, 14336}, m);
      assertThat(down).isEqualTo(v);
      if (v == GgmlType.Q6_K) {
        better.add(i);
      }
    }
    assertThat(better).containsExactly(0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31);
    assertThat(GgufMix.Q4_K_M.of("blk.3.attn_q.weight", new long[] {4096, 4096}, m)).isEqualTo(GgmlType.Q4_K);
    assertThat(GgufMix.Q4_K_M.of("output.weight", new long[] {128256, 4096}, m)).isEqualTo(GgmlType.Q6_K);
    assertThat(GgufMix.Q4_K_M.of("token_embd.weight", new long[] {128256, 4096}, m)).isEqualTo(GgmlType.Q4_K);
    assertThat(GgufMix.Q4_K_M.of("token_embd.weight", new long[] {128256, 2048}, new GgufMix.Model(16, true, 0, true))).isEqualTo(GgmlType.Q6_K);
    assertThat(GgufMix.Q8_0.of("output.weight", new long[] {128256, 4096}, m)).isEqualTo(GgmlType.Q8_0);
    assertThat(GgufMix.Q4_K_M.of("blk.13.attn_v.weight", new long[] {1024, 8192}, new GgufMix.Model(80, true, 0, false))).isEqualTo(GgmlType.Q5_K);
    assertThat(GgufMix.Q5_K_M.of("blk.0.attn_q.weight", new long[] {576, 576}, m)).isEqualTo(GgmlType.Q5_1);
    assertThat(GgufMix.Q6_K.of("blk.0.attn_q.weight", new long[] {576, 576}, m)).isEqualTo(GgmlType.Q8_0);
    assertThat(GgufMix.F16.of("blk.0.attn_norm.weight", new long[] {576}, m)).isEqualTo(GgmlType.F32);
  }
}
