package dev.oribi.text;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import dev.oribi.OribiException;
import dev.oribi.testing.Goldens;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Clock;
import java.time.Instant;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.io.TempDir;

class ChatTemplateTest {
  private static final Clock JANUARY = Clock.fixed(Instant.parse("2025-01-15T09:30:00Z"), ZoneOffset.UTC);

  /** Templates of real models, rendered by Python's Jinja2. */
  @TestFactory
  Stream<DynamicTest> rendersAsJinja2() throws IOException {
    JsonNode goldens = TestData.json("chat/rendered.json");
    assertThat(goldens.get("cases").size()).isEqualTo(144);
    return StreamSupport.stream(goldens.get("cases").spliterator(), false).map(c -> DynamicTest.dynamicTest(
        c.get("template").asText() + " " + c.get("conversation").asText() + " " + c.get("add_generation_prompt").asText(),
        () -> check(c, goldens.get("conversations").get(c.get("conversation").asText()))));
  }

  @SuppressWarnings("unchecked")
  private static void check(JsonNode c, JsonNode conversation) {
    ChatTemplate template = ChatTemplate.parse(JsonFiles.readText(TestData.file("chat/templates/" + c.get("template").asText())))
        .withClock(JANUARY);
    List<Map<String, Object>> messages = (List<Map<String, Object>>) TestData.plain(conversation.get("messages"));
    Map<String, Object> variables = new HashMap<>();
    variables.put("bos_token", c.get("bos_token").asText());
    variables.put("eos_token", c.get("eos_token").asText());
    if (conversation.has("tools")) {
      variables.put("tools", TestData.plain(conversation.get("tools")));
    }
    boolean prompt = c.get("add_generation_prompt").asBoolean();
    if (c.has("error")) {
      String error = c.get("error").asText();
      assertThatThrownBy(() -> template.render(messages, prompt, variables)).isInstanceOf(OribiException.class)
          .hasMessageContaining(error.startsWith("TemplateError: ") ? error.substring(15) : "does not work between str and dict");
      Goldens.passed("chats rendered as by Jinja2");
      return;
    }
    ChatTemplate.Rendered rendered = template.render(messages, prompt, variables);
    assertThat(rendered.text()).isEqualTo(c.get("text").asText());
    List<List<Integer>> spans = new ArrayList<>();
    for (ChatTemplate.Span span : rendered.generation()) {
      spans.add(List.of(rendered.text().codePointCount(0, span.begin()), rendered.text().codePointCount(0, span.end())));
    }
    assertThat(spans).isEqualTo(c.has("assistant_spans") ? TestData.plain(c.get("assistant_spans")) : List.of());
    Goldens.passed("chats rendered as by Jinja2");
  }

  /** Expected texts that llama.cpp publishes for the templates of eighteen models. */
  @TestFactory
  @SuppressWarnings("unchecked")
  Stream<DynamicTest> rendersAsLlamaCppExpects() throws IOException {
    JsonNode goldens = TestData.json("chat/llama-cpp-template-goldens.json");
    assertThat(goldens.get("cases").size()).isEqualTo(18);
    List<Map<String, Object>> messages = (List<Map<String, Object>>) TestData.plain(goldens.get("messages"));
    return StreamSupport.stream(goldens.get("cases").spliterator(), false).map(c -> DynamicTest.dynamicTest(c.get("name").asText(),
        () -> {
          assertThat(ChatTemplate.parse(c.get("template").asText()).render(messages, c.get("add_generation_prompt").asBoolean(),
              Map.of("bos_token", c.get("bos_token").asText(), "eos_token", c.get("eos_token").asText())).text())
              .isEqualTo(c.get("expected").asText());
          Goldens.passed("chats rendered as llama.cpp expects");
        }));
  }

  @Test
  void takesTheFileBeforeTheConfiguration(@TempDir Path folder) throws IOException {
    assertThat(ChatTemplate.load(folder)).isEmpty();
    Path config = folder.resolve("tokenizer_config.json");
    Files.writeString(config, "{\"eos_token\": \"x\"}");
    assertThat(ChatTemplate.load(folder)).isEmpty();
    Files.writeString(config, "{\"chat_template\": \"one\"}");
    assertThat(ChatTemplate.load(folder).orElseThrow().source()).isEqualTo("one");
    Files.writeString(config, "{\"chat_template\": [{\"name\": \"rag\", \"template\": \"no\"}, {\"name\": \"default\", \"template\": \"two\"}]}");
    assertThat(ChatTemplate.load(folder).orElseThrow().source()).isEqualTo("two");
    Files.writeString(folder.resolve("chat_template.jinja"), "three");
    assertThat(ChatTemplate.load(folder).orElseThrow().source()).isEqualTo("three");
  }

  /** As transformers chooses. */
  @Test
  void toolsMayHaveATemplateOfTheirOwn(@TempDir Path folder) throws IOException {
    Files.writeString(folder.resolve("tokenizer_config.json"), "{\"chat_template\": [{\"name\": \"default\", \"template\": \"plain\"},"
        + " {\"name\": \"tool_use\", \"template\": \"with tools\"}]}");
    for (int place = 0; place < 2; place++) {
      ChatTemplate template = ChatTemplate.load(folder).orElseThrow();
      assertThat(template.render(List.of(), false, Map.of()).text()).isEqualTo("plain");
      assertThat(template.render(List.of(), false, Map.of("tools", List.of(Map.of("name", "f")))).text()).isEqualTo("with tools");
      assertThat(template.source()).contains("plain").contains("with tools");
      Files.writeString(folder.resolve("chat_template.jinja"), "plain");
      Files.createDirectories(folder.resolve("additional_chat_templates"));
      Files.writeString(folder.resolve("additional_chat_templates/tool_use.jinja"), "with tools");
    }
  }

  @Test
  void brokenTemplatesNameTheirFile(@TempDir Path folder) throws IOException {
    Path file = Files.writeString(folder.resolve("chat_template.jinja"), "\n{% if %}");
    assertThatThrownBy(() -> ChatTemplate.load(folder)).isInstanceOf(OribiException.class)
        .hasMessageContaining(file.toString()).hasMessageContaining("line 2 of the template");
    Files.delete(file);
    Files.writeString(folder.resolve("tokenizer_config.json"), "{\"chat_template\": [{\"name\": \"rag\", \"template\": \"x\"}]}");
    assertThatThrownBy(() -> ChatTemplate.load(folder)).hasMessageContaining("neither a string nor a list with one named 'default'");
  }
}
