package dev.oribi.export;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.generate.Generator;
import dev.oribi.generate.TextModel;
import dev.oribi.gguf.GgufFolder;
import dev.oribi.gguf.GgufNames;
import dev.oribi.gguf.family.GgufFamilies;
import dev.oribi.gguf.family.GgufFamily;
import dev.oribi.model.Machine;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.testing.FamilyConfigs;
import dev.oribi.testing.LlamaCpp;
import dev.oribi.testing.LlamaCpp.Answer;
import dev.oribi.testing.LlamaCpp.Job;
import dev.oribi.testing.RandomAdapter;
import dev.oribi.testing.RandomModel;
import dev.oribi.text.Tokenizer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.assertj.core.api.SoftAssertions;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Named;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * llama.cpp reads a random model of every family in every kind of file: its tokens, its logits at every position of fixed texts,
 * and its greedy text are ours.
 */
class LlamaCppFamiliesTest {
  private static final Path TINY = Path.of("../models/tiny/model");
  private static final int TOKENS = 12;
  private static final List<String> TEXTS = List.of("Once upon a time there was", "It's 42 o'clock.  Two  spaces,\n\na line.", "Grüße, 東京 🦌!");

  /** A file of fp32 is the model: what remains is the order of sums. */
  private static final double SAME = 1e-4;

  /** llama.cpp looks GELU up in a table of 16 bits; 46 layers of that add up. */
  private static final double SAME_BUT_GELU = 2e-2;
  private static final double SAME_BUT_MANY_GELU = 0.1;
  private static final int MANY = 40;

  /**
   * Where files have fewer bits llama.cpp rounds what it multiplies with as well: KL in nats that this may cost at half of the
   * positions. At others a router may have had two experts between which rounding decides. All texts begin with one token, which all
   * positions look at: in the configurations of {@link FamilyConfigs} it is not on such an edge. The worst found is 0.012.
   */
  private static final Map<GgufMix, Double> ROUNDED =
      Map.of(GgufMix.BF16, 5e-4, GgufMix.F16, 2e-5, GgufMix.Q8_0, 2e-2, GgufMix.Q4_K_M, 2e-2);

  @TempDir private Path folder;
  private LlamaCpp reader;

  @BeforeEach
  void find() {
    reader = LlamaCpp.find(folder);
  }

  static Stream<Arguments> families() {
    return FamilyConfigs.all().entrySet().stream().map(e -> Arguments.of(Named.of(e.getKey(), e.getKey()), Named.of("config", e.getValue())));
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("families")
  void itsLogitsAreOurs(String family, ObjectNode config) throws Exception {
    Path model = RandomModel.write(folder.resolve("model"), TINY, config);
    List<Job> jobs = new ArrayList<>(List.of(new Job(export(model, GgufMix.F32), null, TEXTS, TOKENS)));
    boolean variant = family.contains(" "); // of a family that is there with all mixes
    List<GgufMix> mixes = ROUNDED.keySet().stream().filter(mix -> !variant).sorted().toList();
    mixes.forEach(mix -> jobs.add(new Job(export(model, mix), null, TEXTS, 0)));
    List<List<Answer>> answers = reader.run(jobs);
    sameTokens(model, answers.get(0));
    Difference plain = Difference.between(logits(model, null, answers.get(0)), rows(answers.get(0)));
    StringBuilder line = new StringBuilder(String.format(Locale.ROOT, "llama.cpp: %s: F32 %.2g", family, plain.largest()));
    SoftAssertions all = new SoftAssertions();
    all.assertThat(plain.largest()).as(family).isLessThan(same(model));
    for (int i = 1; i < jobs.size(); i++) {
      GgufMix mix = mixes.get(i - 1);
      double kl = medianKl(logits(GgufFolder.of(jobs.get(i).model()), null, answers.get(i)), rows(answers.get(i)));
      line.append(String.format(Locale.ROOT, ", %s KL %.2g", mix, kl));
      all.assertThat(kl).as(family + " " + mix).isLessThan(ROUNDED.get(mix));
    }
    System.out.println(line);
    all.assertAll();
    sameText(family, model, answers.get(0));
  }

  /** Of every linear layer that llama.cpp asks for adapters, beside its model. */
  @ParameterizedTest(name = "{0}")
  @MethodSource("families")
  void itsAdaptersAreOurs(String family, ObjectNode config) throws Exception {
    Path model = RandomModel.write(folder.resolve("model"), TINY, config);
    GgufFamily gguf = GgufFamilies.ofModelType(config.get("model_type").asText());
    GgufNames names = gguf.names(ModelConfig.read(model));
    Path adapter = RandomAdapter.write(Files.createDirectory(folder.resolve("adapter")), model, 4, 8, true, 0.05,
        module -> module.contains(".layers.") && !module.endsWith(".gate") && gguf.adapts(names.place(module + ".weight").tensor()));
    Path lora = export(model, adapter, ExportFormat.GGUF_ADAPTER, GgufMix.F32, "lora.gguf");
    List<Answer> answers = reader.run(new Job(export(model, GgufMix.F32), lora, TEXTS, 0));
    float[][] ours = logits(model, adapter, answers);
    Difference with = Difference.between(ours, rows(answers));
    Difference without = Difference.between(ours, logits(model, null, answers));
    System.out.printf(Locale.ROOT, "llama.cpp: %s, with an adapter: F32 %.2g of %.2g%n", family, with.largest(), without.largest());
    assertThat(with.largest()).isLessThan(same(model)).isLessThan(0.01 * without.largest());
  }

  private static double medianKl(float[][] ours, float[][] theirs) {
    double[] all = IntStream.range(0, ours.length)
        .mapToDouble(i -> Difference.between(new float[][] {ours[i]}, new float[][] {theirs[i]}).kl()).sorted().toArray();
    return all[all.length / 2];
  }

  private static double same(Path model) {
    ModelConfig config = ModelConfig.read(model);
    return !config.hiddenAct().startsWith("gelu") ? SAME : config.numHiddenLayers() < MANY ? SAME_BUT_GELU : SAME_BUT_MANY_GELU;
  }

  private Path export(Path model, GgufMix mix) {
    return export(model, null, ExportFormat.GGUF, mix, mix + ".gguf");
  }

  private Path export(Path model, Path adapter, ExportFormat format, GgufMix mix, String name) {
    Path file = folder.resolve(name);
    try (Machine machine = Machine.cpu(1)) {
      new Exporter(new Exporter.Request(model, adapter, TextModel.Storage.PLAIN, format, mix, file, false), machine, line -> {}).run();
    }
    return file;
  }

  private static float[][] logits(Path model, Path adapter, List<Answer> answers) {
    try (Machine machine = Machine.cpu(1)) {
      return Probe.logits(model, adapter, TextModel.Storage.PLAIN, machine, answers.stream().map(Answer::ids).toList());
    }
  }

  private static float[][] rows(List<Answer> answers) {
    return answers.stream().flatMap(a -> Arrays.stream(a.logits())).toArray(float[][]::new);
  }

  private static void sameTokens(Path model, List<Answer> answers) {
    try (Tokenizer tokenizer = Tokenizer.load(model)) {
      for (int i = 0; i < TEXTS.size(); i++) {
        assertThat(answers.get(i).ids()).as(TEXTS.get(i)).isEqualTo(tokenizer.encode(TEXTS.get(i), true));
      }
    }
  }

  private static void sameText(String family, Path model, List<Answer> answers) {
    try (TextModel text = TextModel.open(model, null, 1, 256)) {
      for (Answer answer : answers) {
        int[] found = text.continueIds(answer.ids(), Generator.Options.greedy(TOKENS, text.stopIds()));
        assertThat(answer.continued()).as(family).isEqualTo(Arrays.stream(found).boxed().toList());
      }
    }
  }
}
