package dev.oribi.export;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.generate.TextModel;
import dev.oribi.gguf.family.GgufFamilies;
import dev.oribi.model.Machine;
import dev.oribi.testing.FamilyConfigs;
import dev.oribi.testing.LlamaCpp;
import dev.oribi.testing.LlamaCpp.Answer;
import dev.oribi.testing.LlamaCpp.Job;
import dev.oribi.testing.RandomAdapter;
import dev.oribi.testing.RandomModel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Named;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * An adapter on every linear layer of a random model of each family, experts' too, as llama.cpp takes it: beside the file of the
 * base, and merged. Its logits are those of the trained model.
 */
class LlamaCppAdaptersTest {
  private static final Path TINY = Path.of("../models/tiny/model");
  private static final List<String> TEXTS = List.of("Once upon a time there was", "Grüße, 東京 🦌!");

  /** What fp32 differs by where sums are in another order, and llama.cpp's table of GELU in 16 bits. */
  private static final double SAME = 2e-4;
  private static final double SAME_BUT_GELU = 2e-2;

  @TempDir private Path folder;

  static Stream<Arguments> families() {
    return FamilyConfigs.all().entrySet().stream().filter(f -> GgufFamilies.modelTypes().contains(f.getValue().get("model_type").asText()))
        .map(f -> Arguments.of(f.getKey(), Named.of("config", f.getValue())));
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("families")
  void itsLogitsAreOurs(String family, ObjectNode config) throws Exception {
    LlamaCpp reader = LlamaCpp.find(folder);
    Path model = RandomModel.write(folder.resolve("model"), TINY, config);
    Path adapter = RandomAdapter.write(Files.createDirectory(folder.resolve("adapter")), model, 4, 8, true, 0.05);
    Path base = export(model, null, ExportFormat.GGUF, "base.gguf");
    Path lora = export(model, adapter, ExportFormat.GGUF_ADAPTER, "lora.gguf");
    Path merged = export(model, adapter, ExportFormat.GGUF, "merged.gguf");
    List<List<Answer>> answers =
        reader.run(List.of(new Job(base, null, TEXTS, 0), new Job(base, lora, TEXTS, 0), new Job(merged, null, TEXTS, 0)));
    float[][] trained = logits(model, adapter, answers.get(0));
    double same = config.get("model_type").asText().startsWith("gemma") ? SAME_BUT_GELU : SAME;
    assertThat(Difference.between(trained, rows(answers.get(0))).largest()).as("without it").isGreaterThan(0.1);
    assertThat(Difference.between(trained, rows(answers.get(1))).largest()).as("beside its base").isLessThan(same);
    assertThat(Difference.between(trained, rows(answers.get(2))).largest()).as("merged").isLessThan(same);
  }

  private Path export(Path model, Path adapter, ExportFormat format, String name) {
    Path file = folder.resolve(name);
    try (Machine machine = Machine.cpu(1)) {
      new Exporter(new Exporter.Request(model, adapter, TextModel.Storage.PLAIN, format, GgufMix.F32, file, false), machine, line -> {}).run();
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
}
