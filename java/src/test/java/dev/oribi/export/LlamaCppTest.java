package dev.oribi.export;

import static org.assertj.core.api.Assertions.assertThat;

import dev.oribi.generate.TextModel;
import dev.oribi.gguf.GgufFolder;
import dev.oribi.model.Machine;
import dev.oribi.testing.LlamaCpp;
import dev.oribi.testing.LlamaCpp.Answer;
import dev.oribi.testing.LlamaCpp.Job;
import dev.oribi.testing.RandomAdapter;
import dev.oribi.text.Tokenizer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.assertj.core.api.SoftAssertions;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * llama.cpp itself reads our files of the trained tiny model ({@link LlamaCpp}): its tokens, its logits at every position and its
 * greedy text are ours.
 */
class LlamaCppTest {
  private static final Path TINY = Path.of("../models/tiny/model");
  private static final int TOKENS = 24;

  /** A file of fp32 is the model: what remains is the order of sums. */
  private static final double SAME = 1e-4;
  private static final List<String> PROMPTS = List.of(
      "Once upon a time", "The dog said that it's 42 o'clock, isn't it?  Two  spaces,\n\na line.", "Grüße aus Köln, 東京 🦌!",
      "<|user|>How much is nine plus two?<|end|><|assistant|>");

  /**
   * KL in nats that it may cost in the mean that llama.cpp rounds what it multiplies with: to the type of the file in 16 bits, else
   * to 8 bits. A trained model has fewer outliers than a random one.
   */
  private static final Map<GgufMix, Double> ROUNDED = Map.of(GgufMix.F16, 1e-6, GgufMix.BF16, 1e-4, GgufMix.Q8_0, 2e-3, GgufMix.Q4_K_M, 2e-3,
      GgufMix.Q6_K, 2e-3, GgufMix.Q5_K_M, 2e-3, GgufMix.Q4_0, 2e-3);

  @TempDir private Path folder;
  private LlamaCpp reader;

  @BeforeEach
  void find() {
    reader = LlamaCpp.find(folder);
  }

  private Path export(Path model, Path adapter, ExportFormat format, GgufMix mix, String name) {
    Path file = folder.resolve(name);
    try (Machine machine = Machine.cpu(1)) {
      new Exporter(new Exporter.Request(model, adapter, TextModel.Storage.PLAIN, format, mix, file, false), machine, line -> {}).run();
    }
    return file;
  }

  private static List<Integer> ours(TextModel text, int[] prompt) {
    return Arrays.stream(text.continueIds(prompt, text.greedy(TOKENS))).boxed().toList();
  }

  private void sameText(Path file, Path model, Path adapter, Path lora) throws Exception {
    List<Answer> answers = reader.run(new Job(file, lora, PROMPTS, TOKENS));
    try (Tokenizer tokenizer = Tokenizer.load(TINY); TextModel text = TextModel.open(GgufFolder.of(model), adapter, 1, 512)) {
      for (int i = 0; i < PROMPTS.size(); i++) {
        int[] expected = tokenizer.encode(PROMPTS.get(i), true);
        assertThat(answers.get(i).ids()).as("tokens of " + PROMPTS.get(i)).isEqualTo(expected);
        assertThat(answers.get(i).continued()).as("text after " + PROMPTS.get(i)).isEqualTo(ours(text, expected));
      }
    }
    assertThat(difference(GgufFolder.of(model), adapter, answers).largest()).isLessThan(SAME);
  }

  private static Difference difference(Path model, Path adapter, List<Answer> answers) {
    try (Machine machine = Machine.cpu(1)) {
      float[][] ours = Probe.logits(model, adapter, TextModel.Storage.PLAIN, machine, answers.stream().map(Answer::ids).toList());
      return Difference.between(ours, answers.stream().flatMap(a -> Arrays.stream(a.logits())).toArray(float[][]::new));
    }
  }

  @Test
  void plainModel() throws Exception {
    sameText(export(TINY, null, ExportFormat.GGUF, GgufMix.F32, "f32.gguf"), TINY, null, null);
  }

  @Test
  void mergedAdapter() throws Exception {
    Path adapter = RandomAdapter.write(Files.createDirectory(folder.resolve("adapter")), TINY, 4, 8, false, 0.05);
    sameText(export(TINY, adapter, ExportFormat.GGUF, GgufMix.F32, "merged.gguf"), TINY, adapter, null);
  }

  @Test
  void adapterBesideItsModel() throws Exception {
    Path adapter = RandomAdapter.write(Files.createDirectory(folder.resolve("adapter")), TINY, 4, 8, true, 0.05);
    Path base = export(TINY, null, ExportFormat.GGUF, GgufMix.F32, "f32.gguf");
    Path lora = export(TINY, adapter, ExportFormat.GGUF_ADAPTER, GgufMix.F32, "lora.gguf");
    sameText(base, TINY, adapter, lora);
  }

  /** In blocks llama.cpp rounds activations too, and in 16 bits as well: its distributions are ours but for that. */
  @Test
  void quantized() throws Exception {
    List<GgufMix> mixes = ROUNDED.keySet().stream().sorted().toList();
    List<Job> jobs = mixes.stream().map(mix -> new Job(export(TINY, null, ExportFormat.GGUF, mix, mix + ".gguf"), null, PROMPTS, 0)).toList();
    List<List<Answer>> answers = reader.run(jobs);
    SoftAssertions all = new SoftAssertions();
    for (int i = 0; i < mixes.size(); i++) {
      Difference d = difference(GgufFolder.of(jobs.get(i).model()), null, answers.get(i));
      System.out.printf(Locale.ROOT, "llama.cpp: tiny model, %s: KL %.2g, largest difference of a logit %.2g%n", mixes.get(i), d.kl(), d.largest());
      all.assertThat(d.kl()).as(mixes.get(i).name()).isLessThan(ROUNDED.get(mixes.get(i)));
    }
    all.assertAll();
  }
}
