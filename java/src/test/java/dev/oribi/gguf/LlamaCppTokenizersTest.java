package dev.oribi.gguf;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import dev.oribi.io.Json;
import dev.oribi.model.ModelFiles;
import dev.oribi.testing.LlamaCpp;
import dev.oribi.testing.LlamaCpp.Answer;
import dev.oribi.testing.LlamaCpp.Job;
import dev.oribi.testing.TokenizerOnlyModel;
import dev.oribi.text.TestData;
import dev.oribi.text.Tokenizer;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/** llama.cpp cuts texts into the tokens that tokenizer.json asks for, under every name of a pre-tokenizer that we write. */
class LlamaCppTokenizersTest {
  private static final Path TINY = Path.of("../models/tiny/model");
  private static final List<String> TEXTS = List.of(
      "Once upon a time, 12345 dogs didn't bark; THEY'LL bark in 2025.",
      "  two  spaces\n\n\tand tabs \r\n end <table>",
      "CamelCaseWords and ΑΒΓαβγ, Straße, ÄÖÜ, ǅ, naïve café",
      "Grüße, 東京! 🦌 १२३ ½",
      "foo(bar)/baz::qux -> x += 1;  // a comment\n}\n\n\n",
      "a/b\n//c .../\r\n");

  @TempDir private Path folder;
  private LlamaCpp reader;

  @BeforeEach
  void find() {
    reader = LlamaCpp.find(folder);
  }

  private void sameTokens(Path tokenizer) throws IOException, InterruptedException {
    Path file = TokenizerOnlyModel.write(folder.resolve("t.gguf"), tokenizer);
    List<Answer> answers = reader.run(new Job(file, null, TEXTS, 0, false));
    try (Tokenizer ours = Tokenizer.load(tokenizer); Tokenizer again = Tokenizer.load(GgufFolder.of(file))) {
      for (int i = 0; i < TEXTS.size(); i++) {
        int[] expected = ours.encode(TEXTS.get(i), true);
        assertThat(again.encode(TEXTS.get(i), true)).as("read back: " + TEXTS.get(i)).isEqualTo(expected);
        assertThat(answers.get(i).ids()).as(TEXTS.get(i)).isEqualTo(expected);
      }
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"llama3.1", "qwen3", "mistral-v0.1"})
  void ofPublishedModels(String name) throws Exception {
    sameTokens(TestData.tokenizer(name, folder));
  }

  /** The merges of the tiny model after each kind of cut: what differs is the cut alone. */
  @ParameterizedTest
  @EnumSource
  void ofEveryName(PreTokenizer pre) throws Exception {
    Path tokenizer = Files.createDirectory(folder.resolve("tokenizer"));
    ModelFiles.copyCompanions(TINY, tokenizer);
    ObjectNode json = Json.readObject(tokenizer.resolve("tokenizer.json"));
    pre.putInto(json);
    ((ObjectNode) json.get("model")).put("ignore_merges", pre.ignoreMerges());
    Json.write(tokenizer.resolve("tokenizer.json"), json);
    sameTokens(tokenizer);
  }

  /** Pieces as Gemma has them: no space before the text, and tokens of their own for runs of spaces and line feeds and for tags. */
  @Test
  void ofPiecesWithoutASpaceBefore() throws Exception {
    Path tokenizer = TestData.tokenizer("mistral-v0.1", folder);
    ObjectNode json = Json.readObject(tokenizer.resolve("tokenizer.json"));
    json.putObject("normalizer").put("type", "Replace").put("content", "▁").putObject("pattern").put("String", " ");
    json.putObject("pre_tokenizer").put("type", "Split").put("behavior", "MergedWithPrevious").put("invert", false).putObject("pattern")
        .put("String", " ");
    ArrayNode decoders = json.putObject("decoder").put("type", "Sequence").putArray("decoders");
    decoders.addObject().put("type", "Replace").put("content", " ").putObject("pattern").put("String", "▁");
    decoders.addObject().put("type", "ByteFallback");
    decoders.addObject().put("type", "Fuse");
    ObjectNode vocab = (ObjectNode) json.get("model").get("vocab");
    for (String token : List.of("\n\n", "▁▁", "<table>")) {
      int id = vocab.has(token) ? vocab.get(token).asInt() : vocab.size();
      vocab.put(token, id);
      ((ArrayNode) json.get("added_tokens")).addObject().put("id", id).put("content", token).put("single_word", false).put("lstrip", false)
          .put("rstrip", false).put("normalized", false).put("special", false);
    }
    Json.write(tokenizer.resolve("tokenizer.json"), json);
    sameTokens(tokenizer);
  }

  /** Llama 3's cuts with merges from the start have another name: a whole piece that is a token may be cut differently. */
  @Test
  void theNameSaysWhetherMergesAreIgnored() throws Exception {
    ObjectNode json = Json.readObject(TestData.tokenizer("llama3.1", folder).resolve("tokenizer.json"));
    assertThat(PreTokenizer.of(json, "test")).isEqualTo(PreTokenizer.LLAMA3);
    ((ObjectNode) json.get("model")).put("ignore_merges", false);
    assertThat(PreTokenizer.of(json, "test")).isEqualTo(PreTokenizer.DBRX);
    ((ArrayNode) json.get("pre_tokenizer").get("pretokenizers")).insertObject(0).put("type", "Digits").put("individual_digits", true);
    assertThatThrownBy(() -> PreTokenizer.of(json, "test")).isInstanceOf(OribiException.class).hasMessageContaining("deepseek-v3");
  }
}
