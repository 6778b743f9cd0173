package dev.oribi.data;

import dev.oribi.OribiException;
import dev.oribi.text.ChatTemplate;
import dev.oribi.text.Message;
import dev.oribi.text.Tokenizer;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;

/**
 * The tokens at which a model stops: without one of them among the targets it would never learn to. They are what the model's
 * files name, and what the chat template writes behind an answer, which two conversations made for this show.
 *
 * @param ids the tokens, none where there is no tokenizer
 * @param texts the same as text
 */
record EndTokens(Set<Integer> ids, List<String> texts) {
  private static final String QUESTION = "Q7question";
  private static final String ANSWER = "A7answer";

  /** Both may be null. */
  static EndTokens of(Tokenizer tokenizer, ChatTemplate template) {
    Set<Integer> ids = new TreeSet<>();
    if (tokenizer != null) {
      ids.addAll(tokenizer.endTokenIds());
      if (template != null) {
        ids.addAll(behindAnswers(tokenizer, template));
      }
    }
    return new EndTokens(Set.copyOf(ids), ids.stream().map(tokenizer == null ? String::valueOf : tokenizer::token).toList());
  }

  private static Set<Integer> behindAnswers(Tokenizer tokenizer, ChatTemplate template) {
    Set<Integer> found = new TreeSet<>();
    Map<String, Object> question = new Message("user", QUESTION).toMap();
    Map<String, Object> answer = new Message("assistant", ANSWER).toMap();
    try {
      String alone = text(tokenizer, template, List.of(question));
      Set<Integer> opening = added(tokenizer, alone.substring(0, Math.max(0, alone.indexOf(QUESTION))));
      String last = text(tokenizer, template, List.of(question, answer));
      firstAdded(tokenizer, last.substring(last.indexOf(ANSWER) + ANSWER.length()), Set.of(), found);
      // In the middle of a conversation what follows may be the head of the next turn.
      String middle = text(tokenizer, template, List.of(question, answer, question));
      firstAdded(tokenizer, middle.substring(middle.indexOf(ANSWER) + ANSWER.length()), opening, found);
    } catch (OribiException e) {
      // A template that wants other conversations than these: what the model's files name has to do.
    }
    return found;
  }

  private static String text(Tokenizer tokenizer, ChatTemplate template, List<Map<String, Object>> messages) {
    return template.render(new ArrayList<>(messages), false, tokenizer.templateVariables()).text();
  }

  private static Set<Integer> added(Tokenizer tokenizer, String text) {
    Set<Integer> added = new TreeSet<>();
    for (int id : tokenizer.encode(text, false)) {
      if (tokenizer.isAdded(id)) {
        added.add(id);
      }
    }
    return added;
  }

  private static void firstAdded(Tokenizer tokenizer, String tail, Set<Integer> but, Set<Integer> found) {
    for (int id : tokenizer.encode(tail, false)) {
      if (tokenizer.isAdded(id)) {
        if (!but.contains(id)) {
          found.add(id);
        }
        return;
      }
    }
  }

  /** The place behind the end token that follows a place in a text, white space between them included; else the place itself. */
  int past(String text, int place) {
    int at = place;
    while (at < text.length() && Character.isWhitespace(text.charAt(at))) {
      at++;
    }
    for (String end : texts) {
      if (text.startsWith(end, at)) {
        return at + end.length();
      }
    }
    return place;
  }

  /** Whether a text ends with an end token, white space behind it left aside. */
  boolean endsWith(String text) {
    String stripped = text.stripTrailing();
    return texts.stream().anyMatch(stripped::endsWith);
  }

  /** Whether one of the labels is an end token. */
  boolean isLearned(int[] labels) {
    for (int i = 1; i < labels.length; i++) {
      if (labels[i] != MicroBatch.IGNORE && ids.contains(labels[i])) {
        return true;
      }
    }
    return false;
  }
}
