package dev.oribi.cli;

import static org.assertj.core.api.Assertions.assertThat;

import dev.oribi.testing.TestMachine;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** {@code oribi generate} and {@code oribi chat} with the tiny model, in a folder whose files can be changed. */
class TextCommandsTest {
  @TempDir Path folder;

  @BeforeEach
  void copyModel() throws IOException {
    try (Stream<Path> files = Files.list(Path.of("../models/tiny/model"))) {
      for (Path file : files.filter(Files::isRegularFile).toList()) {
        Files.copy(file, folder.resolve(file.getFileName().toString()));
      }
    }
  }

  private TinyRun.Outcome run(String command, String... options) {
    TestMachine.commandRuns();
    List<String> arguments = new ArrayList<>(List.of(command, "--model", folder.toString(), "--device", TestMachine.name(), "--threads", "1", "--temperature", "0"));
    arguments.addAll(List.of(options));
    return TinyRun.run(arguments);
  }

  private TinyRun.Outcome chat(String lines, String... options) {
    InputStream former = System.in;
    System.setIn(new ByteArrayInputStream(lines.getBytes(StandardCharsets.UTF_8)));
    try {
      return run("chat", options);
    } finally {
      System.setIn(former);
    }
  }

  /** What the options leave open is as generation_config.json says: also how long an answer may be. */
  @Test
  void theFolderSaysHowManyTokens() throws IOException {
    Files.writeString(folder.resolve("generation_config.json"), "{\"eos_token_id\": [0, 4], \"max_new_tokens\": 3}");
    String three = run("generate", "--prompt", "Once upon a time", "--max-new-tokens", "3").out();
    assertThat(run("generate", "--prompt", "Once upon a time").out()).isEqualTo(three);
    assertThat(run("generate", "--prompt", "Once upon a time", "--max-new-tokens", "9").out()).startsWith(three.strip()).hasSizeGreaterThan(three.length());
  }

  @Test
  void anAnswerThatIsCutIsSaidToBe() {
    TinyRun.Outcome outcome = chat("How much is nine plus two?\n", "--max-new-tokens", "2");
    assertThat(outcome.code()).isZero();
    assertThat(outcome.err()).isEqualTo("oribi: this answer ends at its 2 tokens, the most: a higher --max-new-tokens allows more.\n");
    assertThat(outcome.out()).isNotBlank().hasLineCount(1);
    assertThat(chat("How much is nine plus two?\n", "--max-seq-length", "14").err())
        .isEqualTo("oribi: this answer ends at the 14 tokens that a conversation may have: /new begins again.\n");
  }

  @Test
  void aTemplateThatTakesNoSystemMessageSaysSoAtOnce() throws IOException {
    Files.writeString(folder.resolve("chat_template.jinja"),
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{{ messages[0].content }}");
    TinyRun.Outcome outcome = chat("", "--system", "Be brief.");
    assertThat(outcome.code()).isEqualTo(1);
    assertThat(outcome.err()).startsWith("oribi: The chat template refuses the conversation: ").contains("System role not supported").hasLineCount(1);
    assertThat(chat("").code()).isZero();
  }

  /** A text that its reader did not get is no success, and nothing is computed for a reader who has gone. */
  @Test
  void anOutputThatTakesNothingEndsTheAnswer() {
    PrintStream formerOut = System.out;
    PrintStream formerErr = System.err;
    java.io.ByteArrayOutputStream err = new java.io.ByteArrayOutputStream();
    int code;
    int[] writes = new int[1];
    try {
      System.setErr(new PrintStream(err, true, StandardCharsets.UTF_8));
      System.setOut(new PrintStream(new OutputStream() {
        @Override
        public void write(int b) throws IOException {
          writes[0]++;
          throw new IOException("No space left on device");
        }
      }, false, StandardCharsets.UTF_8));
      code = Main.run("generate", "--model", folder.toString(), "--device", TestMachine.name(), "--prompt", "Once", "--max-new-tokens", "100");
    } finally {
      System.setOut(formerOut);
      System.setErr(formerErr);
    }
    assertThat(code).isEqualTo(1);
    assertThat(err.toString(StandardCharsets.UTF_8)).startsWith("oribi: not all of the output could be written").hasLineCount(1);
    assertThat(writes[0]).as("attempts to write").isLessThan(10);
  }
}
