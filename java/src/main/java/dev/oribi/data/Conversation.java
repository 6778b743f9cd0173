package dev.oribi.data;

import dev.oribi.OribiException;
import dev.oribi.text.ChatTemplate;
import dev.oribi.text.ChatTemplate.Rendered;
import dev.oribi.text.ChatTemplate.Span;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * A conversation as text, with those of the assistant's parts as targets that shall be learned. {@link MaskBy} says how they are
 * found. Whichever way, the end of the turn belongs to the target: else the model would never stop.
 *
 * @param learned for each message whether it is a target; only the assistant's are
 * @param roles the boundaries of roles in this template, empty if they cannot be told
 */
record Conversation(String source, ChatTemplate template, List<Map<String, Object>> messages, Map<String, Object> variables,
    boolean[] learned, MaskBy by, EndTokens ends, Optional<RoleBoundaries> roles) {

  MarkedText mark() {
    Rendered whole = render(messages.size(), false);
    List<Span> targets = switch (by) {
      case GENERATION -> byMarks(whole);
      case TURNS -> byTurns(whole.text()).orElseThrow(this::rewritten);
      case ROLES -> byRoles(whole.text());
      case AUTO -> !whole.generation().isEmpty() ? byMarks(whole) : byTurns(whole.text()).orElseGet(() -> byCertainRoles(whole.text()));
    };
    return new MarkedText(whole.text(), withEnds(whole.text(), targets));
  }

  private Rendered render(int count, boolean addGenerationPrompt) {
    try {
      return template.render(messages.subList(0, count), addGenerationPrompt, variables);
    } catch (OribiException e) {
      throw new OribiException(source + ": " + e.getMessage(), e);
    }
  }

  private static boolean isAssistant(Map<String, Object> message) {
    return "assistant".equals(message.get("role"));
  }

  /** The numbers, among the assistant's messages, of those that are learned. */
  private List<Integer> learnedAnswers() {
    List<Integer> numbers = new ArrayList<>();
    int answer = 0;
    for (int i = 0; i < messages.size(); i++) {
      if (isAssistant(messages.get(i))) {
        if (learned[i]) {
          numbers.add(answer);
        }
        answer++;
      }
    }
    return numbers;
  }

  private int answers() {
    return (int) messages.stream().filter(Conversation::isAssistant).count();
  }

  private List<Span> byMarks(Rendered whole) {
    List<Span> marks = whole.generation();
    List<Integer> wanted = learnedAnswers();
    if (marks.isEmpty() && !wanted.isEmpty()) {
      throw new OribiException(source + ": the chat template marks nothing with {% generation %}: add the marks to"
          + " chat_template.jinja, or find answers in another way with --mask-by.");
    }
    if (wanted.size() == answers()) {
      return marks;
    }
    if (marks.size() == answers()) {
      return wanted.stream().map(marks::get).toList();
    }
    List<Span> turns = byTurns(whole.text()).orElseThrow(this::rewritten);
    return marks.stream().filter(m -> turns.stream().anyMatch(t -> m.begin() >= t.begin() && m.end() <= t.end())).toList();
  }

  /** Empty if the template writes a turn differently once others follow it. */
  private Optional<List<Span>> byTurns(String whole) {
    List<Span> targets = new ArrayList<>();
    for (int i = 0; i < messages.size(); i++) {
      if (learned[i] && isAssistant(messages.get(i))) {
        String with = i + 1 == messages.size() ? whole : render(i + 1, false).text();
        int before = prefix(with, i);
        if (before < 0 || !whole.startsWith(with)) {
          return Optional.empty();
        }
        targets.add(new Span(before, with.length()));
      }
    }
    return Optional.of(targets);
  }

  /** Length of the first messages with, if the text goes on that way, the beginning of an answer; -1 if it does not. */
  private int prefix(String text, int count) {
    for (boolean addGenerationPrompt : new boolean[] {true, false}) {
      String before = render(count, addGenerationPrompt).text();
      if (text.startsWith(before)) {
        return before.length();
      }
    }
    return -1;
  }

  private List<Span> byCertainRoles(String whole) {
    if (roles.isEmpty() || !roles.get().certain()) {
      throw rewritten();
    }
    return byRoles(whole);
  }

  private List<Span> byRoles(String whole) {
    List<Span> all = roles.orElseThrow(this::rewritten).answers(whole);
    if (all.size() != answers()) {
      throw new OribiException(source + ": the conversation has " + answers() + " answers of the assistant, but its text has "
          + all.size() + " places that look like one, so that they cannot be told apart: mark them in chat_template.jinja with"
          + " {% generation %} and {% endgeneration %}.");
    }
    return learnedAnswers().stream().map(all::get).toList();
  }

  private List<Span> withEnds(String text, List<Span> targets) {
    List<Span> whole = new ArrayList<>();
    for (Span span : targets) {
      int end = ends.endsWith(text.substring(span.begin(), span.end())) ? span.end() : ends.past(text, span.end());
      whole.add(new Span(span.begin(), end));
    }
    return whole;
  }

  private OribiException rewritten() {
    return new OribiException(source + ": the chat template writes a turn differently once others follow it, so that the"
        + " assistant's parts cannot be found: mark them in chat_template.jinja with {% generation %} and"
        + " {% endgeneration %}, or give each answer a row of its own.");
  }
}
