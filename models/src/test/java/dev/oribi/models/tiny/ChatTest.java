package dev.oribi.models.tiny;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.OribiException;
import dev.oribi.text.ChatTemplate;
import dev.oribi.text.Tokenizer;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/** The committed chat template and tokenizer, used as the trainer uses them. */
class ChatTest {
  private static final Path MODEL = Path.of("tiny", "model");
  private static final ChatTemplate TEMPLATE = ChatTemplate.load(MODEL).orElseThrow();
  private static final Map<String, Object> VARIABLES = Map.of("bos_token", TokenizerFiles.END_OF_TEXT);

  @Test
  void theAnswerAndItsEndAreWhatIsTrained() {
    try (Tokenizer tokenizer = Tokenizer.load(MODEL)) {
      for (InstructionGenerator.Row row : InstructionGenerator.generate(1).train()) {
        ChatTemplate.Rendered chat = render(row.question(), row.answer());
        assertThat(chat.text())
            .isEqualTo("<|endoftext|><|user|>" + row.question() + "<|end|><|assistant|>" + row.answer() + "<|end|>");
        assertThat(chat.generation())
            .singleElement()
            .satisfies(
                span -> assertThat(chat.text().substring(span.begin(), span.end())).isEqualTo(row.answer() + "<|end|>"));
        int[] ids = tokenizer.encode(chat.text(), false);
        assertThat(ids.length).as("tokens of a row").isLessThan(64);
        assertThat(tokenizer.decode(ids, false)).isEqualTo(chat.text());
      }
    }
  }

  /** Or else what the first training teaches about the template's tokens would be of no use to the second. */
  @Test
  void chatsInTheTextAreWrittenAsTheTemplateWritesThem() {
    StoryGenerator generator = new StoryGenerator(6);
    List<String> chats =
        Stream.generate(generator::next).filter(text -> text.startsWith(StoryGenerator.USER)).limit(100).toList();
    for (String chat : chats) {
      String[] turns = chat.replaceAll("<\\|(user|end)\\|>", "").split("<\\|assistant\\|>");
      assertThat(render(turns[0], turns[1]).text()).isEqualTo(TokenizerFiles.END_OF_TEXT + chat);
    }
  }

  @Test
  void generationBeginsWithTheAssistant() {
    assertThat(TEMPLATE.render(List.of(message("user", " Hello! ")), true, VARIABLES).text())
        .isEqualTo("<|endoftext|><|user|>Hello!<|end|><|assistant|>");
  }

  @Test
  void otherRolesAreRefused() {
    assertThatThrownBy(() -> TEMPLATE.render(List.of(message("system", "Be brief.")), true, VARIABLES))
        .isInstanceOf(OribiException.class)
        .hasMessageContaining("user and assistant only");
  }

  private static ChatTemplate.Rendered render(String question, String answer) {
    return TEMPLATE.render(List.of(message("user", question), message("assistant", answer)), false, VARIABLES);
  }

  private static Map<String, Object> message(String role, String content) {
    return Map.of("role", role, "content", content);
  }
}
