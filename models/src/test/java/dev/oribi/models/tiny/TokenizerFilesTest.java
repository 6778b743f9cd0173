package dev.oribi.models.tiny;

import static org.assertj.core.api.Assertions.assertThat;

import ai.djl.huggingface.tokenizers.HuggingFaceTokenizer;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class TokenizerFilesTest {
  private static final Path COMMITTED = Path.of("tiny", "model");
  private static final double TOKENIZER_MEGABYTES = 4; // as make.sh says
  private static final long TOKENIZER_SEED = 1;

  @TempDir static Path folder;
  private static HuggingFaceTokenizer tokenizer;
  private static JsonNode json;

  @BeforeAll
  static void makeAgain() throws IOException {
    StoryGenerator.write(folder, (long) (TOKENIZER_MEGABYTES * 1e6), TOKENIZER_SEED);
    TokenizerFiles.main(new String[] {folder.resolve("train.jsonl").toString(), folder.resolve("model").toString()});
    Path file = folder.resolve("model").resolve("tokenizer.json");
    tokenizer = HuggingFaceTokenizer.newInstance(file, Map.of("truncation", "false", "padding", "false"));
    json = new ObjectMapper().readTree(Files.readString(file));
  }

  @AfterAll
  static void close() {
    tokenizer.close();
  }

  @Test
  void committedFilesAreTheGeneratorsOutput() throws IOException {
    try (DirectoryStream<Path> files = Files.newDirectoryStream(folder.resolve("model"))) {
      for (Path file : files) {
        assertThat(COMMITTED.resolve(file.getFileName())).hasSameBinaryContentAs(file);
      }
    }
  }

  @Test
  void configFitsTheTokenizer() throws IOException {
    JsonNode config = new ObjectMapper().readTree(Files.readString(COMMITTED.resolve("config.json")));
    JsonNode ids = json.at("/model/vocab");
    assertThat(config.get("vocab_size").intValue()).isEqualTo(ids.size()).isEqualTo(TokenizerFiles.VOCAB_SIZE);
    assertThat(config.get("bos_token_id")).isEqualTo(ids.get(TokenizerFiles.END_OF_TEXT));
    assertThat(config.get("pad_token_id")).isEqualTo(ids.get(TokenizerFiles.PAD));
  }

  @Test
  void specialTokensHaveTheirIds() {
    for (int id = 0; id < TokenizerFiles.SPECIAL_TOKENS.size(); id++) {
      assertThat(ids(TokenizerFiles.SPECIAL_TOKENS.get(id))).containsExactly(id);
    }
    assertThat(tokenizer.encode("Hello", true, false).getIds()[0]).as("a text begins with <|endoftext|>").isZero();
  }

  @Test
  void anyTextRoundTrips() {
    Random random = new Random(7);
    List<String> texts = new ArrayList<>(List.of("", " ", "  a\n\n b\t", "\u0000\u007f", "Hop, hop!"));
    texts.add("Grüße, 世界! 👩‍👩‍👧 \u00a0\u200b don't I'LL 1234 ½");
    for (int i = 0; i < 300; i++) {
      texts.add(randomText(random));
    }
    for (String text : texts) {
      assertThat(tokenizer.decode(ids(text), false)).isEqualTo(text);
    }
  }

  private static String randomText(Random random) {
    StringBuilder text = new StringBuilder();
    int length = random.nextInt(60);
    while (text.length() < length) {
      int limit = random.nextBoolean() ? 0x80 : random.nextBoolean() ? 0x3000 : 0x110000;
      int point = random.nextInt(limit);
      if (!(point >= 0xd800 && point < 0xe000)) {
        text.appendCodePoint(point);
      }
    }
    return text.toString();
  }

  /** The library, given our file, must cut and merge as the trainer meant: compared with merging by the book. */
  @Test
  void libraryEncodesAsTheMergesSay() {
    StoryGenerator generator = new StoryGenerator(99);
    for (int i = 0; i < 40; i++) {
      String text = generator.next().replaceAll("<\\|\\w+\\|>", " ") + " Zq\u00e9  x9's";
      List<Long> expected = new ArrayList<>();
      for (String word : BpeTrainer.words(text)) {
        expected.addAll(byTheBook(word));
      }
      assertThat(ids(text)).as(text).containsExactly(expected.stream().mapToLong(Long::longValue).toArray());
    }
  }

  private static List<Long> byTheBook(String word) {
    List<String> parts = new ArrayList<>();
    for (byte b : word.getBytes(StandardCharsets.UTF_8)) {
      parts.add(String.valueOf(BpeTrainer.BYTE_TO_CHAR[b & 0xff]));
    }
    for (JsonNode merge : json.at("/model/merges")) {
      String[] pair = merge.textValue().split(" ");
      for (int i = 0; i + 1 < parts.size(); i++) {
        if (parts.get(i).equals(pair[0]) && parts.get(i + 1).equals(pair[1])) {
          parts.set(i, parts.get(i) + parts.remove(i + 1));
        }
      }
    }
    return parts.stream().map(part -> json.at("/model/vocab").required(part).longValue()).toList();
  }

  @Test
  void documentsFitTheContextAndAreShortInTokens() {
    StoryGenerator generator = new StoryGenerator(5);
    long bytes = 0;
    long tokens = 0;
    int longest = 0;
    for (int i = 0; i < 1500; i++) {
      String text = generator.next();
      int length = ids(text).length;
      bytes += text.length();
      tokens += length;
      longest = Math.max(longest, length);
    }
    assertThat(longest).as("tokens of the longest document").isLessThan(512);
    assertThat((double) bytes / tokens).as("bytes per token").isGreaterThan(3.7);
  }

  private static long[] ids(String text) {
    return tokenizer.encode(text, false, false).getIds();
  }
}
