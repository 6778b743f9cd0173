package dev.oribi.text;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import dev.oribi.OribiException;
import dev.oribi.testing.Goldens;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class TokenizerTest {
  @TempDir
  private static Path shared;

  private static int[] ints(JsonNode array) {
    return StreamSupport.stream(array.spliterator(), false).mapToInt(JsonNode::asInt).toArray();
  }

  /** Ids and texts that Hugging Face's own library gives for real tokenizers. */
  @ParameterizedTest
  @CsvSource({"qwen3,18", "llama3.1,18", "mistral-v0.1,0"})
  void encodesAndDecodesAsPublished(String name, int chats) throws IOException {
    JsonNode golden = TestData.json("tokenizer-goldens/encodings.json").get("huggingface_tokenizers").get(name);
    assertThat(golden.get("texts").size()).isEqualTo(43);
    assertThat(golden.get("chats").size()).isEqualTo(chats);
    JsonNode rendered = TestData.json("chat/rendered.json");
    try (Tokenizer tokenizer = Tokenizer.load(TestData.tokenizer(name, shared))) {
      for (JsonNode text : golden.get("texts")) {
        int[] ids = ints(text.get("ids"));
        assertThat(tokenizer.encode(text.get("text").asText(), false)).isEqualTo(ids);
        assertThat(tokenizer.encodeWithOffsets(text.get("text").asText(), false).ids()).isEqualTo(ids);
        assertThat(tokenizer.decode(ids, false)).isEqualTo(text.get("decoded").asText());
        assertThat(streamed(tokenizer, ids)).isEqualTo(text.get("decoded").asText());
        Goldens.passed("texts encoded as by Hugging Face's tokenizers");
      }
      for (JsonNode chat : golden.get("chats")) {
        String text = renderedText(rendered, chat);
        assertThat(tokenizer.encode(text, false)).isEqualTo(ints(chat.get("ids")));
        Goldens.passed("chats encoded as by Hugging Face's tokenizers");
      }
    }
  }

  private static String renderedText(JsonNode rendered, JsonNode chat) {
    return StreamSupport.stream(rendered.get("cases").spliterator(), false)
        .filter(c -> c.get("template").equals(chat.get("template")) && c.get("conversation").equals(chat.get("conversation"))
            && !c.get("add_generation_prompt").asBoolean())
        .findFirst().orElseThrow().get("text").asText();
  }

  static String streamed(Tokenizer tokenizer, int[] ids) {
    StreamDecoder decoder = tokenizer.streamDecoder(false);
    StringBuilder text = new StringBuilder();
    for (int id : ids) {
      String piece = decoder.push(id);
      assertThat(piece).doesNotContain("\uFFFD");
      text.append(piece);
    }
    return text.append(decoder.flush()).toString();
  }

  /** The lists of texts that llama.cpp publishes for these vocabularies. */
  @ParameterizedTest
  @CsvSource({"qwen3,qwen2", "llama3.1,llama-bpe"})
  void encodesTheListsOfLlamaCpp(String name, String list) throws IOException {
    try (Tokenizer tokenizer = Tokenizer.load(TestData.tokenizer(name, shared))) {
      checkList(tokenizer, list);
    }
  }

  @Test
  void encodesGpt2FromItsTwoFiles() throws IOException {
    try (Tokenizer tokenizer = Tokenizer.load(TestData.gpt2(shared))) {
      checkList(tokenizer, "gpt-2");
      assertThat(tokenizer.eosTokenId()).hasValue(50256);
      assertThat(tokenizer.encode("a<|endoftext|>b", false)).containsExactly(64, 50256, 65);
      assertThat(tokenizer.vocabSize()).isEqualTo(50257);
    }
  }

  static void checkList(Tokenizer tokenizer, String list) throws IOException {
    String[] texts = Files.readString(TestData.file("tokenizer-goldens/ggml-vocab-" + list + ".gguf.inp")).split("\n__ggml_vocab_test__\n");
    String[] ids = Files.readString(TestData.file("tokenizer-goldens/ggml-vocab-" + list + ".gguf.out")).split("\n", -1);
    assertThat(texts.length).isGreaterThanOrEqualTo(46);
    for (int i = 0; i < texts.length; i++) {
      int[] expected = Arrays.stream(ids[i].trim().split(" ")).filter(s -> !s.isEmpty()).mapToInt(Integer::parseInt).toArray();
      assertThat(tokenizer.encode(texts[i], false)).as("text %d: %s", i, texts[i]).isEqualTo(expected);
      Goldens.passed("texts of llama.cpp's lists");
    }
  }

  @Test
  void neverCutsOrPads() throws IOException {
    try (Tokenizer tokenizer = Tokenizer.load(ByteTokenizer.write(shared.resolve("byte")))) {
      assertThat(tokenizer.encode("x".repeat(100_000), true)).hasSize(100_001);
      assertThat(tokenizer.encode("", false)).isEmpty();
    }
  }

  /** The library would read freed memory and end the process. */
  @Test
  void closingWaitsForCallsAndEndsUse() throws Exception {
    Tokenizer tokenizer = Tokenizer.load(ByteTokenizer.write(shared.resolve("closing")));
    String text = "x".repeat(50_000);
    CountDownLatch begun = new CountDownLatch(4);
    List<Thread> threads = new ArrayList<>();
    AtomicInteger whole = new AtomicInteger();
    for (int i = 0; i < 4; i++) {
      Thread thread = new Thread(() -> {
        try {
          while (true) {
            assertThat(tokenizer.encode(text, true)).hasSize(50_001);
            whole.incrementAndGet();
            begun.countDown();
          }
        } catch (IllegalStateException closed) {
          assertThat(closed).hasMessageContaining("is closed");
        }
      });
      thread.start();
      threads.add(thread);
    }
    begun.await();
    tokenizer.close();
    for (Thread thread : threads) {
      thread.join();
    }
    assertThat(whole.get()).isGreaterThanOrEqualTo(4);
    assertThatThrownBy(() -> tokenizer.decode(new int[] {1}, true)).isInstanceOf(IllegalStateException.class);
    tokenizer.close();
  }

  @Test
  void offsetsAreJavaIndices() throws IOException {
    try (Tokenizer tokenizer = Tokenizer.load(ByteTokenizer.write(shared.resolve("byte")))) {
      Encoding encoding = tokenizer.encodeWithOffsets("a🙂é", true);
      assertThat(encoding.ids()).hasSize(1 + 1 + 4 + 2);
      assertThat(encoding.begin()).containsExactly(-1, 0, 1, 1, 1, 1, 3, 3);
      assertThat(encoding.end()).containsExactly(-1, 1, 3, 3, 3, 3, 4, 4);
    }
  }

  @Test
  void streamsNeverSplitACharacter() throws IOException {
    try (Tokenizer tokenizer = Tokenizer.load(ByteTokenizer.write(shared.resolve("byte")))) {
      StreamDecoder decoder = tokenizer.streamDecoder();
      String text = "é🙂日";
      StringBuilder pieces = new StringBuilder();
      for (int id : tokenizer.encode(text, true)) {
        pieces.append(decoder.push(id)).append('|');
      }
      assertThat(pieces).hasToString("||é||||🙂|||日|");
      assertThat(decoder.flush()).isEmpty();
      assertThat(decoder.push(0xE6)).isEmpty();
      assertThat(decoder.flush()).isEqualTo("\uFFFD");
      long given = IntStream.range(0, 1000).filter(i -> !decoder.push(0xFF).isEmpty()).count();
      assertThat(given).as("bytes that are no text do not pile up").isGreaterThan(10);
    }
  }

  @Test
  void knowsItsSpecialTokens() throws IOException {
    Path folder = ByteTokenizer.write(shared.resolve("special"));
    try (Tokenizer tokenizer = Tokenizer.load(folder)) {
      assertThat(tokenizer.vocabSize()).isEqualTo(260);
      assertThat(tokenizer.bosTokenId()).hasValue(ByteTokenizer.BOS);
      assertThat(tokenizer.eosTokenId()).hasValue(ByteTokenizer.EOS);
      assertThat(tokenizer.padTokenId()).isEmpty();
      assertThat(tokenizer.bosToken()).contains("<s>");
      assertThat(tokenizer.eosToken()).contains("</s>");
      assertThat(tokenizer.tokenId("<|im_end|>")).hasValue(259);
      assertThat(tokenizer.tokenId("nothing")).isEmpty();
      assertThat(tokenizer.token(259)).isEqualTo("<|im_end|>");
      assertThat(tokenizer.decode(new int[] {256, 'a', 259}, true)).isEqualTo("a");
      assertThat(tokenizer.decode(new int[] {256, 'a', 259}, false)).isEqualTo("<s>a<|im_end|>");
      assertThatThrownBy(() -> tokenizer.decode(new int[] {260}, false)).isInstanceOf(OribiException.class)
          .hasMessageContaining("Token id 260 is not in the vocabulary").hasMessageContaining("0 to 259");
    }
    Files.delete(folder.resolve("tokenizer_config.json"));
    Files.writeString(folder.resolve("generation_config.json"), "{\"eos_token_id\": [259, 257], \"bos_token_id\": 256}");
    Files.writeString(folder.resolve("special_tokens_map.json"), "{\"pad_token\": \"<|im_start|>\"}");
    try (Tokenizer tokenizer = Tokenizer.load(folder)) {
      assertThat(tokenizer.eosTokenId()).hasValue(259);
      assertThat(tokenizer.bosTokenId()).hasValue(256);
      assertThat(tokenizer.padTokenId()).hasValue(258);
    }
  }

  @Test
  void theFingerprintFollowsTheFiles() throws IOException {
    Path folder = ByteTokenizer.write(shared.resolve("print"));
    String before;
    try (Tokenizer tokenizer = Tokenizer.load(folder); Tokenizer same = Tokenizer.load(ByteTokenizer.write(shared.resolve("print2")))) {
      before = tokenizer.fingerprint();
      assertThat(same.fingerprint()).isEqualTo(before).hasSize(64);
    }
    Files.writeString(folder.resolve("special_tokens_map.json"), "{}");
    try (Tokenizer tokenizer = Tokenizer.load(folder)) {
      assertThat(tokenizer.fingerprint()).isNotEqualTo(before);
    }
  }

  @ParameterizedTest
  @CsvSource(delimiter = '@', quoteCharacter = '`', value = {
    "{ @ not valid JSON at line 1",
    "[] @ does not hold a JSON object",
    "{} @ model.vocab is missing",
    "{\"model\": {\"vocab\": {}}} @ the vocabulary is empty",
    "{\"model\": {\"vocab\": {\"a\": -1}}} @ the id of token 'a' is -1",
    "{\"model\": {\"vocab\": {\"a\": 99999999999}}} @ the id of token 'a' is 99999999999",
    "{\"model\": {\"vocab\": {\"a\": \"x\"}}} @ the id of token 'a' is \"x\"",
    "{\"model\": {\"vocab\": [1]}} @ entry 0 of model.vocab",
    "{\"model\": {\"vocab\": {\"a\": 0}}, \"added_tokens\": 5} @ added_tokens is not a list",
    "{\"model\": {\"vocab\": {\"a\": 0}}, \"added_tokens\": [{\"id\": 1}]} @ has no content",
    "{\"model\": {\"type\": \"Nonsense\", \"vocab\": {\"a\": 0}}} @ The tokenizer library cannot read",
    "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [\"b c\"]}} @ The tokenizer library cannot read"
  })
  void brokenFilesAreOneClearLine(String json, String message, @TempDir Path folder) throws IOException {
    Files.writeString(folder.resolve("tokenizer.json"), json);
    assertThatThrownBy(() -> Tokenizer.load(folder)).isInstanceOf(OribiException.class)
        .hasMessageContaining(message).hasMessageContaining(folder.resolve("tokenizer.json").toString())
        .satisfies(e -> assertThat(e.getMessage()).doesNotContain("\n"));
  }

  @Test
  void missingFilesAndForeignTokensAreNamed(@TempDir Path folder) throws IOException {
    assertThat(Tokenizer.exists(folder)).isFalse();
    assertThatThrownBy(() -> Tokenizer.load(folder)).isInstanceOf(OribiException.class).hasMessageStartingWith("No tokenizer.json in " + folder);
    ByteTokenizer.write(folder);
    assertThat(Tokenizer.exists(folder)).isTrue();
    Files.writeString(folder.resolve("tokenizer_config.json"), "{\"eos_token\": \"<|other|>\"}");
    assertThatThrownBy(() -> Tokenizer.load(folder)).hasMessageContaining("'<|other|>'").hasMessageContaining("different models");
    Files.writeString(folder.resolve("tokenizer_config.json"), "{}");
    Files.writeString(folder.resolve("generation_config.json"), "{\"eos_token_id\": 5000}");
    assertThatThrownBy(() -> Tokenizer.load(folder)).hasMessageContaining("5000").hasMessageContaining("different models");
    Files.writeString(folder.resolve("tokenizer.json"), "[".repeat(5000));
    assertThatThrownBy(() -> Tokenizer.load(folder)).isInstanceOf(OribiException.class).hasMessageContaining("not valid JSON");
  }
}
