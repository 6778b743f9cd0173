package dev.oribi.data;

import dev.oribi.OribiException;
import dev.oribi.text.ChatTemplate;
import dev.oribi.text.ChatTemplate.Rendered;
import dev.oribi.text.ChatTemplate.Span;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * A conversation as text, with the assistant's parts as targets. If the template marks them with {@code {% generation %}},
 * they are what it marks. Otherwise a turn is what is added when the conversation up to it, with the beginning of an
 * answer, grows by the turn.
 *
 * @param firstTarget index of the first message that may be a target
 */
record Conversation(String source, ChatTemplate template, List<Map<String, Object>> messages, Map<String, Object> variables,
    int firstTarget) {

  MarkedText mark() {
    Rendered whole = render(messages.size(), false);
    List<Span> targets = whole.generation().isEmpty() ? byPrefixes(whole.text()) : byMarks(whole);
    return new MarkedText(whole.text(), targets);
  }

  private Rendered render(int count, boolean addGenerationPrompt) {
    try {
      return template.render(messages.subList(0, count), addGenerationPrompt, variables);
    } catch (OribiException e) {
      throw new OribiException(source + ": " + e.getMessage(), e);
    }
  }

  private List<Span> byMarks(Rendered whole) {
    int from = firstTarget == 0 ? 0 : prefix(whole.text(), firstTarget).length();
    String eos = String.valueOf(variables.getOrDefault("eos_token", ""));
    List<Span> targets = new ArrayList<>();
    for (Span span : whole.generation()) {
      if (span.begin() >= from) {
        // The end of the turn is learned even where the marks leave it out: else the model would never stop.
        boolean ends = !eos.isEmpty() && whole.text().startsWith(eos, span.end());
        targets.add(new Span(span.begin(), span.end() + (ends ? eos.length() : 0)));
      }
    }
    return targets;
  }

  private List<Span> byPrefixes(String whole) {
    List<Span> targets = new ArrayList<>();
    for (int i = firstTarget; i < messages.size(); i++) {
      if ("assistant".equals(messages.get(i).get("role"))) {
        String with = i + 1 == messages.size() ? whole : render(i + 1, false).text();
        String before = prefix(with, i);
        if (!whole.startsWith(with)) {
          throw notAPrefix();
        }
        targets.add(new Span(before.length(), with.length()));
      }
    }
    return targets;
  }

  /** The first messages and, if the text goes on that way, the beginning of an answer. */
  private String prefix(String text, int count) {
    for (boolean addGenerationPrompt : new boolean[] {true, false}) {
      String before = render(count, addGenerationPrompt).text();
      if (text.startsWith(before)) {
        return before;
      }
    }
    throw notAPrefix();
  }

  private OribiException notAPrefix() {
    return new OribiException(source + ": the chat template writes a turn differently once others follow it, so that the"
        + " assistant's parts cannot be found: mark them in chat_template.jinja with {% generation %} and"
        + " {% endgeneration %}, or give each answer a row of its own.");
  }
}
