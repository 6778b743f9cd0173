package dev.oribi.text;

import dev.oribi.OribiException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** How a model wants a conversation written. */
public final class ChatTemplate {

  public static Optional<ChatTemplate> load(Path modelFolder) {
    throw new OribiException("Chat templates are not built in yet.");
  }

  public static ChatTemplate parse(String jinja) {
    throw new OribiException("Chat templates are not built in yet.");
  }

  public Rendered render(List<Map<String, Object>> messages, boolean addGenerationPrompt, Map<String, Object> variables) {
    throw new OribiException("Chat templates are not built in yet.");
  }

  /** The text of a conversation, and the parts of it that stood inside {@code {% generation %}}. */
  public record Rendered(String text, List<Span> generation) {}

  /** Characters begin (included) to end (excluded) of a Java string. */
  public record Span(int begin, int end) {}
}
