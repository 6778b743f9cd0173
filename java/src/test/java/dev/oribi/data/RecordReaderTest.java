package dev.oribi.data;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.OribiException;
import dev.oribi.text.ByteTokenizer;
import dev.oribi.text.ChatTemplate;
import dev.oribi.text.TestData;
import dev.oribi.text.Tokenizer;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.zip.GZIPOutputStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Files of every kind: what they hold, and what becomes of those that are broken or mean harm. */
class RecordReaderTest {
  private static final ChatTemplate CHATML = ChatTemplate.parse(ByteTokenizer.CHATML);

  @TempDir
  private Path folder;
  private Tokenizer tokenizer;

  @BeforeEach
  void open() throws IOException {
    tokenizer = Tokenizer.load(ByteTokenizer.write(folder.resolve("model")));
  }

  @AfterEach
  void close() {
    tokenizer.close();
  }

  private Path write(String name, String text) throws IOException {
    Files.createDirectories(folder.resolve(name).getParent());
    return Files.writeString(folder.resolve(name), text);
  }

  private Path gzip(String name, byte[] bytes) throws IOException {
    Path file = folder.resolve(name);
    try (OutputStream out = new GZIPOutputStream(Files.newOutputStream(file))) {
      out.write(bytes);
    }
    return file;
  }

  private Path fixture(String name) throws IOException {
    Path file = folder.resolve(name);
    try (InputStream in = RecordReaderTest.class.getResourceAsStream(name)) {
      Files.write(file, in.readAllBytes());
    }
    return file;
  }

  private static List<String> records(Path file) {
    return records(file, Map.of());
  }

  private static List<String> records(Path file, Map<String, String> columns) {
    List<String> records = new ArrayList<>();
    RecordReader.read(file, columns, r -> records.add(r.text() != null ? r.text() : Fields.of(r.source(), r.json(), columns).json().toString()));
    return records;
  }

  private List<String> learned(List<Path> paths, Map<String, String> columns) {
    Dataset data = Dataset.load(paths, DataOptions.of(4096).withColumns(columns), tokenizer, CHATML);
    List<String> texts = new ArrayList<>();
    for (int i = 0; i < data.size(); i++) {
      texts.add(tokenizer.decode(Arrays.stream(data.row(i).labels()).filter(l -> l != MicroBatch.IGNORE).toArray(), true));
    }
    return texts;
  }

  // ----------------------------------------------------------------------------------------------------------------- CSV

  @Test
  void csvHasAHeading() throws IOException {
    Path file = write("a.csv", "\uFEFFprompt,completion\r\n\"a, \"\"b\"\"\",\"c\nd\"\r\n\r\ne,f\n");
    assertThat(records(file)).containsExactly("{\"prompt\":\"a, \\\"b\\\"\",\"completion\":\"c\\nd\"}", "{\"prompt\":\"e\",\"completion\":\"f\"}");
    RecordReader.read(file, Map.of(), r -> assertThat(r.source()).isIn(file + ":2", file + ":5"));
    assertThat(records(write("b.csv", "a;b\n1;2,5\n"))).containsExactly("{\"a\":\"1\",\"b\":\"2,5\"}");
    assertThat(records(write("c.tsv", "a\tb\n1,x\t2\n"))).containsExactly("{\"a\":\"1,x\",\"b\":\"2\"}");
    assertThat(records(gzip("d.csv.gz", "text\nhello\n".getBytes(StandardCharsets.UTF_8)))).containsExactly("{\"text\":\"hello\"}");
  }

  @Test
  void columnsNamedByNumbersNeedNoHeading() throws IOException {
    Path file = write("p.tsv", "hello\tこんにちは\nbye\tさようなら\n");
    assertThat(records(file, Map.of("prompt", "1", "completion", "2"))).hasSize(2);
    assertThat(learned(List.of(file), Map.of("prompt", "1", "completion", "2"))).containsExactly("こんにちは", "さようなら");
    assertThat(learned(List.of(write("q.csv", "Q,A\nhow?,so\n")), Map.of("instruction", "Q", "output", "A"))).containsExactly("so\n");
  }

  @Test
  void messagesMayBeJsonInACell() throws IOException {
    Path file = write("m.csv", "messages\n\"[{\"\"role\"\": \"\"user\"\", \"\"content\"\": \"\"a\"\"}, {\"\"role\"\": \"\"assistant\"\", \"\"content\"\": \"\"b\"\"}]\"\n");
    assertThat(learned(List.of(file), Map.of())).containsExactly("b\n");
  }

  @ParameterizedTest
  @CsvSource(delimiter = '@', quoteCharacter = '`', value = {
    "text,x\\na\\n @ :2: the row has 1 values but the heading names 2 columns",
    "text\\na,b\\n @ :2: the row has 2 values but the heading names 1 columns",
    "a,a\\n1,2\\n @ :1: the heading names a column twice: a, a",
    "text\\n\"never closed @ : the rows of values cannot be told apart",
    "question,answer\\na,b\\n @ :2: the row has the keys question, answer, which is no known format"
  })
  void brokenCsvIsOneClearLine(String csv, String message) throws IOException {
    Path file = write("x.csv", csv.strip().replace("\\n", "\n"));
    assertThatThrownBy(() -> learned(List.of(file), Map.of())).isInstanceOf(OribiException.class).hasMessageStartingWith(file + message.strip())
        .satisfies(e -> assertThat(e.getMessage()).doesNotContain("\n"));
  }

  @Test
  void publishedTablesLoad() {
    List<String> korean = learned(List.of(TestData.file("languages/ko-chat.csv")), Map.of("prompt", "Q", "completion", "A"));
    assertThat(korean).hasSize(5912).startsWith("하루가 또 가네요.");
    assertThat(learned(List.of(TestData.file("languages/nusax-train.csv")), Map.of("prompt", "english", "completion", "javanese"))).hasSize(500);
    assertThat(learned(List.of(TestData.file("languages/en-ja.tsv")), Map.of("prompt", "1", "completion", "2"))).hasSize(5000)
        .startsWith("誰が一番に着くか私には分かりません。");
    assertThat(learned(List.of(TestData.file("instruct/gsm8k_train_800.jsonl")), Map.of("prompt", "question", "completion", "answer"))).hasSize(800);
  }

  @Test
  void aColumnThatIsNotThereIsNamed() throws IOException {
    Path file = write("q.csv", "Q,A\nhow?,so\n");
    assertThatThrownBy(() -> learned(List.of(file), Map.of("prompt", "question", "completion", "A")))
        .hasMessage(file + ":2: the key 'question' is missing: the row has Q, A.");
  }

  // ------------------------------------------------------------------------------------------------------------- Parquet

  @ParameterizedTest
  @ValueSource(strings = {"none", "snappy", "gzip", "zstd", "lz4"})
  void parquetOfEveryCodec(String codec) throws IOException {
    Path file = fixture("chats-" + codec + ".parquet");
    List<String> records = records(file);
    assertThat(records).hasSize(40);
    assertThat(records.get(3)).isEqualTo("{\"id\":3,\"messages\":[{\"role\":\"user\",\"content\":\"What is 3 + 3? é🙂\"},"
        + "{\"role\":\"assistant\",\"content\":\"It is 6.\"}],\"source\":null,\"score\":0.75}");
    assertThat(learned(List.of(file), Map.of())).hasSize(40).startsWith("It is 0.\n", "It is 2.\n").endsWith("It is 78.\n");
  }

  @Test
  void parquetOfIdsAndOfOtherColumns() throws IOException {
    Dataset data = Dataset.load(List.of(fixture("ids.parquet")), DataOptions.of(8), null, null);
    assertThat(data.size()).isEqualTo(3);
    assertThat(data.row(0).labels()).containsExactly(-100, 2, 3);
    assertThat(data.row(1).labels()).containsExactly(4, 5);
    assertThat(data.row(2).source()).endsWith("ids.parquet#2");
    Path questions = fixture("questions.parquet");
    assertThat(records(questions)).startsWith("{\"question\":\"a\",\"answer\":\"c\",\"flags\":{\"x\":1},\"time\":0,\"ok\":true}");
    assertThat(learned(List.of(questions), Map.of("prompt", "question", "completion", "answer"))).containsExactly("c", "d");
    assertThatThrownBy(() -> records(fixture("chats-brotli.parquet"))).hasMessageContaining("packed with BROTLI").hasMessageContaining("zstd");
  }

  /** A byte changed anywhere gives the rows as they were, other rows, or one line; never anything else. */
  @ParameterizedTest
  @ValueSource(strings = {"none", "snappy", "zstd"})
  @Timeout(300)
  void parquetThatLies(String codec) throws IOException {
    byte[] whole = Files.readAllBytes(fixture("chats-" + codec + ".parquet"));
    Path file = folder.resolve("broken.parquet");
    Random random = new Random(3);
    int refused = 0;
    for (int i = 0; i < 400; i++) {
      byte[] broken = whole.clone();
      for (int n = random.nextInt(3); n >= 0; n--) {
        // Half of the changes in the description at the end, where the lies are.
        int at = random.nextBoolean() ? broken.length - 1 - random.nextInt(Math.min(broken.length, 2500)) : random.nextInt(broken.length);
        broken[at] = (byte) random.nextInt(256);
      }
      Files.write(file, i % 4 == 0 ? Arrays.copyOf(broken, random.nextInt(broken.length)) : broken);
      try {
        records(file);
      } catch (OribiException e) {
        refused++;
        assertThat(e.getMessage()).contains("broken.parquet").doesNotContain("\n");
      }
    }
    assertThat(refused).isGreaterThan(100);
  }

  @Test
  void parquetThatIsNotWholeIsNamed() throws IOException {
    byte[] whole = Files.readAllBytes(fixture("ids.parquet"));
    Path file = folder.resolve("cut.parquet");
    Files.write(file, Arrays.copyOf(whole, whole.length / 2));
    assertThatThrownBy(() -> records(file)).hasMessage(file + " is Parquet without its end: it was not copied whole.");
    Files.write(file, new byte[0]);
    assertThatThrownBy(() -> records(file)).hasMessageContaining("is no Parquet file, although its name says so");
    byte[] lie = whole.clone();
    lie[lie.length - 5] = 0x7F;
    Files.write(file, lie);
    assertThatThrownBy(() -> records(file)).hasMessageContaining("without its end");
  }

  // ---------------------------------------------------------------------------------------------------------------- gzip

  @Test
  void gzipIsToldByItsBytes() throws IOException {
    byte[] rows = "{\"text\": \"a\"}\n{\"text\": \"b\"}\n".getBytes(StandardCharsets.UTF_8);
    assertThat(records(gzip("a.jsonl.gz", rows))).hasSize(2);
    assertThat(records(gzip("a.jsonl", rows))).hasSize(2);
    assertThat(records(gzip("b.json.gz", "[{\"text\": \"a\"}]".getBytes(StandardCharsets.UTF_8)))).hasSize(1);
    assertThat(records(gzip("c.txt.gz", "a text".getBytes(StandardCharsets.UTF_8)))).containsExactly("a text");
  }

  @Test
  void gzipThatIsCutOrBrokenIsNamed() throws IOException {
    ByteArrayOutputStream rows = new ByteArrayOutputStream();
    Random random = new Random(1);
    for (int i = 0; i < 5000; i++) {
      rows.writeBytes(("{\"text\": \"" + random.nextLong() + "\"}\n").getBytes(StandardCharsets.UTF_8));
    }
    Path file = gzip("a.jsonl.gz", rows.toByteArray());
    byte[] whole = Files.readAllBytes(file);
    Files.write(file, Arrays.copyOf(whole, whole.length / 2));
    assertThatThrownBy(() -> records(file)).isInstanceOf(OribiException.class)
        .hasMessage(file + " ends in the middle of its compressed data: it was not copied whole.");
    Files.write(file, Arrays.copyOf(whole, 5));
    assertThatThrownBy(() -> records(file)).hasMessageContaining("is broken gzip");
    byte[] broken = whole.clone();
    Arrays.fill(broken, 2000, 2100, (byte) 0x55);
    Files.write(file, broken);
    assertThatThrownBy(() -> records(file)).isInstanceOf(OribiException.class).hasMessageContaining("a.jsonl.gz");
  }

  @ParameterizedTest
  @ValueSource(strings = {"bomb.jsonl.gz", "bomb.json.gz", "bomb.csv.gz", "bomb.txt.gz"})
  @Timeout(120)
  void aBombEnds(String name) throws IOException {
    Path file = folder.resolve(name);
    byte[] piece = new byte[1 << 20];
    Arrays.fill(piece, (byte) (name.contains("txt") ? 'a' : '\n'));
    try (OutputStream out = new GZIPOutputStream(Files.newOutputStream(file))) {
      if (name.contains(".json.")) {
        out.write('[');
      } else if (name.contains("csv")) {
        out.write("text\n".getBytes(StandardCharsets.UTF_8));
      }
      for (int i = 0; i < 600; i++) {
        out.write(piece);
      }
    }
    long begin = System.nanoTime();
    assertThatThrownBy(() -> records(file)).isInstanceOf(OribiException.class).hasMessageContaining("unpacks to more than 400 times its size");
    assertThat(Duration.ofNanos(System.nanoTime() - begin)).isLessThan(Duration.ofSeconds(60));
  }

  // --------------------------------------------------------------------------------------------------------------- files

  @Test
  void foldersPatternsAndSplits() throws IOException {
    write("set/train.jsonl", "{\"text\": \"one\"}");
    write("set/valid.jsonl", "{\"text\": \"two\"}");
    write("set/test.jsonl", "{\"text\": \"three\"}");
    write("set/README.md", "no data");
    write("set/.hidden.jsonl", "no data");
    assertThat(learned(List.of(folder.resolve("set")), Map.of())).containsExactly("one");
    assertThat(DataFiles.validation(List.of(folder.resolve("set")))).containsExactly(folder.resolve("set/valid.jsonl"));
    assertThat(DataFiles.resolve(List.of(folder.resolve("set")), DataFiles.Part.VALIDATION)).containsExactly(folder.resolve("set/valid.jsonl"));
    write("hub/data/train-00001-of-00002.jsonl", "{\"text\": \"b\"}");
    write("hub/data/train-00000-of-00002.jsonl", "{\"text\": \"a\"}");
    write("hub/data/validation-00000-of-00001.jsonl", "{\"text\": \"c\"}");
    assertThat(learned(List.of(folder.resolve("hub")), Map.of())).containsExactly("a", "b");
    write("plain/x.jsonl", "{\"text\": \"x\"}");
    write("plain/sub/y.csv", "text\ny\n");
    assertThat(learned(List.of(folder.resolve("plain")), Map.of())).containsExactly("y", "x");
    assertThat(DataFiles.validation(List.of(folder.resolve("plain")))).isEmpty();
    assertThat(learned(List.of(folder.resolve("hub/data/train-*.jsonl"), folder.resolve("plain/x.jsonl")), Map.of())).containsExactly("a", "b", "x");
  }

  /** Where a name has the word does not matter, as long as it is one. */
  @ParameterizedTest
  @CsvSource({"train1.jsonl, test1.jsonl, dev1.jsonl", "alpaca-train.jsonl, alpaca-test.jsonl, alpaca_val.jsonl",
      "a/training/x.jsonl, a/testing/x.jsonl, a/validation/x.jsonl", "rows.jsonl, rows.test.jsonl, rows dev.jsonl"})
  void partsAreToldByWordsInNames(String train, String test, String validation) throws IOException {
    Path set = folder.resolve("set");
    write("set/" + train, "{\"text\": \"one\"}");
    write("set/" + test, "{\"text\": \"two\"}");
    write("set/" + validation, "{\"text\": \"three\"}");
    assertThat(learned(List.of(set), Map.of())).containsExactly("one");
    assertThat(DataFiles.validation(List.of(set))).containsExactly(set.resolve(validation));
    assertThat(DataFiles.leftOut(List.of(set), DataFiles.validation(List.of(set)))).containsExactly(set.resolve(test));
    write("latest/contest.jsonl", "{\"text\": \"no word\"}");
    assertThat(learned(List.of(folder.resolve("latest")), Map.of())).containsExactly("no word");
  }

  @Test
  void foldersAreReadThroughLinksAndToTheBottomButForRuns() throws IOException {
    write("set/a/b/c/d/e/x.jsonl", "{\"text\": \"deep\"}");
    write("elsewhere/y.jsonl", "{\"text\": \"linked\"}");
    write("set/oribi-output/oribi-config.yaml", "");
    write("set/oribi-output/train.jsonl", "{\"step\": 1}");
    write("set/oribi-output/checkpoint-1/trainer_state.json", "{}");
    Files.createSymbolicLink(folder.resolve("set/z"), folder.resolve("elsewhere"));
    Files.createSymbolicLink(folder.resolve("set/a/loop"), folder.resolve("set"));
    Path link = Files.createSymbolicLink(folder.resolve("link"), folder.resolve("set"));
    assertThat(learned(List.of(link), Map.of())).containsExactly("deep", "linked");
  }

  @Test
  void whatLeadsToNoFileIsNamed() throws IOException {
    write("set/train.jsonl", "{\"text\": \"one\"}");
    Files.createDirectories(folder.resolve("empty"));
    assertThatThrownBy(() -> learned(List.of(folder.resolve("set/trian.jsonl")), Map.of()))
        .hasMessage("There is no data file " + folder.resolve("set/trian.jsonl") + ". In " + folder.resolve("set") + " there is train.jsonl.");
    assertThatThrownBy(() -> learned(List.of(folder.resolve("no/such.jsonl")), Map.of())).hasMessageContaining("There is no folder " + folder.resolve("no"));
    assertThatThrownBy(() -> learned(List.of(folder.resolve("empty")), Map.of())).hasMessageContaining("has no data file in it: names end in .jsonl");
    assertThatThrownBy(() -> learned(List.of(folder.resolve("set/*.csv")), Map.of())).hasMessageStartingWith("No data file matches");
  }

  @Test
  void onlyBlankLinesAreNoRecords() throws IOException {
    assertThat(records(write("a.jsonl", "\uFEFF\n \t\r\n\n{\"text\": \"a\"}\n\n"))).hasSize(1);
    Path file = write("b.jsonl", "{\"text\": \"a\"}\né\n");
    assertThatThrownBy(() -> records(file)).hasMessageStartingWith(file + ":2: the row is not valid JSON");
  }

  @Test
  @Timeout(120)
  void enormousLinesEnd() throws IOException {
    Path file = folder.resolve("line.jsonl");
    try (OutputStream out = Files.newOutputStream(file)) {
      byte[] piece = new byte[1 << 20];
      Arrays.fill(piece, (byte) '{');
      for (int i = 0; i < 66; i++) {
        out.write(piece);
      }
    }
    assertThatThrownBy(() -> records(file)).hasMessage(file + ":1: the line is longer than 64 MiB: shorten it.");
    Path deep = write("deep.jsonl", "{\"text\": " + "[".repeat(1_000_000));
    assertThatThrownBy(() -> records(deep)).isInstanceOf(OribiException.class).hasMessageContaining("deep.jsonl:1").hasMessageContaining("not valid JSON");
  }
}
