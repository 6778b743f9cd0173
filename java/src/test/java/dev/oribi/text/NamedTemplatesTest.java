package dev.oribi.text;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import dev.oribi.OribiException;
import dev.oribi.testing.Goldens;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.FieldSource;

/** Oribi's own templates write what the families' own write. */
class NamedTemplatesTest {
  static final List<String> NAMES = ChatTemplate.NAMES;

  /** Conversations without tools, as the published template renders them; refused ones are refused. */
  @ParameterizedTest
  @CsvSource({"llama3,llama3.jinja,10", "gemma,gemma.jinja,10", "phi3,phi3.jinja,5"})
  @SuppressWarnings("unchecked")
  void writesAsPublished(String name, String published, int expected) throws IOException {
    JsonNode goldens = TestData.json("chat/rendered.json");
    int checked = 0;
    for (JsonNode c : goldens.get("cases")) {
      JsonNode conversation = goldens.get("conversations").get(c.get("conversation").asText());
      // Phi-3's own adds an end-of-text token when no answer is asked for.
      boolean prompt = c.get("add_generation_prompt").asBoolean();
      if (!c.get("template").asText().equals(published) || conversation.has("tools") || name.equals("phi3") && !prompt) {
        continue;
      }
      List<Map<String, Object>> messages = (List<Map<String, Object>>) TestData.plain(conversation.get("messages"));
      Map<String, Object> variables = Map.of("bos_token", c.get("bos_token").asText(), "eos_token", c.get("eos_token").asText());
      if (c.has("error")) {
        assertThatThrownBy(() -> ChatTemplate.named(name).render(messages, prompt, variables)).hasMessageContaining("not supported");
      } else {
        assertThat(ChatTemplate.named(name).render(messages, prompt, variables).text()).isEqualTo(c.get("text").asText());
      }
      checked++;
    }
    assertThat(checked).isEqualTo(expected);
  }

  @ParameterizedTest
  @CsvSource({"chatml,teknium/OpenHermes-2.5-Mistral-7B", "llama2,TheBloke/FusionNet_34Bx2_MoE-AWQ", "phi3,Phi-3-small",
      "vicuna,eachadea/vicuna-13b-1.1", "llama3,Llama-3"})
  @SuppressWarnings("unchecked")
  void writesAsLlamaCppExpects(String name, String model) throws IOException {
    JsonNode goldens = TestData.json("chat/llama-cpp-template-goldens.json");
    JsonNode c = StreamSupport.stream(goldens.get("cases").spliterator(), false).filter(g -> g.get("name").asText().equals(model))
        .findFirst().orElseThrow();
    // This set writes no token at the beginning, but for Llama 2 between turns.
    String bos = name.equals("llama2") ? "<s>" : "";
    String text = ChatTemplate.named(name).render((List<Map<String, Object>>) TestData.plain(goldens.get("messages")),
        c.get("add_generation_prompt").asBoolean(), Map.of("bos_token", bos, "eos_token", "</s>")).text();
    String expected = c.get("expected").asText();
    assertThat(text.strip()).isEqualTo((expected.startsWith("<s>") ? "" : bos) + expected.strip());
  }

  @ParameterizedTest
  @FieldSource("NAMES")
  void marksTheAnswersWithTheirEnds(String name) {
    ChatTemplate.Rendered page = ChatTemplate.named(name).render(List.of(Map.of("role", "user", "content", "Q"),
        Map.of("role", "assistant", "content", "A1"), Map.of("role", "user", "content", "R"), Map.of("role", "assistant", "content", "A2")),
        false, Map.of("bos_token", "<s>", "eos_token", "</s>"));
    assertThat(page.generation()).hasSize(2);
    for (int i = 0; i < 2; i++) {
      ChatTemplate.Span span = page.generation().get(i);
      assertThat(page.text().substring(span.begin(), span.end())).startsWith("A" + (i + 1)).matches("A. ?(</s>|<\\|.*\\|>|<end_of_turn>)");
    }
  }

  /** Texts and tokens of mistral-common, which encodes part by part; so does a SentencePiece model here. */
  @ParameterizedTest
  @CsvSource({"no_tools,1,v1", "no_tools,2,v3", "no_tools,3,v3", "get_weather_no_system_prompt,2,v3", "get_weather_no_system_prompt,3,v3"})
  @SuppressWarnings("unchecked")
  void writesAndEncodesAsMistralCommon(String sample, int version, String model, @TempDir Path folder) throws IOException {
    Files.copy(TestData.file("tokenizers/mistral/tokenizer." + model + ".model"), folder.resolve("tokenizer.model"));
    String base = "chat/mistral-common/" + sample + "/";
    JsonNode conversation = TestData.json(base + "sample.json");
    List<Map<String, Object>> messages = (List<Map<String, Object>>) TestData.plain(conversation.get("messages"));
    ToolCalls.parseArguments(messages, "sample");
    String text = ChatTemplate.named("mistral-v" + version).render(messages, false,
        Map.of("bos_token", "<s>", "eos_token", "</s>", "tools", TestData.plain(conversation.get("tools")))).text();
    try (Tokenizer tokenizer = Tokenizer.load(folder)) {
      int[] ids = tokenizer.encode(text, false);
      StringBuilder pieces = new StringBuilder();
      for (int id : ids) {
        pieces.append(tokenizer.token(id));
      }
      assertThat(pieces.toString()).isEqualTo(Files.readString(TestData.file(base + "text_v" + version + ".txt")));
      JsonNode expected = TestData.json(base + "tokens_v" + version + ".json").get("tokens");
      assertThat(ids).isEqualTo(StreamSupport.stream(expected.spliterator(), false).mapToInt(JsonNode::asInt).toArray());
    }
    Goldens.passed("texts and tokens of mistral-common");
  }

  @Test
  void aNameOrAFile(@TempDir Path folder) throws IOException {
    assertThat(ChatTemplate.of("chatml").source()).contains("<|im_start|>");
    Path file = Files.writeString(folder.resolve("my.jinja"), "{{ messages[0].content }}");
    assertThat(ChatTemplate.of(file.toString()).source()).isEqualTo("{{ messages[0].content }}");
    assertThatThrownBy(() -> ChatTemplate.of("chatlm")).isInstanceOf(OribiException.class).hasMessageContaining("the names are alpaca, chatml");
    assertThatThrownBy(() -> ChatTemplate.of(folder.resolve("none.jinja").toString())).hasMessageContaining("There is no chat template file");
  }
}
