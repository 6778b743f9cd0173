package dev.oribi.text;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Oribi's own encoding against Hugging Face's library, on texts made by chance and on every character. */
class BytePairPropertyTest {
  private static final ObjectMapper MAPPER = new ObjectMapper();
  private static final String[] PIECES = {
    " ", "  ", "\n", "\r\n", "\t", "\u00A0", "\u3000", "\u2028", "a", "the", " the", "Hello", "HELLO", "don't", "'ſ", "'LL", "'re ", "'", "''s",
    "1", "12", "123456", "٣", "½", "Ⅷ", ".", "...", "!?\n", "</", "<|", "|>", "<|im_end|>", "<s>", "</s>", "<|eot_id|>", "▁", "▁▁", "é", "e\u0301",
    "Å", "日本", "語", "한국어", "\u1100\u1161", "ﬁ", "🙂", "👩\u200d👧", "🇫🇷", "\u0000", "\u200B", "\uFEFF", "\uFFFD", "𝒳", "\u0378", "ß", "İ", "ǅ", "_",
    "\u0300", "\u0E33", "नमस्ते", "{\"a\": [1, 2]}", "    return x\n", "https://a.b/c?d=1", "\u0085", "`", "\u2019s"
  };

  @TempDir
  private static Path shared;

  private static final List<AutoCloseable> OPEN = new ArrayList<>();

  @AfterAll
  static void close() throws Exception {
    for (AutoCloseable engine : OPEN) {
      engine.close();
    }
  }

  private record Both(TokenizerEngine own, TokenizerEngine library, int vocabulary) {}

  private static Both both(Path file) throws Exception {
    byte[] bytes = Files.readAllBytes(file);
    JsonNode json = MAPPER.readTree(bytes);
    var ids = TokenizerJson.vocabulary(file, json);
    TokenizerEngine library = LibraryEngine.open(file, bytes);
    TokenizerEngine own = new BytePairEngine(BytePairJson.read(json, ids), () -> library);
    OPEN.add(library);
    return new Both(own, library, BytePairJson.byId(ids).length);
  }

  private static Both both(String name) throws Exception {
    return both(switch (name) {
      case "gpt2" -> gpt2();
      case "metaspace" -> metaspace();
      case "gemma-like" -> gemmaLike();
      case "digits" -> digits();
      default -> TestData.tokenizer(name, shared).resolve("tokenizer.json");
    });
  }

  /** GPT-2's two files in one, for the library. */
  private static Path gpt2() throws IOException {
    Path file = shared.resolve("gpt2.json");
    if (!Files.exists(file)) {
      Path folder = TestData.gpt2(shared);
      ObjectNode json = MAPPER.createObjectNode();
      ObjectNode model = json.putObject("model").put("type", "BPE");
      model.set("vocab", MAPPER.readTree(folder.resolve("vocab.json").toFile()));
      var merges = model.putArray("merges");
      Files.readAllLines(folder.resolve("merges.txt")).stream().filter(line -> !line.startsWith("#version") && !line.isEmpty()).forEach(merges::add);
      json.putObject("pre_tokenizer").put("type", "ByteLevel").put("add_prefix_space", false).put("trim_offsets", false).put("use_regex", true);
      json.putObject("decoder").put("type", "ByteLevel").put("add_prefix_space", false).put("trim_offsets", false).put("use_regex", true);
      MAPPER.writeValue(file.toFile(), json);
    }
    return file;
  }

  /** Mistral's vocabulary with the newer way of writing spaces. */
  private static Path metaspace() throws IOException {
    Path file = shared.resolve("metaspace.json");
    ObjectNode json = (ObjectNode) MAPPER.readTree(TestData.tokenizer("mistral-v0.1", shared).resolve("tokenizer.json").toFile());
    json.putNull("normalizer");
    json.putObject("pre_tokenizer").put("type", "Metaspace").put("replacement", "▁").put("prepend_scheme", "first").put("split", false);
    MAPPER.writeValue(file.toFile(), json);
    return file;
  }

  /** Mistral's vocabulary with Gemma's way of writing spaces. */
  private static Path gemmaLike() throws IOException {
    Path file = shared.resolve("gemma.json");
    ObjectNode json = (ObjectNode) MAPPER.readTree(TestData.tokenizer("mistral-v0.1", shared).resolve("tokenizer.json").toFile());
    json.putObject("normalizer").put("type", "Replace").put("content", "▁").putObject("pattern").put("String", " ");
    json.putObject("pre_tokenizer").put("type", "Split").put("behavior", "MergedWithPrevious").put("invert", false).putObject("pattern").put("String", " ");
    ((com.fasterxml.jackson.databind.node.ArrayNode) json.get("decoder").get("decoders")).remove(3);
    MAPPER.writeValue(file.toFile(), json);
    return file;
  }

  /** GPT-2's vocabulary with each digit a word, as SmolLM's. */
  private static Path digits() throws IOException {
    Path file = shared.resolve("digits.json");
    ObjectNode json = (ObjectNode) MAPPER.readTree(gpt2().toFile());
    var steps = json.putObject("pre_tokenizer").put("type", "Sequence").putArray("pretokenizers");
    steps.addObject().put("type", "Digits").put("individual_digits", true);
    steps.addObject().put("type", "ByteLevel").put("add_prefix_space", false).put("trim_offsets", true).put("use_regex", true);
    MAPPER.writeValue(file.toFile(), json);
    return file;
  }

  private static String text(Random random) {
    StringBuilder text = new StringBuilder();
    int pieces = random.nextInt(30);
    for (int i = 0; i < pieces; i++) {
      String piece = PIECES[random.nextInt(PIECES.length)];
      text.append(random.nextInt(40) == 0 ? piece.repeat(1 + random.nextInt(60)) : piece);
      if (random.nextInt(12) == 0) {
        text.appendCodePoint(anyCodePoint(random));
      }
    }
    return text.toString();
  }

  private static int anyCodePoint(Random random) {
    while (true) {
      int c = random.nextInt(0x20000);
      if (Character.getType(c) != Character.SURROGATE) {
        return c;
      }
    }
  }

  @ParameterizedTest
  @CsvSource({"qwen3,1", "llama3.1,2", "mistral-v0.1,3", "gpt2,4", "metaspace,5", "gemma-like,6", "digits,7"})
  void encodesAndDecodesAsTheLibrary(String name, long seed) throws Exception {
    Both both = both(name);
    Random random = new Random(seed);
    for (int i = 0; i < 2500; i++) {
      String text = text(random);
      boolean special = random.nextBoolean();
      Encoding expected = both.library().encode(text, special, true);
      Encoding own = both.own().encode(text, special, true);
      assertThat(own.ids()).as("seed %d, text %d: %s", seed, i, text).isEqualTo(expected.ids());
      assertThat(both.own().encode(text, special, false).ids()).isEqualTo(expected.ids());
      if (!name.equals("llama3.1") && !name.equals("gpt2") && !name.equals("digits")) {
        assertThat(own.begin()).as("beginnings in %s", text).isEqualTo(expected.begin());
        assertThat(own.end()).as("ends in %s", text).isEqualTo(expected.end());
      }
      int[] any = random.ints(random.nextInt(12), 0, both.vocabulary()).toArray();
      assertThat(both.own().decode(any, special)).as("ids %s", any).isEqualTo(both.library().decode(any, special));
    }
  }

  /** The classes of characters are those of the library, whichever version of Unicode each has. */
  @ParameterizedTest
  @ValueSource(strings = {"qwen3", "llama3.1", "gpt2", "digits"})
  void everyCharacterIsOfTheSameKind(String name) throws Exception {
    Both both = both(name);
    StringBuilder text = new StringBuilder();
    for (int c = 0; c <= 0x3FFFF; c++) {
      if (Character.isDefined(c) && Character.getType(c) != Character.SURROGATE) {
        text.append('a').appendCodePoint(c).append("1 ").appendCodePoint(c).appendCodePoint(c).append('.');
      }
      if (text.length() > 20_000 || c == 0x3FFFF) {
        assertThat(both.own().encode(text.toString(), false, false).ids()).as("up to %x", c)
            .isEqualTo(both.library().encode(text.toString(), false, false).ids());
        text.setLength(0);
      }
    }
  }

  @Test
  void otherFilesGoToTheLibraryByName() throws Exception {
    Path folder = ByteTokenizer.write(shared.resolve("other"));
    try (Tokenizer tokenizer = Tokenizer.load(folder)) {
      assertThat(tokenizer.reader()).isEqualTo("Oribi");
    }
    ObjectNode json = (ObjectNode) MAPPER.readTree(folder.resolve("tokenizer.json").toFile());
    json.putObject("normalizer").put("type", "Lowercase");
    MAPPER.writeValue(folder.resolve("tokenizer.json").toFile(), json);
    try (Tokenizer tokenizer = Tokenizer.load(folder)) {
      assertThat(tokenizer.reader()).contains("Hugging Face's library").endsWith("its normalizer is Lowercase");
      assertThat(tokenizer.encode("AB", false)).containsExactly('a', 'b');
    }
  }

  @Test
  void halfACharacterIsRefused() throws Exception {
    try (Tokenizer tokenizer = Tokenizer.load(ByteTokenizer.write(shared.resolve("half")))) {
      for (String half : List.of("a\uD83D", "\uDE42", "\uD83D\uD83D\uDE42")) {
        assertThatThrownBy(() -> tokenizer.encode(half, true)).isInstanceOf(OribiException.class).hasMessageContaining("half a character");
      }
    }
  }

  /** A word of a million characters takes no longer than its length. */
  @ParameterizedTest
  @ValueSource(strings = {"qwen3", "mistral-v0.1"})
  @Timeout(60)
  void enormousWordsAreQuick(String name) throws Exception {
    Both both = both(name);
    for (String piece : List.of("a", "ab", " ", "日", "\u0301x", "1", "<")) {
      String text = piece.repeat(1_000_000 / piece.length());
      long begin = System.nanoTime();
      int[] ids = both.own().encode(text, false, true).ids();
      assertThat(Duration.ofNanos(System.nanoTime() - begin)).as(piece).isLessThan(Duration.ofSeconds(20));
      assertThat(ids.length).isPositive();
      String some = text.substring(0, 2000);
      assertThat(both.own().encode(some, false, false).ids()).isEqualTo(both.library().encode(some, false, false).ids());
    }
  }

  @Test
  void searchingAndQueueingMergeAlike() {
    Random random = new Random(7);
    PairTable pairs = new PairTable(8);
    for (int i = 0; i < 60; i++) {
      pairs.put(random.nextInt(12), random.nextInt(12), random.nextInt(20), random.nextInt(12));
    }
    for (int length = 1; length < 40; length++) {
      Merger merger = new Merger(pairs);
      Merger slow = new Merger(pairs);
      int[] word = random.ints(length, 0, 8).toArray();
      // 30 that never merge in front make the first one long enough for the queue.
      IntStream.range(0, 60).forEach(i -> merger.add(1000, 1));
      for (int id : word) {
        merger.add(id, 1);
        slow.add(id, 1);
      }
      merger.merge();
      slow.merge();
      assertThat(merger.size - 60).isEqualTo(slow.size);
      for (int i = 0; i < slow.size; i++) {
        assertThat(merger.ids[60 + i]).isEqualTo(slow.ids[i]);
        assertThat(merger.bytes[60 + i]).isEqualTo(slow.bytes[i]);
      }
    }
  }
}
