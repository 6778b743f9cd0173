package dev.oribi.text;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import dev.oribi.OribiException;
import dev.oribi.testing.Goldens;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Models of SentencePiece, against what SentencePiece gives for them. */
class SentencePieceTest {
  @TempDir
  private Path folder;

  private Tokenizer load(String model) throws IOException {
    Files.copy(TestData.file("tokenizers/" + model), folder.resolve("tokenizer.model"));
    return Tokenizer.load(folder);
  }

  @ParameterizedTest
  @CsvSource({"llama2/tokenizer.model,llama2", "mistral/tokenizer.v1.model,mistral-v1", "mistral/tokenizer.v3.model,mistral-v3"})
  void encodesAsSentencePiece(String model, String name) throws IOException {
    JsonNode texts = TestData.json("tokenizer-goldens/encodings.json").get("sentencepiece").get(name);
    assertThat(texts.size()).isEqualTo(43);
    try (Tokenizer tokenizer = load(model)) {
      for (JsonNode text : texts) {
        int[] ids = StreamSupport.stream(text.get("ids").spliterator(), false).mapToInt(JsonNode::asInt).toArray();
        String source = text.get("text").asText();
        assertThat(tokenizer.encode(source, false)).as(source).isEqualTo(ids);
        assertThat(tokenizer.decode(ids, false)).isEqualTo(source);
        assertThat(TokenizerTest.streamed(tokenizer, ids)).isEqualTo(source);
        Goldens.passed("texts encoded as by SentencePiece");
      }
    }
  }

  @Test
  void encodesTheListOfLlamaCpp() throws IOException {
    try (Tokenizer tokenizer = load("llama2/tokenizer.model")) {
      TokenizerTest.checkList(tokenizer, "llama-spm");
    }
  }

  /** The examples that SentencePiece's own page for Python gives with this model: unigram, NFKC, spaces made one. */
  @Test
  void encodesUnigramAsPublished() throws IOException {
    try (Tokenizer tokenizer = load("sentencepiece-unigram/test_model.model")) {
      assertThat(tokenizer.encode("This is a test", false)).containsExactly(284, 47, 11, 4, 15, 400);
      assertThat(tokenizer.encode("Hello world", false)).containsExactly(151, 88, 21, 887);
      assertThat(Arrays.stream(tokenizer.encode("This is a test", false)).mapToObj(tokenizer::token))
          .containsExactly("▁This", "▁is", "▁a", "▁", "t", "est");
      assertThat(tokenizer.encode("  Hello   world ", false)).as("spaces").containsExactly(151, 88, 21, 887);
      assertThat(tokenizer.encode("Ｈｅｌｌｏ　ｗｏｒｌｄ", false)).as("NFKC").containsExactly(151, 88, 21, 887);
      assertThat(tokenizer.decode(new int[] {284, 47, 11, 4, 15, 400}, false)).isEqualTo("This is a test");
      Encoding encoding = tokenizer.encodeWithOffsets("  Ｈｅｌｌｏ   world ", false);
      assertThat(encoding.begin()).containsExactly(2, 4, 6, 7);
      assertThat(encoding.end()).containsExactly(4, 6, 7, 15);
    }
  }

  @Test
  void specialTokensComeFromTheModel() throws IOException {
    try (Tokenizer tokenizer = load("llama2/tokenizer.model")) {
      assertThat(tokenizer.bosToken()).contains("<s>");
      assertThat(tokenizer.eosTokenId()).hasValue(2);
      assertThat(tokenizer.vocabSize()).isEqualTo(32000);
      assertThat(tokenizer.encode("a</s>b", true)).as("as transformers").containsExactly(1, 263, 2, 289);
      assertThat(tokenizer.decode(new int[] {1, 263, 2}, true)).isEqualTo("a");
    }
  }

  @Test
  void filesThatLieAreOneClearLine() throws IOException {
    Path file = folder.resolve("tokenizer.model");
    byte[] whole = Files.readAllBytes(TestData.file("tokenizers/sentencepiece-unigram/test_model.model"));
    for (int length : new int[] {0, 1, 2, 100, 20_000, whole.length - 1}) {
      Files.write(file, Arrays.copyOf(whole, length));
      assertThatThrownBy(() -> Tokenizer.load(folder)).as("%d bytes", length).isInstanceOf(OribiException.class)
          .hasMessageStartingWith(file + " is not a SentencePiece model");
    }
    ByteArrayOutputStream lie = new ByteArrayOutputStream();
    lie.writeBytes(new byte[] {0x0A, (byte) 0xFF, (byte) 0xFF, (byte) 0xFF, (byte) 0xFF, (byte) 0xFF, (byte) 0xFF, (byte) 0xFF, 0x7F, 1});
    Files.write(file, lie.toByteArray());
    assertThatThrownBy(() -> Tokenizer.load(folder)).hasMessageContaining("reaches past the end");
  }
}
