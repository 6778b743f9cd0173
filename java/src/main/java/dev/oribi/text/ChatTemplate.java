package dev.oribi.text;

import com.fasterxml.jackson.databind.JsonNode;
import dev.oribi.OribiException;
import dev.oribi.text.jinja.Template;
import dev.oribi.text.jinja.TemplateException;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Clock;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * How a model wants a conversation written: its Jinja template, as Hugging Face applies it.
 *
 * <p>Immutable; safe for use by many threads. The template is untrusted: it sees copies of the messages and variables
 * only, and its steps and output are bounded.
 */
public final class ChatTemplate {
  private static final String TOOL_USE = "tool_use";

  private final String source;
  private final Template template;
  private final Clock clock;
  /** What takes its place where there are tools; null: nothing. */
  private final ChatTemplate withTools;

  private ChatTemplate(String source, Template template, Clock clock, ChatTemplate withTools) {
    this.source = source;
    this.template = template;
    this.clock = clock;
    this.withTools = withTools;
  }

  /**
   * The template of a model folder: {@code chat_template.jinja}, else {@code chat_template} of {@code
   * tokenizer_config.json}, which is a string or a list of named ones, of which "default" is taken, and "tool_use" where a
   * conversation has tools; that one may also be in {@code additional_chat_templates}.
   *
   * @return empty if the model has none
   * @throws OribiException if it is broken
   */
  public static Optional<ChatTemplate> load(Path modelFolder) {
    Path jinja = modelFolder.resolve("chat_template.jinja");
    if (Files.isRegularFile(jinja)) {
      ChatTemplate plain = parse(JsonFiles.readText(jinja), jinja.toString());
      Path tools = modelFolder.resolve("additional_chat_templates").resolve(TOOL_USE + ".jinja");
      return Optional.of(Files.isRegularFile(tools) ? plain.withTools(parse(JsonFiles.readText(tools), tools.toString())) : plain);
    }
    Path config = modelFolder.resolve("tokenizer_config.json");
    if (!Files.isRegularFile(config)) {
      return Optional.empty();
    }
    JsonNode value = JsonFiles.parse(config).path("chat_template");
    if (value.isMissingNode() || value.isNull()) {
      return Optional.empty();
    }
    ChatTemplate plain = parse(defaultTemplate(config, value), config.toString());
    for (JsonNode named : value.isArray() ? value : List.<JsonNode>of()) {
      if (named.path("name").asText().equals(TOOL_USE) && named.path("template").isTextual()) {
        return Optional.of(plain.withTools(parse(named.get("template").textValue(), config.toString())));
      }
    }
    return Optional.of(plain);
  }

  private ChatTemplate withTools(ChatTemplate other) {
    return new ChatTemplate(source, template, clock, other);
  }

  private static String defaultTemplate(Path config, JsonNode value) {
    if (value.isTextual()) {
      return value.textValue();
    }
    for (JsonNode named : value) {
      if (named.path("name").asText().equals("default") && named.path("template").isTextual()) {
        return named.get("template").textValue();
      }
    }
    throw new OribiException("The chat_template of " + config + " is neither a string nor a list with one named"
        + " 'default': write the template into chat_template.jinja beside it.");
  }

  /** Names that {@link #named} knows: the ways of well-known families, for models that have no template of their own. */
  public static final List<String> NAMES = List.of("alpaca", "chatml", "gemma", "llama2", "llama3", "mistral-v1", "mistral-v2",
      "mistral-v3", "phi3", "vicuna", "zephyr");

  /** One of Oribi's own templates, in which {@code {% generation %}} marks the answers; see {@link #NAMES}. */
  public static ChatTemplate named(String name) {
    if (!NAMES.contains(name)) {
      throw new OribiException("There is no chat template named '" + name + "': the names are " + String.join(", ", NAMES)
          + "; or give a file that ends in .jinja.");
    }
    try (InputStream in = ChatTemplate.class.getResourceAsStream("templates/" + name + ".jinja")) {
      return parse(new String(in.readAllBytes(), StandardCharsets.UTF_8), "the chat template " + name);
    } catch (IOException e) {
      throw new IllegalStateException("the chat template " + name + " is missing in the jar", e);
    }
  }

  /** A template that a user asks for: one of {@link #NAMES}, or a file of Jinja, whose name has a dot or a slash. */
  public static ChatTemplate of(String nameOrFile) {
    boolean file = nameOrFile.contains(".") || nameOrFile.contains("/");
    if (!file) {
      return named(nameOrFile);
    }
    Path path = Path.of(nameOrFile);
    if (!Files.isRegularFile(path)) {
      throw new OribiException("There is no chat template file " + path + ": give a file of Jinja, or one of the names "
          + String.join(", ", NAMES) + ".");
    }
    return parse(JsonFiles.readText(path), path.toString());
  }

  /** Parses a template. */
  public static ChatTemplate parse(String jinja) {
    return parse(jinja, "the chat template");
  }

  private static ChatTemplate parse(String jinja, String where) {
    try {
      return new ChatTemplate(jinja, Template.parse(jinja), Clock.systemDefaultZone(), null);
    } catch (TemplateException e) {
      throw new OribiException("Cannot parse " + where + ": " + OneLine.of(e.getMessage()) + ".", e);
    }
  }

  /** The same template with another clock, which {@code strftime_now} reads: some templates print today's date. */
  public ChatTemplate withClock(Clock other) {
    return new ChatTemplate(source, template, other, withTools == null ? null : withTools.withClock(other));
  }

  /** The Jinja text; of two, both. */
  public String source() {
    return withTools == null ? source : source + '\n' + withTools.source;
  }

  /**
   * Writes a conversation.
   *
   * @param messages maps with {@code role}, {@code content} and whatever else the template reads, such as {@code
   *     tool_calls}
   * @param addGenerationPrompt whether to end with the beginning of the assistant's answer
   * @param variables further variables: {@code bos_token}, {@code eos_token}, {@code tools}, ...; strings, numbers,
   *     booleans, null, lists and maps of these
   * @throws OribiException if the template refuses the conversation, with its reason
   */
  public Rendered render(List<Map<String, Object>> messages, boolean addGenerationPrompt, Map<String, Object> variables) {
    if (withTools != null && variables.get("tools") != null) {
      return withTools.render(messages, addGenerationPrompt, variables);
    }
    Map<String, Object> all = new HashMap<>(variables);
    // Hugging Face gives these two always, as None where there are none.
    all.putIfAbsent("tools", null);
    all.putIfAbsent("documents", null);
    all.put("messages", messages);
    all.put("add_generation_prompt", addGenerationPrompt);
    try {
      Template.Page page = template.render(all, clock);
      return new Rendered(page.text(), page.generation().stream().map(span -> new Span(span[0], span[1])).toList());
    } catch (TemplateException e) {
      throw new OribiException("The chat template refuses the conversation: " + OneLine.of(e.getMessage()) + ".", e);
    }
  }

  /** The text of a conversation, and the parts of it that stood inside {@code {% generation %}}. */
  public record Rendered(String text, List<Span> generation) {}

  /** Characters begin (included) to end (excluded) of a Java string. */
  public record Span(int begin, int end) {}
}
