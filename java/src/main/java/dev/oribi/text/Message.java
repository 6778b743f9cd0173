package dev.oribi.text;

import java.util.Map;

/**
 * One turn of a conversation.
 *
 * @param role who speaks: {@code system}, {@code user}, {@code assistant} or {@code tool}
 * @param content what is said
 */
public record Message(String role, String content) {

  /** The form that chat templates read; turns with tool calls are written as such maps at once. */
  public Map<String, Object> toMap() {
    return Map.of("role", role, "content", content);
  }
}
