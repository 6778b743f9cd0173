package dev.oribi.export;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.generate.Generator;
import dev.oribi.generate.TextModel;
import dev.oribi.gguf.GgufFolder;
import dev.oribi.model.Machine;
import dev.oribi.testing.FamilyConfigs;
import dev.oribi.testing.LlamaCpp;
import dev.oribi.testing.LlamaCpp.Answer;
import dev.oribi.testing.LlamaCpp.Job;
import dev.oribi.testing.RandomModel;
import dev.oribi.text.Tokenizer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * llama.cpp reads a random model of every family in every kind of file: its tokens, its logits at every position of fixed texts,
 * and its greedy text are ours.
 */
class LlamaCppFamiliesTest {
  private static final Path TINY = Path.of("../models/tiny/model");
  private static final int TOKENS = 12;
  private static final List<String> TEXTS = List.of("Once upon a time there was", "It's 42 o'clock.  Two  spaces,\n\na line.", "Grüße, 東京 🦌!");

  /** A file of fp32 is the model: what remains is the order of sums, and of GELU llama.cpp's table in 16 bits. */
  private static final double SAME = 2e-3;

  /** Where files have fewer bits llama.cpp rounds what it multiplies with as well: KL in nats that this may cost. */
  private static final Map<GgufMix, Double> ROUNDED =
      Map.of(GgufMix.BF16, 1e-3, GgufMix.F16, 1e-4, GgufMix.Q8_0, 2e-3, GgufMix.Q4_K_M, 1e-2);

  @TempDir private Path folder;
  private LlamaCpp reader;

  @BeforeEach
  void find() {
    reader = LlamaCpp.find(folder);
  }

  static Stream<Map.Entry<String, ObjectNode>> families() {
    return FamilyConfigs.all().entrySet().stream();
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("families")
  void itsLogitsAreOurs(Map.Entry<String, ObjectNode> family) throws Exception {
    Path model = RandomModel.write(folder.resolve("model"), TINY, family.getValue());
    List<Job> jobs = new ArrayList<>();
    jobs.add(new Job(export(model, GgufMix.F32), null, TEXTS, TOKENS));
    for (GgufMix mix : ROUNDED.keySet()) {
      jobs.add(new Job(export(model, mix), null, TEXTS, 0));
    }
    List<List<Answer>> answers = reader.run(jobs);
    sameTokens(model, answers.get(0));
    Difference plain = Difference.between(logits(model, answers.get(0)), rows(answers.get(0)));
    System.out.printf(Locale.ROOT, "llama.cpp: %s F32: %.2g, KL %.2g, text margin %.2g", family.getKey(), plain.largest(), plain.kl(), sameText(model, answers.get(0)));
    for (int i = 1; i < jobs.size(); i++) {
      Path file = jobs.get(i).model();
      Difference d = Difference.between(logits(GgufFolder.of(file), answers.get(i)), rows(answers.get(i)));
      System.out.printf(Locale.ROOT, "; %s KL %.2g", file.getFileName(), d.kl());
      assertThat(d.kl()).as(family.getKey() + " " + file.getFileName()).isLessThan(ROUNDED.get(GgufMix.of(file.getFileName().toString().replace(".gguf", ""))));
    }
    System.out.println();
    assertThat(plain.largest()).as(family.getKey()).isLessThan(SAME);
  }

  private Path export(Path model, GgufMix mix) {
    Path file = folder.resolve(mix + ".gguf");
    try (Machine machine = Machine.cpu(1)) {
      new Exporter(new Exporter.Request(model, null, TextModel.Storage.PLAIN, ExportFormat.GGUF, mix, file, false), machine, line -> {}).run();
    }
    return file;
  }

  private static float[][] logits(Path model, List<Answer> answers) {
    try (Machine machine = Machine.cpu(1)) {
      return Probe.logits(model, null, TextModel.Storage.PLAIN, machine, answers.stream().map(Answer::ids).toList());
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

  /** The smallest distance by which the likeliest token of a text is the likeliest, at the end of what was given. */
  private static double sameText(Path model, List<Answer> answers) {
    double margin = Double.POSITIVE_INFINITY;
    try (TextModel text = TextModel.open(model, null, 1, 256)) {
      for (Answer answer : answers) {
        int[] found = text.continueIds(answer.ids(), Generator.Options.greedy(TOKENS, text.stopIds()));
        assertThat(answer.continued()).isEqualTo(Arrays.stream(found).boxed().toList());
        for (float[] row : answer.logits()) {
          float[] sorted = row.clone();
          Arrays.sort(sorted);
          margin = Math.min(margin, sorted[row.length - 1] - sorted[row.length - 2]);
        }
      }
    }
    return margin;
  }
}
