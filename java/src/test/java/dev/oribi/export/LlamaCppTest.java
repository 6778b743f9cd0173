package dev.oribi.export;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.TextNode;
import dev.oribi.generate.TextModel;
import dev.oribi.gguf.GgufFolder;
import dev.oribi.io.Json;
import dev.oribi.model.Machine;
import dev.oribi.testing.RandomAdapter;
import dev.oribi.text.Tokenizer;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * llama.cpp itself reads our files: the published build of it that {@code ci/llama-cpp/install} fetches into the folder of the
 * property {@code oribi.llamaCpp}. Its tokens and its greedy text are ours.
 */
class LlamaCppTest {
  private static final Path TINY = Path.of("../models/tiny/model");
  private static final int TOKENS = 24;
  private static final List<String> PROMPTS = List.of(
      "Once upon a time", "The dog said that it's 42 o'clock, isn't it?  Two  spaces,\n\na line.", "Grüße aus Köln, 東京 🦌!",
      "<|user|>How much is nine plus two?<|end|><|assistant|>");

  @TempDir private Path folder;
  private Path library;

  @BeforeEach
  void find() {
    String where = System.getProperty("oribi.llamaCpp", "");
    assumeTrue(!where.isEmpty() && Files.isDirectory(Path.of(where, "node_modules")),
        "llama.cpp is not there: run ci/llama-cpp/install and set oribi.llamaCpp");
    library = Path.of(where);
  }

  /** One answer of the script a prompt. */
  private List<JsonNode> ask(Path file, List<String> prompts, String... more) throws IOException, InterruptedException {
    List<String> command = new ArrayList<>(List.of("node", "greedy.mjs", file.toAbsolutePath().toString(), Integer.toString(TOKENS)));
    command.addAll(List.of(more));
    Path in = folder.resolve("prompts");
    Path out = folder.resolve("answers");
    Path err = folder.resolve("errors");
    Files.write(in, prompts.stream().map(p -> Json.compact(TextNode.valueOf(p))).toList());
    Process process = new ProcessBuilder(command).directory(library.toFile()).redirectInput(in.toFile()).redirectOutput(out.toFile())
        .redirectError(err.toFile()).start();
    assertThat(process.waitFor(5, TimeUnit.MINUTES)).as("llama.cpp ends").isTrue();
    assertThat(process.exitValue()).as(Files.readString(err)).isZero();
    return Files.readAllLines(out).stream().map(line -> Json.parse(line, "llama.cpp")).toList();
  }

  private static int[] ids(JsonNode list) {
    int[] ids = new int[list.size()];
    Arrays.setAll(ids, i -> list.get(i).asInt());
    return ids;
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

  private void sameText(Path file, Path model, Path adapter, String... more) throws Exception {
    List<JsonNode> answers = ask(file, PROMPTS, more);
    assertThat(answers).hasSameSizeAs(PROMPTS);
    try (Tokenizer tokenizer = Tokenizer.load(TINY); TextModel text = TextModel.open(GgufFolder.of(model), adapter, 1, 512)) {
      for (int i = 0; i < PROMPTS.size(); i++) {
        int[] expected = tokenizer.encode(PROMPTS.get(i), true);
        assertThat(ids(answers.get(i).get("ids"))).as("tokens of " + PROMPTS.get(i)).isEqualTo(expected);
        assertThat(Arrays.stream(ids(answers.get(i).get("continued"))).boxed().toList()).as("text after " + PROMPTS.get(i))
            .isEqualTo(ours(text, expected));
      }
    }
  }

  @Test
  void plainModel() throws Exception {
    sameText(export(TINY, null, ExportFormat.GGUF, GgufMix.F32, "f32.gguf"), TINY, null);
  }

  @Test
  void mergedAdapter() throws Exception {
    Path adapter = RandomAdapter.write(Files.createDirectory(folder.resolve("adapter")), TINY, 4, 8, false, 0.05);
    sameText(export(TINY, adapter, ExportFormat.GGUF, GgufMix.F32, "merged.gguf"), TINY, adapter);
  }

  @Test
  void adapterBesideItsModel() throws Exception {
    Path adapter = RandomAdapter.write(Files.createDirectory(folder.resolve("adapter")), TINY, 4, 8, true, 0.05);
    Path base = export(TINY, null, ExportFormat.GGUF, GgufMix.F32, "f32.gguf");
    Path lora = export(TINY, adapter, ExportFormat.GGUF_ADAPTER, GgufMix.F32, "lora.gguf");
    sameText(base, TINY, adapter, "--lora", lora.toString());
  }

  /** In blocks llama.cpp rounds activations too: most of the text is the same, and all of it is read. */
  @Test
  void quantized() throws Exception {
    for (GgufMix mix : List.of(GgufMix.F16, GgufMix.BF16, GgufMix.Q8_0, GgufMix.Q4_K_M, GgufMix.Q6_K, GgufMix.Q5_K_M, GgufMix.Q4_0)) {
      Path file = export(TINY, null, ExportFormat.GGUF, mix, mix + ".gguf");
      List<JsonNode> answers = ask(file, PROMPTS);
      int same = 0;
      int all = 0;
      try (TextModel text = TextModel.open(GgufFolder.of(file), null, 1, 512)) {
        for (JsonNode answer : answers) {
          List<Integer> expected = ours(text, ids(answer.get("ids")));
          int[] found = ids(answer.get("continued"));
          int at = 0;
          while (at < Math.min(found.length, expected.size()) && expected.get(at) == found[at]) {
            at++;
          }
          same += at;
          all += expected.size();
        }
      }
      assertThat((double) same / all).as(mix + ": share of the text before the first other token").isGreaterThan(0.5);
    }
  }
}
