package dev.oribi.data;

import static org.assertj.core.api.Assertions.assertThat;

import dev.oribi.text.ByteTokenizer;
import dev.oribi.text.ChatTemplate;
import dev.oribi.text.Tokenizer;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Each fault that spoils a model without an error can be seen. */
class RowInspectorTest {
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

  private List<String> show(String rows, int maxLength, ChatTemplate template, int first, int count) throws IOException {
    Path file = Files.writeString(folder.resolve("rows.jsonl"), rows);
    return new RowInspector(DataOptions.of(maxLength), tokenizer, template).show(List.of(file), first, count, false);
  }

  private String show(String row, int maxLength) throws IOException {
    return show(row, maxLength, ChatTemplate.named("chatml"), 1, 1).get(0);
  }

  private static String chat(String answerRole) {
    return "{\"messages\": [{\"role\": \"user\", \"content\": \"Who?\"}, {\"role\": \"" + answerRole + "\", \"content\": \"I, the answer.\"}]}";
  }

  @Test
  void aSoundRowHasNoFault() throws IOException {
    assertThat(show(chat("assistant"), 500)).startsWith(folder.resolve("rows.jsonl") + ":1: ").doesNotContain("! ");
  }

  @Test
  void doubleBeginning() throws IOException {
    assertThat(show("{\"input_ids\": [256, 256, 65, 257]}", 500)).startsWith("! Double beginning: the row begins with <s> twice").contains("<s><s>A</s>");
    assertThat(show("{\"text\": \"<s>a\"}", 500)).doesNotContain("! ");
    String doubled = show(chat("assistant"), 500, ChatTemplate.parse("{{ bos_token }}{{ bos_token }}" + ByteTokenizer.CHATML), 1, 1).get(0);
    assertThat(doubled).startsWith("! Double beginning");
  }

  @Test
  void missingEnd() throws IOException {
    ChatTemplate endless = ChatTemplate.parse("{% for m in messages %}{{ m.role }}: {% generation %}{{ m.content }}{% endgeneration %}\n{% endfor %}");
    assertThat(show(chat("assistant"), 500, endless, 1, 1).get(0)).contains("! Missing end: 2 of 2 answers train no token that ends it (</s>)");
    assertThat(show("{\"input_ids\": [256, 65, 66], \"labels\": [-100, -100, 66]}", 500)).contains("! Missing end: 1 of 1 answer");
  }

  @Test
  void everythingMasked() throws IOException {
    assertThat(show(chat("user"), 500)).contains("! Everything is masked: the row teaches nothing and is left out of training.").contains("‹<|im_start|>user");
  }

  @Test
  void truncation() throws IOException {
    String cut = show(chat("assistant"), 34);
    assertThat(cut).contains("! Cut: the row has 39 tokens, 5 more than the maximum length of 34; 4 of 15 targets are lost.")
        .contains("! Missing end: the end of the last answer is cut off.").contains("[cut off: er.<|im_end|>\n]");
    assertThat(show(chat("assistant"), 20)).contains("! Everything is masked").contains("since its answer lies beyond the maximum length");
  }

  @Test
  void anUnknownRole() throws IOException {
    assertThat(show(chat("robot"), 500)).contains("! This row cannot be read: ").contains("rows.jsonl:1: the role 'robot' is unknown: use one of assistant,")
        .contains("I, the answer.");
  }

  @Test
  void rowsAreNumberedAsTheyStand() throws IOException {
    String rows = chat("assistant") + "\n\n" + chat("robot") + "\n{broken\n{\"text\": \"last\"}\n";
    assertThat(show(rows, 500, ChatTemplate.named("chatml"), 2, 9)).hasSize(3).element(1).asString().contains("not valid JSON").contains("{broken");
    assertThat(show(rows, 500, ChatTemplate.named("chatml"), 4, 1).get(0)).contains("rows.jsonl:5").contains("last");
    assertThat(show(rows, 500, ChatTemplate.named("chatml"), 5, 1)).isEmpty();
    Path text = Files.writeString(folder.resolve("t.txt"), "abcdefghij");
    assertThat(new RowInspector(DataOptions.of(5), tokenizer, null).show(List.of(text), 2, 1, false).get(0)).contains("t.txt#1");
  }

  /** A reader that is stopped in the middle of a file is no error of the file. */
  @ParameterizedTest
  @ValueSource(strings = {"a.csv", "a.jsonl", "a.json", "a.parquet"})
  void rowsOfEveryKindOfFile(String name) throws IOException {
    Path file = folder.resolve(name);
    switch (name) {
      case "a.csv" -> Files.writeString(file, "text\none\ntwo\nthree\n");
      case "a.jsonl" -> Files.writeString(file, "{\"text\": \"one\"}\n{\"text\": \"two\"}\n{\"text\": \"three\"}\n");
      case "a.json" -> Files.writeString(file, "[{\"text\": \"one\"}, {\"text\": \"two\"}, {\"text\": \"three\"}]");
      default -> {
        try (InputStream in = RowInspectorTest.class.getResourceAsStream("chats-zstd.parquet")) {
          Files.write(file, in.readAllBytes());
        }
      }
    }
    List<String> shown = new RowInspector(DataOptions.of(500), tokenizer, ChatTemplate.named("chatml")).show(List.of(file), 2, 1, false);
    assertThat(shown).hasSize(1).first().asString().contains(name.equals("a.parquet") ? "What is 1 + 1?" : "two");
  }

  @Test
  void coloursOnATerminal() throws IOException {
    Path file = Files.writeString(folder.resolve("rows.jsonl"), chat("user"));
    assertThat(new RowInspector(DataOptions.of(500), tokenizer, ChatTemplate.named("chatml")).show(List.of(file), 1, 1, true).get(0))
        .startsWith("\u001B[33m! Everything is masked").contains("\u001B[2m<|im_start|>");
    Files.writeString(file, chat("assistant"));
    assertThat(new RowInspector(DataOptions.of(500), tokenizer, ChatTemplate.named("chatml")).show(List.of(file), 1, 1, true).get(0))
        .contains("\u001B[32mI, the answer.<|im_end|>\u001B[0m");
  }
}
