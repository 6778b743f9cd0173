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
    sameTokens(tokenizer, "t", TEXTS);
  }

  private void sameTokens(Path tokenizer, String title, List<String> texts) throws IOException, InterruptedException {
    Path file = TokenizerOnlyModel.write(folder.resolve("t.gguf"), tokenizer, title);
    List<Answer> answers = reader.run(new Job(file, null, texts, 0, false));
    try (Tokenizer ours = Tokenizer.load(tokenizer); Tokenizer again = Tokenizer.load(GgufFolder.of(file))) {
      for (int i = 0; i < texts.size(); i++) {
        int[] expected = ours.encode(texts.get(i), true);
        assertThat(again.encode(texts.get(i), true)).as("read back: " + texts.get(i)).isEqualTo(expected);
        assertThat(answers.get(i).ids()).as(texts.get(i)).isEqualTo(expected);
      }
    }
  }

  private static void add(ObjectNode json, String token, boolean rstrip, boolean special) {
    ObjectNode vocab = (ObjectNode) json.get("model").get("vocab");
    int id = vocab.has(token) ? vocab.get(token).asInt() : vocab.size();
    vocab.put(token, id);
    ArrayNode all = (ArrayNode) json.get("added_tokens");
    for (int i = 0; i < all.size(); i++) {
      if (all.get(i).get("content").asText().equals(token)) {
        all.remove(i);
      }
    }
    all.addObject().put("id", id).put("content", token).put("single_word", false).put("lstrip", false)
        .put("rstrip", rstrip).put("normalized", false).put("special", special);
  }

  private static final List<String> TURNS = List.of("<|user|>\nWhat is it?<|end|>\n<|assistant|>\n  It is.<|end|>\n", "<|endoftext|> a</s> b");

  /** Phi-3's tokens take the line feed behind them: llama.cpp lets them do so by the model's name alone, whatever the user calls it. */
  @ParameterizedTest
  @ValueSource(strings = {"my-model", "Phi-3-mine"})
  void ofPhi3WhateverItIsCalled(String title) throws Exception {
    Path tokenizer = TestData.tokenizer("mistral-v0.1", folder);
    ObjectNode json = Json.readObject(tokenizer.resolve("tokenizer.json"));
    for (String token : List.of("</s>", "<|assistant|>", "<|end|>", "<|user|>")) {
      add(json, token, true, true);
    }
    add(json, "<|endoftext|>", false, true);
    Json.write(tokenizer.resolve("tokenizer.json"), json);
    assertThat(TokenizerKeys.limit(tokenizer)).isEmpty();
    sameTokens(tokenizer, title, TURNS);
  }

  /** Another model that is called so would lose its line feeds, and llama.cpp ends where it lacks Phi-3's tokens. */
  @Test
  void ofAnotherModelThatIsCalledPhi3() throws Exception {
    sameTokens(TestData.tokenizer("mistral-v0.1", folder), "not-a-phi-3", TEXTS);
    sameTokens(TestData.tokenizer("qwen3", folder), "Phi3-like", List.of("<|im_start|>user\nHi<|im_end|>\n"));
  }

  @Test
  void tokensThatTakeWhiteSpaceInAnotherTokenizerAreNamed() throws Exception {
    Path tokenizer = TestData.tokenizer("qwen3", folder);
    assertThat(TokenizerKeys.limit(tokenizer)).isEmpty();
    ObjectNode json = Json.readObject(tokenizer.resolve("tokenizer.json"));
    add(json, "<|im_sep|>", true, true);
    Json.write(tokenizer.resolve("tokenizer.json"), json);
    assertThat(TokenizerKeys.limit(tokenizer)).hasValueSatisfying(said -> assertThat(said).contains("<|im_sep|>"));
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
    for (String token : List.of("\n\n", "▁▁", "<table>")) {
      add(json, token, false, false);
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
