package dev.oribi.data;

import static org.assertj.core.api.Assertions.assertThat;

import dev.oribi.text.ByteTokenizer;
import dev.oribi.text.ChatTemplate;
import dev.oribi.text.Tokenizer;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Bugs of other trainers in what is tokenized and what is learned: beginnings, ends, padding. */
class KnownTemplateBugsTest {
  private static final int START = 258;
  private static final int END = 259;
  private static final String TURNS = "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\","
      + " \"content\": \"b\"}, {\"role\": \"user\", \"content\": \"c\"}, {\"role\": \"assistant\", \"content\": \"d\"}]}";

  @TempDir
  private Path folder;

  @BeforeEach
  void writeTokenizer() throws IOException {
    ByteTokenizer.write(folder);
  }

  private void special(String json) throws IOException {
    Files.writeString(folder.resolve("tokenizer_config.json"), json);
  }

  private Row row(String json, String template) throws IOException {
    Path file = Files.writeString(folder.resolve("data.json"), json);
    try (Tokenizer tokenizer = Tokenizer.load(folder)) {
      DataOptions options = new DataOptions(500, 0, 1, null);
      return Dataset.load(List.of(file), options, tokenizer, template == null ? null : ChatTemplate.parse(template)).row(0);
    }
  }

  private static int[] learned(Row row) {
    return Arrays.stream(row.labels()).filter(label -> label != MicroBatch.IGNORE).toArray();
  }

  // -------------------------------------------------------------------------------------------------------- beginning

  /**
   * Gemma without its first token has a far higher loss (https://unsloth.ai/blog/gemma-bugs); Llama 3's template writes the
   * token and the tokenizer adds another (test_sft_prepare_dataset_double_bos of unslothai/unsloth). Exactly one, whether the template writes it, the tokenizer adds it, or the text has it already.
   */
  @ParameterizedTest
  @ValueSource(strings = {
      "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}",
      "{\"prompt\": \"a\", \"completion\": \"b\"}", "{\"text\": \"ab\"}", "{\"text\": \"<s>ab\"}"})
  void everyRowBeginsOnce(String json) throws IOException {
    int[] ids = row(json, "{{ bos_token }}" + ByteTokenizer.CHATML).inputIds();
    assertThat(ids[0]).isEqualTo(ByteTokenizer.BOS);
    assertThat(Arrays.stream(ids).filter(id -> id == ByteTokenizer.BOS)).hasSize(1);
  }

  /** TRL and Unsloth once compared the first character of the text with that of the token, not the token. */
  @Test
  void aTextThatOnlyLooksLikeABeginningGetsOne() throws IOException {
    int[] ids = row("{\"text\": \"<svg>\"}", null).inputIds();
    assertThat(ids).startsWith(ByteTokenizer.BOS, '<', 's', 'v').endsWith(ByteTokenizer.EOS);
  }

  // -------------------------------------------------------------------------------------------------------------- end

  /**
   * Phi-4 and Llama 3 padded with their end token, and trainers that mask labels by the padding token never taught them to
   * stop (https://unsloth.ai/blog/phi4, https://github.com/unslothai/unsloth/issues/416).
   */
  @Test
  void paddingThatIsTheEndIsLearnedAllTheSame() throws IOException {
    special("{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"pad_token\": \"</s>\"}");
    assertThat(learned(row("{\"prompt\": \"a\", \"completion\": \"b\"}", null))).containsExactly('b', ByteTokenizer.EOS);
    special("{\"bos_token\": \"<s>\", \"eos_token\": \"<|im_end|>\", \"pad_token\": \"<|im_end|>\"}");
    assertThat(learned(row(TURNS, ByteTokenizer.CHATML))).containsExactly('b', END, '\n', 'd', END, '\n');
  }

  /** Qwen 2.5: the padding token stands in texts too, and is a target there like any other; masks go by position. */
  @Test
  void paddingInsideATextIsLearned() throws IOException {
    special("{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"pad_token\": \"<|im_start|>\"}");
    assertThat(learned(row("{\"prompt\": \"a\", \"completion\": \"<|im_start|>b\"}", null))).containsExactly(START, 'b', ByteTokenizer.EOS);
  }

  /** Phi-4: the end of a turn, which its tokenizer did not call an end, is learned after every answer. */
  @Test
  void theEndOfEveryTurnIsLearned() throws IOException {
    assertThat(learned(row(TURNS, ByteTokenizer.CHATML))).containsExactly('b', END, '\n', 'd', END, '\n');
  }

  /** Phi-4's template opened the assistant's turn after every question, asked or not: the opening is no target. */
  @Test
  void aTurnThatIsAlwaysOpenedIsNotLearned() throws IOException {
    String always = "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '<|im_start|>user:' + m.content"
        + " + '<|im_end|><|im_start|>assistant:' }}{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{% endfor %}";
    assertThat(learned(row(TURNS, always))).containsExactly('b', END, 'd', END);
  }
}
