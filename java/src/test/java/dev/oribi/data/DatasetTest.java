package dev.oribi.data;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.OribiException;
import dev.oribi.text.ByteTokenizer;
import dev.oribi.text.ChatTemplate;
import dev.oribi.text.TestData;
import dev.oribi.text.Tokenizer;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class DatasetTest {
  private static final ChatTemplate CHATML = ChatTemplate.parse(ByteTokenizer.CHATML);
  private static final ChatTemplate MARKED = ChatTemplate.parse("{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}A:"
      + "{% generation %}{{ m.content }}{% endgeneration %}{{ eos_token }}{% else %}{{ m.role }}:{{ m.content }}{% endif %}{% endfor %}");

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
    return Files.writeString(folder.resolve(name), text);
  }

  private Dataset load(String json, ChatTemplate template) throws IOException {
    return Dataset.load(List.of(write("data.json", json)), new DataOptions(500, 0, 2, null), tokenizer, template);
  }

  /** The row with masked text between ‹ and ›. */
  private String shown(String json, ChatTemplate template) throws IOException {
    return shown(load(json, template).row(0));
  }

  private String shown(Row row) {
    String printed = RowPrinter.print(row, tokenizer, false);
    return printed.substring(printed.indexOf('\n') + 1);
  }

  @Test
  void alpacaWithoutTemplateUsesStanfordsPrompt() throws IOException {
    assertThat(shown("{\"instruction\": \"Add.\", \"input\": \"1 2\", \"output\": \"3\"}", null)).isEqualTo(
        "‹<s>Below is an instruction that describes a task, paired with an input that provides further context. Write a response that"
            + " appropriately completes the request.\n\n### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:›3</s>");
    assertThat(shown("{\"instruction\": \"Hi\", \"output\": \"Ho\"}", null)).isEqualTo(
        "‹<s>Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
            + "### Instruction:\nHi\n\n### Response:›Ho</s>");
  }

  @Test
  void alpacaWithTemplateIsAConversation() throws IOException {
    assertThat(shown("{\"instruction\": \"Add.\", \"input\": \"1 2\", \"output\": \"3\", \"system\": \"S\"}", CHATML)).isEqualTo(
        "‹<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nAdd.\n\n1 2<|im_end|>\n<|im_start|>assistant\n›3<|im_end|>\n");
  }

  @Test
  void everyAssistantTurnIsATarget() throws IOException {
    String json = "{\"messages\": [{\"role\": \"user\", \"content\": \"é🙂\"}, {\"role\": \"assistant\", \"content\": \"日🙂\"},"
        + " {\"role\": \"user\", \"content\": \"c\"}, {\"role\": \"assistant\", \"content\": \"d\"}]}";
    assertThat(shown(json, CHATML)).isEqualTo("‹<|im_start|>user\né🙂<|im_end|>\n<|im_start|>assistant\n›日🙂<|im_end|>\n"
        + "‹<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n›d<|im_end|>\n");
    assertThat(shown(json, MARKED)).as("with marks; the end of the turn is learned").isEqualTo("‹<s>user:é🙂A:›日🙂</s>‹user:cA:›d</s>");
  }

  @Test
  void theFirstTokenIsNeverDoubled() throws IOException {
    Row row = load("{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}", MARKED).row(0);
    assertThat(Arrays.stream(row.inputIds()).filter(id -> id == ByteTokenizer.BOS)).hasSize(1);
    Row prompt = load("{\"prompt\": \"a\", \"completion\": \"b</s>\"}", MARKED).row(0);
    assertThat(prompt.inputIds()).containsExactly(ByteTokenizer.BOS, 'a', 'b', ByteTokenizer.EOS);
    assertThat(prompt.labels()).containsExactly(-100, -100, 'b', ByteTokenizer.EOS);
    Row text = load("{\"text\": \"<s>a\"}", null).row(0);
    assertThat(text.inputIds()).containsExactly(ByteTokenizer.BOS, 'a', ByteTokenizer.EOS);
  }

  @Test
  void promptAndCompletionMayBeMessages() throws IOException {
    String json = "{\"prompt\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"},"
        + " {\"role\": \"user\", \"content\": \"c\"}], \"completion\": [{\"role\": \"assistant\", \"content\": \"d\"}]}";
    assertThat(shown(json, CHATML)).isEqualTo("‹<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
        + "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n›d<|im_end|>\n");
    assertThat(shown(json, MARKED)).isEqualTo("‹<s>user:aA:b</s>user:cA:›d</s>");
  }

  @Test
  void shareGptRolesAndToolsReachTheTemplate() throws IOException {
    ChatTemplate template = ChatTemplate.parse("{{ tools|tojson }}{% for m in messages %}[{{ m.role }} {{ m.content }}"
        + "{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments|tojson }}{% endfor %}]{% endfor %}");
    String json = "{\"tools\": \"[{\\\"name\\\": \\\"f\\\"}]\", \"conversations\": [{\"from\": \"human\", \"value\": \"a\"},"
        + " {\"from\": \"function_call\", \"value\": \"{\\\"name\\\": \\\"f\\\", \\\"arguments\\\": {\\\"x\\\": 1}}\"},"
        + " {\"from\": \"observation\", \"value\": \"b\"}, {\"from\": \"gpt\", \"value\": \"c\"}]}";
    assertThat(shown(json, template)).isEqualTo("‹[{\"name\": \"f\"}][user a]›[assistant f{\"x\": 1}]‹[tool b]›[assistant c]");
  }

  @Test
  void aTemplateThatRewritesEarlierTurnsIsRefused() {
    ChatTemplate template = ChatTemplate.parse("{% for m in messages %}{{ m.role }}{% if loop.last %}!{% endif %}{{ m.content }}{% endfor %}");
    assertThatThrownBy(() -> load("[{\"messages\": [{\"role\": \"assistant\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}]", template))
        .isInstanceOf(OribiException.class).hasMessageContaining("data.json#0").hasMessageContaining("{% generation %}");
  }

  @Test
  void plainTextIsCutInWindows() throws IOException {
    Path file = write("story.txt", "abcdefghij");
    Dataset data = Dataset.load(List.of(file), new DataOptions(5, 0, 1, null), tokenizer, null);
    assertThat(IntStream.range(0, data.size()).mapToObj(i -> shown(data.row(i)))).containsExactly("<s>abcd", "efghi", "j</s>");
    assertThat(data.row(2).source()).isEqualTo(file + "#2");
    assertThat(data.row(0).labels()).isEqualTo(data.row(0).inputIds());
    assertThat(data.report()).isEqualTo(new Report(1, 3, 0, 12, 9, 1, 0, List.of()));
  }

  @Test
  void tokenizedRowsNeedNoTokenizer() throws IOException {
    Path file = write("rows.jsonl", "{\"input_ids\": [1, 2, 3]}\n\n{\"input_ids\": [4, 5, 6], \"labels\": [-100, -100, 7]}\n");
    Dataset data = Dataset.load(List.of(file), new DataOptions(8, 8, 1, null), null, null);
    assertThat(data.row(0).labels()).containsExactly(1, 2, 3);
    assertThat(data.row(1).labels()).containsExactly(-100, -100, 7);
    assertThat(data.row(1).source()).isEqualTo(file + ":3");
    assertThat(RowPrinter.print(data.row(1), null, false)).isEqualTo(file + ":3: 3 tokens, 1 of them targets\n‹4 5› 6");
  }

  @Test
  void countsWhatIsCutAndWhatIsDropped() throws IOException {
    Path file = write("rows.json", "[{\"input_ids\": [1, 2, 3, 4, 5]}, {\"input_ids\": [1]}, {\"input_ids\": [1, 2], \"labels\": [1, -100]},"
        + " {\"input_ids\": [1, 2, 3, 4], \"labels\": [-100, -100, -100, 4]}, {\"input_ids\": [1, 2]}]");
    Dataset data = Dataset.load(List.of(file), new DataOptions(3, 0, 1, null), null, null);
    assertThat(data.report()).isEqualTo(new Report(1, 5, 1, 5, 3, -1, 0, List.of(new Report.Dropped("with nothing to learn", 1, file + "#2"),
        new Report.Dropped("whose answer lies beyond the maximum length", 1, file + "#3"), new Report.Dropped("of fewer than two tokens", 1, file + "#1"))));
    assertThat(data.row(0).inputIds()).containsExactly(1, 2, 3);
    assertThat(data.row(0).truncated()).isTrue();
    assertThat(data.report().sentence()).isEqualTo("2 rows from 1 file: 5 tokens, 3 of them targets; 1 row was cut at the maximum length;"
        + " dropped: 1 row with nothing to learn (" + file + "#2), 1 row whose answer lies beyond the maximum length (" + file + "#3),"
        + " 1 row of fewer than two tokens (" + file + "#1).");
  }

  @Test
  void theFormOfAFileIsReadFromItsContent() throws IOException {
    String row = "{\"input_ids\": [1, 2]}";
    for (String content : List.of(row, row + "\n" + row, "[" + row + "]", "\uFEFF[" + row + "]", "\uFEFF" + row + "\r\n", " \n\n [\n" + row + "\n,\n" + row + "]\n")) {
      for (String name : List.of("x.json", "x.jsonl", "x")) {
        assertThat(Dataset.load(List.of(write(name, content)), DataOptions.of(8), null, null).row(0).inputIds()).containsExactly(1, 2);
      }
    }
  }

  @ParameterizedTest
  @CsvSource(delimiter = '@', quoteCharacter = '`', value = {
    "{\"input_ids\": [1, 2 @ :2: the row is not valid JSON",
    "{\"input_ids\": [1, 2]} x @ :2: the row is not valid JSON",
    "[1, 2] @ :2: the row is a list, but it must be a JSON object",
    "5 @ :2: the row is the number 5",
    "{} @ :2: the row has the keys none, which is no known format",
    "{\"question\": \"a\", \"answer\": \"b\"} @ :2: the row has the keys question, answer, which is no known format: it needs instruction",
    "{\"instruction\": \"a\"} @ :2: the key 'output' is missing: the row has instruction",
    "{\"instruction\": 5, \"output\": \"b\"} @ :2: 'instruction' is the number 5, but it must be a string",
    "{\"prompt\": \"a\"} @ :2: the key 'completion' is missing",
    "{\"prompt\": [], \"completion\": []} @ :2: 'prompt' is an empty list",
    "{\"messages\": [{\"role\": \"robot\", \"content\": \"a\"}]} @ :2: the role 'robot' is unknown: use one of assistant, developer, system, tool, user",
    "{\"messages\": [{\"role\": \"user\"}]} @ :2: the key 'content' is missing",
    "{\"messages\": [{\"role\": \"user\", \"content\": null}]} @ :2: 'content' is null, but it must be a string",
    "{\"messages\": [5]} @ :2: element 0 of 'messages' is the number 5",
    "{\"messages\": \"x\"} @ :2: 'messages' is a string, but it must be a list",
    "{\"conversations\": [{\"from\": \"alien\", \"value\": \"a\"}]} @ :2: the role 'alien' is unknown",
    "{\"conversations\": [{\"from\": \"function_call\", \"value\": \"f()\"}]} @ :2: a function_call is a string, but not one of valid JSON",
    "{\"text\": true} @ :2: 'text' is the value true",
    "{\"input_ids\": [1, -1]} @ :2: input_ids holds -1, but the vocabulary has the ids 0 to 259",
    "{\"input_ids\": [1, 260]} @ :2: input_ids holds 260",
    "{\"input_ids\": [1, 2], \"labels\": [1, 300]} @ :2: labels holds 300",
    "{\"input_ids\": [1, 2], \"labels\": [1]} @ :2: there are 2 input_ids but 1 labels",
    "{\"input_ids\": [1, 2.5]} @ :2: element 1 of 'input_ids' is the number 2.5, but it must be an integer",
    "{\"input_ids\": [1, 99999999999]} @ :2: element 1 of 'input_ids' is the number 99999999999",
    "{\"input_ids\": \"1 2\"} @ :2: 'input_ids' is a string",
    "{\"input_ids\": [1, 0], \"attention_mask\": [1, 0]} @ :2: the row is padded"
  })
  void aWrongRowIsNamedByFileAndLine(String row, String message) throws IOException {
    Path file = write("bad.jsonl", "{\"input_ids\": [1, 2]}\n" + row + "\n{\"nonsense\": 1}\n");
    assertThatThrownBy(() -> Dataset.load(List.of(file), DataOptions.of(64), tokenizer, CHATML)).isInstanceOf(OribiException.class)
        .hasMessageStartingWith(file + message.strip()).satisfies(e -> assertThat(e.getMessage()).doesNotContain("\n"));
  }

  @Test
  void wrongArraysAreNamedByElementOrLine() throws IOException {
    Path file = write("a.json", "[{\"input_ids\": [1, 2]},\n {\"x\": 1}]");
    assertThatThrownBy(() -> Dataset.load(List.of(file), DataOptions.of(8), tokenizer, null)).hasMessageStartingWith(file + "#1: the row has the keys x");
    write("a.json", "[{\"input_ids\": [1, 2]},\n {\"x\" 1}]");
    assertThatThrownBy(() -> Dataset.load(List.of(file), DataOptions.of(8), tokenizer, null)).hasMessageStartingWith(file + ":2: the row is not valid JSON");
    write("a.json", "[{\"input_ids\": [1, 2]}");
    assertThatThrownBy(() -> Dataset.load(List.of(file), DataOptions.of(8), tokenizer, null)).hasMessageContaining("not valid JSON");
    write("a.json", "[{\"input_ids\": [1, 2]}] []");
    assertThatThrownBy(() -> Dataset.load(List.of(file), DataOptions.of(8), tokenizer, null)).hasMessageContaining("something follows the end");
    write("a.json", "[".repeat(100_000));
    assertThatThrownBy(() -> Dataset.load(List.of(file), DataOptions.of(8), tokenizer, null)).hasMessageContaining("not valid JSON");
  }

  @Test
  void bytesThatAreNotUtf8AreNamed() throws IOException {
    byte[] latin = "{\"text\": \"é\"}".getBytes(StandardCharsets.ISO_8859_1);
    Path file = Files.write(folder.resolve("l.jsonl"), latin);
    assertThatThrownBy(() -> Dataset.load(List.of(file), DataOptions.of(8), tokenizer, null)).hasMessage(file + ":1: the line is not UTF-8 text: save the file as UTF-8.");
    Files.write(file, ("[" + new String(latin, StandardCharsets.ISO_8859_1) + "]").getBytes(StandardCharsets.ISO_8859_1));
    assertThatThrownBy(() -> Dataset.load(List.of(file), DataOptions.of(8), tokenizer, null)).hasMessageContaining("not UTF-8");
    Path text = Files.write(folder.resolve("l.txt"), latin);
    assertThatThrownBy(() -> Dataset.load(List.of(text), DataOptions.of(8), tokenizer, null)).hasMessage(text + " is not UTF-8 text: save it as UTF-8.");
  }

  @Test
  void whatIsMissingIsNamed() throws IOException {
    Path missing = folder.resolve("none.json");
    assertThatThrownBy(() -> Dataset.load(List.of(missing), DataOptions.of(8), tokenizer, null)).hasMessage("There is no data file " + missing + ".");
    assertThatThrownBy(() -> Dataset.load(List.of(), DataOptions.of(8), tokenizer, null)).hasMessageContaining("No data file is given");
    String chat = "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}";
    assertThatThrownBy(() -> load(chat, null)).hasMessageContaining("data.json:1").hasMessageContaining("no chat template").hasMessageContaining("chat_template.jinja");
    Path file = write("t.json", chat);
    assertThatThrownBy(() -> Dataset.load(List.of(file), DataOptions.of(8), null, CHATML)).hasMessageContaining("no tokenizer.json");
    Path text = write("t.txt", "abc");
    assertThatThrownBy(() -> Dataset.load(List.of(text), DataOptions.of(8), null, null)).hasMessageContaining("no tokenizer.json");
    assertThatThrownBy(() -> load("{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}", ChatTemplate.parse("{{ raise_exception('Only in French.') }}")))
        .hasMessageContaining("data.json:1").hasMessageContaining("Only in French.");
  }

  @ParameterizedTest
  @ValueSource(strings = {"", "\n \n", "[]", "{\"input_ids\": []}", "{\"input_ids\": [1]}", "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}"})
  void anEmptyDatasetIsAnError(String content) {
    assertThatThrownBy(() -> load(content, CHATML)).isInstanceOf(OribiException.class).hasMessageStartingWith("The dataset is empty: ");
  }

  @Test
  void theFirstWrongRowIsReportedWhateverTheThreads() throws IOException {
    StringBuilder lines = new StringBuilder();
    for (int i = 1; i <= 3000; i++) {
      lines.append(i == 1234 || i > 2000 ? "{\"x\": 1}\n" : "{\"text\": \"row " + i + "\"}\n");
    }
    Path file = write("many.jsonl", lines + "{broken");
    for (int threads : new int[] {1, 2, 7}) {
      assertThatThrownBy(() -> Dataset.load(List.of(file), new DataOptions(64, 0, threads, null), tokenizer, null)).hasMessageStartingWith(file + ":1234:");
    }
  }

  @Test
  void theOrderDoesNotDependOnTheThreads() throws IOException {
    StringBuilder lines = new StringBuilder();
    IntStream.rangeClosed(1, 1000).forEach(i -> lines.append("{\"text\": \"").append("x".repeat(i % 37)).append(i).append("\"}\n"));
    Path file = write("many.jsonl", lines.toString());
    Dataset one = Dataset.load(List.of(file), new DataOptions(64, 0, 1, null), tokenizer, null);
    Dataset four = Dataset.load(List.of(file), new DataOptions(64, 0, 4, null), tokenizer, null);
    assertThat(one.size()).isEqualTo(1000);
    assertSame(one, four);
    assertThat(four.row(499).source()).isEqualTo(file + ":500");
  }

  private static void assertSame(Dataset a, Dataset b) {
    assertThat(a.report()).isEqualTo(b.report());
    for (int i = 0; i < a.size(); i++) {
      assertThat(a.row(i)).usingRecursiveComparison().isEqualTo(b.row(i));
    }
  }

  @Test
  void theCacheGivesTheSameRowsAndNoticesEveryChange() throws IOException {
    Path cache = folder.resolve("cache");
    Path file = write("c.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"text\": \"hello\"}\n{\"input_ids\": [1]}\n");
    DataOptions options = new DataOptions(8, 0, 1, cache);
    Dataset fresh = Dataset.load(List.of(file), options, tokenizer, null);
    List<Path> files = cached(cache);
    assertThat(files).hasSize(1);
    assertSame(fresh, Dataset.load(List.of(file), options, tokenizer, null));
    byte[] whole = Files.readAllBytes(files.get(0));
    for (int i = 0; i < whole.length; i += 5) {
      byte[] broken = whole.clone();
      broken[i] ^= 0x40;
      Files.write(files.get(0), broken);
      assertSame(fresh, Dataset.load(List.of(file), options, tokenizer, null));
      assertThat(Files.readAllBytes(files.get(0))).as("made again").isEqualTo(whole);
      Files.write(files.get(0), Arrays.copyOf(whole, i));
      assertSame(fresh, Dataset.load(List.of(file), options, tokenizer, null));
    }
    Dataset.load(List.of(file), new DataOptions(9, 0, 1, cache), tokenizer, null);
    Dataset.load(List.of(file), options, tokenizer, CHATML);
    write("c.jsonl", "{\"prompt\": \"a\", \"completion\": \"c\"}\n");
    assertThat(Dataset.load(List.of(file), options, tokenizer, null).row(0).inputIds()).containsExactly(ByteTokenizer.BOS, 'a', 'c', ByteTokenizer.EOS);
    assertThat(cached(cache)).hasSize(4);
  }

  private static List<Path> cached(Path cache) throws IOException {
    try (var stream = Files.list(cache)) {
      return stream.toList();
    }
  }

  @Test
  void theCacheIsReadInsteadOfTokenizing() throws IOException {
    Path cache = folder.resolve("cache");
    Path file = write("c.jsonl", "{\"text\": \"hello\"}\n");
    Dataset.load(List.of(file), new DataOptions(8, 0, 1, cache), tokenizer, null);
    Path entry = cached(cache).get(0);
    try (RowFileWriter other = RowFileWriter.in(cache)) {
      other.add(new Row(new int[] {7, 8}, null, "elsewhere", false));
      other.finish(new Report(1, 1, 0, 2, 1, 0, 0, List.of()), entry);
    }
    assertThat(Dataset.load(List.of(file), new DataOptions(8, 0, 3, cache), tokenizer, null).row(0).source()).isEqualTo("elsewhere");
  }

  @Test
  void aCacheThatCannotBeWrittenIsOneClearLine() throws IOException {
    Path file = write("c.jsonl", "{\"text\": \"hello\"}\n");
    assertThatThrownBy(() -> Dataset.load(List.of(file), new DataOptions(8, 0, 1, file), tokenizer, null)).isInstanceOf(OribiException.class)
        .hasMessageStartingWith("Cannot write tokenized data to " + file);
  }

  @Test
  void splitsAreDeterministicAndDisjoint() {
    List<Row> rows = IntStream.range(0, 100).mapToObj(i -> new Row(new int[] {i, i}, new int[] {i, i}, "r:" + i, false)).toList();
    Dataset data = Dataset.of(rows);
    Dataset[] parts = data.split(0.1, 7);
    assertThat(parts[0].size()).isEqualTo(90);
    assertThat(parts[1].size()).isEqualTo(10);
    List<String> both = new ArrayList<>(sources(parts[0]));
    both.addAll(sources(parts[1]));
    assertThat(both).containsExactlyInAnyOrderElementsOf(sources(data));
    assertThat(sources(data.split(0.1, 7)[1])).isEqualTo(sources(parts[1]));
    assertThat(sources(data.split(0.1, 8)[1])).isNotEqualTo(sources(parts[1]));
    assertThat(data.split(0, 7)[1].size()).isZero();
    assertThat(data.split(0.0001, 7)[1].size()).isEqualTo(1);
    assertThat(data.split(0.9999, 7)[0].size()).isEqualTo(1);
    assertThatThrownBy(() -> data.split(1, 7)).hasMessageContaining("below 1");
    assertThatThrownBy(() -> data.split(Double.NaN, 7)).isInstanceOf(OribiException.class);
    assertThatThrownBy(() -> Dataset.of(rows.subList(0, 1)).split(0.5, 7)).hasMessageContaining("cannot be split");
  }

  private static List<String> sources(Dataset data) {
    return IntStream.range(0, data.size()).mapToObj(i -> data.row(i).source()).toList();
  }

  @Test
  void masksAreVisible() throws IOException {
    Row row = load("{\"prompt\": \"a\\u001b[31m\\n\", \"completion\": \"é\"}", null).row(0);
    assertThat(RowPrinter.print(row, tokenizer, false)).isEqualTo(row.source() + ": 11 tokens, 3 of them targets\n‹<s>a\\x1b[31m\n›é</s>");
    assertThat(RowPrinter.print(row, tokenizer, true)).endsWith("targets\n\u001B[2m<s>a\\x1b[31m\n\u001B[0m\u001B[32mé</s>\u001B[0m");
    Row cut = Dataset.load(List.of(write("m.json", "{\"text\": \"abc\"}")), DataOptions.of(3), tokenizer, null).row(0);
    assertThat(RowPrinter.print(cut, tokenizer, false)).endsWith(": 3 tokens, 2 of them targets, cut at the maximum length\n<s>ab");
  }

  /** Published instruction sets, through a real tokenizer and a real chat template. */
  @ParameterizedTest
  @CsvSource({"alpaca_en.json,500", "alpaca_zh.json,250", "identity.json,91", "sharegpt_identity.json,125", "glaive_toolcall_en.json,75"})
  void publishedSetsLoad(String name, int rows) throws IOException {
    Path model = TestData.tokenizer("qwen3", folder);
    ChatTemplate template = ChatTemplate.parse(Files.readString(TestData.file("chat/templates/qwen2_5.jinja")));
    try (Tokenizer qwen = Tokenizer.load(model)) {
      Dataset data = Dataset.load(List.of(TestData.file("instruct/" + name)), new DataOptions(4096, 0, 2, null), qwen, template);
      assertThat(data.size()).isEqualTo(rows);
      assertThat(data.report().rowsTruncated()).isZero();
      int end = qwen.tokenId("<|im_end|>").orElseThrow();
      for (int i = 0; i < data.size(); i++) {
        Row row = data.row(i);
        assertThat(row.labels()[0]).isEqualTo(MicroBatch.IGNORE);
        assertThat(Arrays.stream(row.labels()).filter(l -> l == end)).as("the end of each answer is learned").isNotEmpty();
        int[] targets = Arrays.stream(row.labels()).filter(l -> l != MicroBatch.IGNORE).toArray();
        assertThat(qwen.decode(targets, false)).doesNotContain("<|im_start|>").endsWith("<|im_end|>\n");
      }
    }
  }

  @Test
  void aRealAnswerIsExactlyTheTarget() throws IOException {
    try (Tokenizer llama = Tokenizer.load(TestData.tokenizer("llama3.1", folder))) {
      ChatTemplate template = ChatTemplate.parse(Files.readString(TestData.file("chat/templates/llama3.jinja")));
      Dataset data = Dataset.load(List.of(TestData.file("instruct/identity.json")), new DataOptions(4096, 0, 2, null), llama, template);
      int[] targets = Arrays.stream(data.row(0).labels()).filter(l -> l != MicroBatch.IGNORE).toArray();
      assertThat(llama.decode(targets, false)).isEqualTo("Hello! I am {{name}}, an AI assistant developed by {{author}}. How can I assist you today?<|eot_id|>");
      assertThat(Arrays.stream(data.row(0).inputIds()).filter(id -> id == 128000)).hasSize(1);
    }
  }

  @Test
  void otherSetsAreRefusedWithTheirKeys() {
    Path file = TestData.file("instruct/gsm8k_train_800.jsonl");
    assertThatThrownBy(() -> Dataset.load(List.of(file), DataOptions.of(64), tokenizer, CHATML)).hasMessageContaining(":1: the row has the keys question, answer");
    Path tasks = TestData.file("instruct/seed_tasks.jsonl");
    assertThatThrownBy(() -> Dataset.load(List.of(tasks), DataOptions.of(64), tokenizer, CHATML)).hasMessageContaining(":1: the key 'output' is missing");

  }
}
