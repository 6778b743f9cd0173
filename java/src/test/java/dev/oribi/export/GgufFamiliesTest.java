package dev.oribi.export;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import dev.oribi.generate.TextModel;
import dev.oribi.gguf.GgmlType;
import dev.oribi.gguf.GgufFile;
import dev.oribi.gguf.GgufFolder;
import dev.oribi.gguf.GgufModel;
import dev.oribi.gguf.GgufNames;
import dev.oribi.gguf.GgufTensor;
import dev.oribi.gguf.family.GgufFamilies;
import dev.oribi.gguf.family.GgufFamily;
import dev.oribi.io.Checkpoint;
import dev.oribi.io.Json;
import dev.oribi.kernel.Kernels.NormWeight;
import dev.oribi.model.Machine;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.config.ModelTensors;
import dev.oribi.model.config.TensorSpec;
import dev.oribi.model.family.Architecture.ExpertsSpec;
import dev.oribi.model.family.Families;
import dev.oribi.testing.FamilyConfigs;
import dev.oribi.testing.RandomAdapter;
import dev.oribi.testing.RandomModel;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

/** A random model of each family out to GGUF and in again: its configuration, its numbers, its logits and its adapters. */
class GgufFamiliesTest {
  private static final Path TINY = Path.of("../models/tiny/model");

  @TempDir private Path folder;

  private final List<String> said = new ArrayList<>();
  /** Of the last file from the model: what its export found when it ran both. */
  private Difference found;

  /**
   * What a file of fp32 may change a logit by, of the largest one: a file holds the base and the scalings of rotary positions in
   * fp32, and config.json in fp64.
   */
  private static final double SAME = 1e-5;

  static Stream<Map.Entry<String, ObjectNode>> families() {
    return FamilyConfigs.all().entrySet().stream();
  }

  private Path export(Path model, Path adapter, ExportFormat format, GgufMix mix, String name) {
    Path file = folder.resolve(name);
    try (Machine machine = Machine.cpu(1)) {
      found = new Exporter(new Exporter.Request(model, adapter, TextModel.Storage.PLAIN, format, mix, file, false), machine, said::add)
          .run().orElse(null);
    }
    return file;
  }

  private Path model(ObjectNode config) throws IOException {
    return RandomModel.write(folder.resolve("model"), TINY, config);
  }

  private static ObjectNode config(String family, String more) {
    ObjectNode config = FamilyConfigs.all().get(family).deepCopy();
    config.setAll((ObjectNode) Json.parse("{" + more.replace('\'', '"') + "}", "test"));
    return config;
  }

  private static double largestLogit(Path model) {
    try (Machine machine = Machine.cpu(1)) {
      float[][] rows = Probe.logits(model, null, TextModel.Storage.PLAIN, machine, Probe.prompts(model));
      return Arrays.stream(rows).mapToDouble(row -> IntStream.range(0, row.length).mapToDouble(i -> Math.abs(row[i])).max().orElse(0)).max().orElse(0);
    }
  }

  @Test
  void everyFamilyThatOribiHasIsThere() {
    assertThat(GgufFamilies.modelTypes()).containsExactlyInAnyOrderElementsOf(Families.modelTypes());
    assertThat(families().map(f -> f.getValue().get("model_type").asText())).containsAll(Families.modelTypes());
  }

  /** A file of fp32 holds every number, and its configuration is the model's but for what llama.cpp does not know of. */
  @ParameterizedTest(name = "{0}")
  @MethodSource("families")
  void fp32IsTheModel(Map.Entry<String, ObjectNode> family) throws IOException {
    Path model = model(family.getValue());
    Path file = export(model, null, ExportFormat.GGUF, GgufMix.F32, "f32.gguf");
    ModelConfig config = ModelConfig.read(model);
    ModelConfig again = ModelConfig.read(GgufFolder.of(file));
    assertThat(again.architecture().layers()).isEqualTo(config.architecture().layers());
    assertThat(again.tieWordEmbeddings()).isEqualTo(config.tieWordEmbeddings());
    assertThat(again.rmsNormEps()).isEqualTo(config.rmsNormEps());
    assertThat(found.largest()).isLessThan(SAME * largestLogit(model));
    try (Checkpoint weights = Checkpoint.open(model); GgufModel written = GgufModel.open(file)) {
      assertThat(written.tensors().keySet()).isEqualTo(weights.tensors().keySet());
      for (TensorSpec spec : ModelTensors.of(config)) {
        int n = Math.toIntExact(weights.tensor(spec.name()).elements());
        FloatBuffer expected = FloatBuffer.allocate(n);
        weights.readFloats(weights.tensor(spec.name()), 0, expected);
        FloatBuffer found = FloatBuffer.allocate(n);
        written.readRows(spec.name(), 0, found);
        boolean added = config.architecture().norm() == NormWeight.ONE_PLUS && spec.shape().length == 1;
        for (int i = 0; i < n; i++) { // the one that a norm is written with rounds its weight once
          float most = added ? Math.max(Math.ulp(1 + expected.get(i)), Math.ulp(expected.get(i))) : 0;
          assertThat(Math.abs(found.get(i) - expected.get(i))).as(spec.name() + " " + i).isLessThanOrEqualTo(most);
        }
      }
    }
  }

  /**
   * KL in nats from the trained model, twice the worst family's: random weights have no structure that blocks could follow, and the 46
   * layers of one model add up their rounding.
   */
  private static final Map<GgufMix, Double> MOST =
      Map.of(GgufMix.F16, 1e-4, GgufMix.BF16, 5e-3, GgufMix.Q8_0, 8e-2, GgufMix.Q4_K_M, 3.5);

  /** Any rounding may send a token to another expert where two are nearly as good: twice what the worst model of experts has. */
  private static final double ROUTED = 0.15;

  @ParameterizedTest(name = "{0}")
  @MethodSource("families")
  void fewerBitsAreNear(Map.Entry<String, ObjectNode> family) throws IOException {
    Path model = model(family.getValue());
    boolean routed = ModelConfig.read(model).architecture().layers().stream().anyMatch(l -> l.mlp() instanceof ExpertsSpec);
    for (GgufMix mix : MOST.keySet()) {
      export(model, null, ExportFormat.GGUF, mix, mix + ".gguf");
      assertThat(found.largest()).as(mix.toString()).isPositive();
      assertThat(found.kl()).as(mix.toString()).isLessThan(routed ? Math.max(MOST.get(mix), ROUTED) : MOST.get(mix));
    }
  }

  /** An adapter on all linear layers, of experts too: merged into a file it is the trained model; by itself it holds the same numbers. */
  @ParameterizedTest(name = "{0}")
  @MethodSource("families")
  void adaptersGoMergedAndByThemselves(Map.Entry<String, ObjectNode> family) throws IOException {
    Path model = model(family.getValue());
    Path adapter = RandomAdapter.write(Files.createDirectory(folder.resolve("adapter")), model, 4, 8, true, 0.05);
    Path merged = export(model, adapter, ExportFormat.GGUF, GgufMix.F32, "merged.gguf");
    assertThat(found.largest()).isLessThan(2e-3);
    assertThat(said).anyMatch(line -> line.startsWith("Without the adapter the KL would be") && !line.contains("e-"));
    GgufFamily gguf = GgufFamilies.ofModelType(family.getValue().get("model_type").asText());
    GgufNames names = gguf.names(ModelConfig.read(model));
    Path adapted = RandomAdapter.write(Files.createDirectory(folder.resolve("adapted")), model, 4, 8, true, 0.05,
        module -> RandomAdapter.isLinear(module) && gguf.adapts(names.place(module + ".weight").tensor()));
    Path lora = export(model, adapted, ExportFormat.GGUF_ADAPTER, GgufMix.F32, "lora.gguf"); // reads itself back
    try (GgufFile file = GgufFile.open(lora); GgufFile base = GgufFile.open(merged)) {
      for (GgufTensor t : file.tensors().values()) {
        GgufTensor weight = base.tensor(t.name().substring(0, t.name().length() - ".lora_a".length()));
        long[] ours = t.shape();
        int last = weight.shape().length - 1;
        assertThat(ours).as(t.name()).hasSameSizeAs(weight.shape());
        assertThat(t.name().endsWith("a") ? ours[last] : ours[last - 1]).isEqualTo(t.name().endsWith("a") ? weight.shape()[last] : weight.shape()[last - 1]);
      }
    }
  }

  /** What llama.cpp does not compute is named; a file that it would compute otherwise is not written. */
  @ParameterizedTest
  @CsvSource(delimiter = '|', value = {
      "qwen3 | 'attention_bias': true | qkvBias is true and would be read as false",
      "qwen2 | 'rope_scaling': {'rope_type': 'llama3', 'factor': 8.0, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0, 'original_max_position_embeddings': 8192} | rope_type llama3",
      "qwen3_moe | 'norm_topk_prob': false | normalize is false and would be read as true",
      "qwen3_moe | 'mlp_only_layers': [1] | layer 1: mlp",
      "smollm3 | 'no_rope_layers': [1, 0, 1, 1, 1] | layer 1: does not turn",
      "smollm3 | 'mlp_bias': true | biases is true",
      "mistral | 'hidden_act': 'gelu' | hiddenAct is gelu",
      "qwen3 | 'rope_scaling': {'rope_type': 'yarn', 'factor': 8.0, 'original_max_position_embeddings': 64, 'truncate': false} | rotary positions",
      "qwen3 | 'rope_scaling': {'rope_type': 'yarn', 'factor': 8.0, 'original_max_position_embeddings': 64, 'beta_fast': 4} | rotary positions",
      "llama | 'rope_scaling': {'rope_type': 'llama3', 'factor': 8.0, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0, 'original_max_position_embeddings': 64} | rope_freqs.weight",
      "gemma | 'tie_word_embeddings': false | output.weight",
      "gemma | 'hidden_activation': 'gelu' | hiddenAct is gelu and would be read as gelu_pytorch_tanh",
      "gemma2 | 'query_pre_attn_scalar': 32 | scale is",
      "gemma2, 46 layers | 'query_pre_attn_scalar': 64 | scale is",
      "gemma2 | 'attn_logit_softcapping': null | softcap is 0.0 and would be read as 50.0",
      "gemma2 | 'final_logit_softcapping': null | logitSoftcap is 0.0 and would be read as 30.0",
      "gemma2 | 'layer_types': ['full_attention', 'sliding_attention', 'full_attention'] | layer 0: attention window",
      "gemma3 | 'attn_logit_softcapping': 50.0 | softcap is 50.0",
      "gemma3 | 'rope_scaling': {'rope_type': 'yarn', 'factor': 8.0, 'original_max_position_embeddings': 64} | rope_type yarn",
      "phi3 | 'head_dim': 64 | attention.key_length",
      "deepseek_v2 | 'rms_norm_eps': 1e-5 | layer_norm_rms_epsilon",
      "deepseek_v2 | 'attention_bias': true | biases is true",
      "deepseek_v2 | 'topk_method': 'group_limited_greedy', 'n_group': 2, 'topk_group': 1 | expert_group_count",
      "deepseek_v2 | 'n_shared_experts': 0 | expert_shared_count",
      "deepseek_v2 | 'rope_scaling': {'type': 'yarn', 'factor': 8.0, 'original_max_position_embeddings': 64, 'mscale': 1.0, 'mscale_all_dim': 0.707} | yarn_log_multiplier",
      "deepseek_v2 | 'rope_scaling': {'type': 'yarn', 'factor': 8.0, 'original_max_position_embeddings': 64} | yarn_log_multiplier",
      "deepseek_v2, queries of low rank | 'num_hidden_layers': 27 | qRank is 128 and would be read as 0",
      "deepseek_v3 | 'rope_interleave': false | interleaved is false and would be read as true",
      "deepseek_v3 | 'n_group': 2, 'topk_group': 2 | groups is 2 and would be read as 1",
      "deepseek_v3 | 'n_group': 8, 'topk_group': 4 | expert_group_count",
  })
  void whatItCannotSayIsRefused(String family, String more, String message) throws IOException {
    Path model = model(config(family.strip(), more.strip()));
    assertThatThrownBy(() -> export(model, null, ExportFormat.GGUF, GgufMix.F32, "f32.gguf"))
        .isInstanceOf(OribiException.class).hasMessageContaining(message.strip());
    assertThat(folder.resolve("f32.gguf")).doesNotExist();
  }

  /** A window that has no key ends the file's context where it would begin to matter, and the user is told. */
  @ParameterizedTest
  @CsvSource(delimiter = '|', value = {
      "mistral | 'sliding_window': 60 | 60",
      "mixtral | 'sliding_window': 60 | 60",
      "qwen2 | 'use_sliding_window': true, 'sliding_window': 60, 'max_window_layers': 1 | 60",
      "llama | 'rope_scaling': {'type': 'dynamic', 'factor': 4.0}, 'max_position_embeddings': 64 | 64",
  })
  void whatBeginsLaterEndsTheContext(String family, String more, int context) throws IOException {
    Path model = model(config(family.strip(), more.strip()));
    Path file = export(model, null, ExportFormat.GGUF, GgufMix.F32, "f32.gguf");
    assertThat(ModelConfig.read(GgufFolder.of(file)).contextLength()).isEqualTo(context);
    assertThat(said).anyMatch(line -> line.contains("context_length is " + context));
    assertThat(found.largest()).isLessThan(SAME * largestLogit(model));
  }

  /** llama.cpp takes a file with an adapter of latent attention and runs as if it were not there. */
  @ParameterizedTest
  @CsvSource({"deepseek_v2, q_proj", "deepseek_v3, q_b_proj", "deepseek_v3, kv_a_proj_with_mqa", "deepseek_v3, kv_b_proj"})
  void whatItWouldNotApplyIsRefused(String family, String module) throws IOException {
    Path model = model(FamilyConfigs.all().get(family));
    Path adapter = RandomAdapter.write(Files.createDirectory(folder.resolve("adapter")), model, 4, 8, true, 0.05, name -> name.endsWith(module));
    assertThatThrownBy(() -> export(model, adapter, ExportFormat.GGUF_ADAPTER, GgufMix.F32, "lora.gguf"))
        .isInstanceOf(OribiException.class).hasMessageContaining("self_attn." + module).hasMessageContaining("--format gguf");
  }

  /** llama.cpp's choices for Mixtral 8x7B, Qwen3-30B-A3B and Phi-3, by its quantizer's rules. */
  @Test
  void mixesOfExperts() {
    GgufMix.Model mixtral = new GgufMix.Model(32, true, 8, false);
    long[] stack = {8, 4096, 14336};
    assertThat(GgufMix.Q4_K_M.of("blk.0.ffn_down_exps.weight", stack, mixtral)).isEqualTo(GgmlType.Q6_K);
    assertThat(GgufMix.Q4_K_M.of("blk.4.ffn_down_exps.weight", stack, mixtral)).isEqualTo(GgmlType.Q4_K);
    assertThat(GgufMix.Q4_K_M.of("blk.0.ffn_gate_exps.weight", stack, mixtral)).isEqualTo(GgmlType.Q4_K);
    assertThat(GgufMix.Q4_K_M.of("blk.4.attn_v.weight", new long[] {1024, 4096}, mixtral)).isEqualTo(GgmlType.Q8_0);
    assertThat(GgufMix.Q4_0.of("blk.4.attn_k.weight", new long[] {1024, 4096}, mixtral)).isEqualTo(GgmlType.Q8_0);
    assertThat(GgufMix.Q4_K_M.of("blk.4.attn_output.weight", new long[] {4096, 4096}, mixtral)).isEqualTo(GgmlType.Q5_K);
    assertThat(GgufMix.Q5_K_M.of("blk.4.attn_output.weight", new long[] {4096, 4096}, mixtral)).isEqualTo(GgmlType.Q5_K);
    assertThat(GgufMix.Q6_K.of("blk.4.attn_output.weight", new long[] {4096, 4096}, mixtral)).isEqualTo(GgmlType.Q6_K);
    assertThat(GgufMix.F16.of("blk.4.attn_v.weight", new long[] {1024, 4096}, mixtral)).isEqualTo(GgmlType.F16);
    for (GgufMix mix : GgufMix.values()) {
      assertThat(mix.of("blk.4.ffn_gate_inp.weight", new long[] {8, 4096}, mixtral)).isEqualTo(GgmlType.F32);
    }
    GgufMix.Model qwen = new GgufMix.Model(48, true, 128, false);
    assertThat(GgufMix.Q4_K_M.of("blk.7.attn_v.weight", new long[] {512, 2048}, qwen)).isEqualTo(GgmlType.Q4_K);
    assertThat(GgufMix.Q4_K_M.of("blk.8.attn_v.weight", new long[] {512, 2048}, qwen)).isEqualTo(GgmlType.Q6_K);
    assertThat(GgufMix.Q4_K_M.of("blk.8.ffn_down_shexp.weight", new long[] {2048, 768}, qwen)).isEqualTo(GgmlType.Q6_K);
    assertThat(GgufMix.Q4_K_M.of("blk.8.attn_qkv.weight", new long[] {9216, 3072}, new GgufMix.Model(32, false, 0, false)))
        .isEqualTo(GgmlType.Q4_K);
  }

  /** Adapters of some experts alone would need an adapter that changes nothing for the others. */
  @Test
  void adaptersOfSomeExpertsAloneAreRefused() throws IOException {
    Path model = model(FamilyConfigs.all().get("mixtral"));
    Path all = RandomAdapter.write(Files.createDirectory(folder.resolve("all")), model, 4, 8, false, 0.05);
    Path some = Files.createDirectory(folder.resolve("some"));
    RandomAdapter.copyWithout(all, some, "experts.2.w1");
    assertThatThrownBy(() -> export(model, some, ExportFormat.GGUF_ADAPTER, GgufMix.F32, "lora.gguf"))
        .isInstanceOf(OribiException.class).hasMessageContaining("6 experts of a layer or none, and here are 5").hasMessageContaining("--format gguf");
  }
}
