package dev.oribi.data;

import dev.oribi.OribiException;
import dev.oribi.text.ChatTemplate;
import dev.oribi.text.ChatTemplate.Span;
import dev.oribi.text.Message;
import dev.oribi.text.Tokenizer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * What a template writes in front of each answer and behind it, as text: {@code <|im_start|>assistant\n} and {@code <|im_end|>}.
 * Read off a conversation of two questions and two answers; good for templates that write a turn differently once others follow.
 *
 * @param head from the end of a question to the beginning of the answer, as far as it is the same for both
 * @param next from the end of an answer to the beginning of the next question
 * @param certain whether the head has a token that plain text cannot have
 */
record RoleBoundaries(String head, String next, boolean certain, EndTokens ends) {
  private static final String[] SAID = {"Q1question", "A1answer", "Q2question", "A2answer"};

  static Optional<RoleBoundaries> of(Tokenizer tokenizer, ChatTemplate template, EndTokens ends) {
    List<Map<String, Object>> messages = new ArrayList<>();
    for (int i = 0; i < SAID.length; i++) {
      messages.add(new Message(i % 2 == 0 ? "user" : "assistant", SAID[i]).toMap());
    }
    String text;
    try {
      text = template.render(messages, false, tokenizer.templateVariables()).text();
    } catch (OribiException e) {
      return Optional.empty();
    }
    int[] at = new int[SAID.length];
    for (int i = 0; i < SAID.length; i++) {
      at[i] = text.indexOf(SAID[i], i == 0 ? 0 : at[i - 1]);
      if (at[i] < 0) {
        return Optional.empty();
      }
    }
    String first = between(text, at, 0);
    String second = between(text, at, 2);
    int same = 0;
    while (same < Math.min(first.length(), second.length()) && first.charAt(same) == second.charAt(same)) {
      same++;
    }
    String head = first.substring(0, same);
    boolean certain = Arrays.stream(tokenizer.encode(head, false)).anyMatch(tokenizer::isAdded);
    return head.isBlank() ? Optional.empty() : Optional.of(new RoleBoundaries(head, between(text, at, 1), certain, ends));
  }

  private static String between(String text, int[] at, int i) {
    return text.substring(at[i] + SAID[i].length(), at[i + 1]);
  }

  /** The answers in a text, each with its end. */
  List<Span> answers(String text) {
    List<Span> spans = new ArrayList<>();
    for (int at = text.indexOf(head); at >= 0; ) {
      int begin = at + head.length();
      int following = text.indexOf(head, begin);
      int end = end(text, begin, following < 0 ? text.length() : following);
      spans.add(new Span(begin, end));
      at = following;
    }
    return spans;
  }

  private int end(String text, int begin, int limit) {
    int end = -1;
    for (String token : ends.texts()) {
      int found = text.indexOf(token, begin);
      if (found >= 0 && found < limit && (end < 0 || found + token.length() < end)) {
        end = found + token.length();
      }
    }
    if (end >= 0) {
      return end;
    }
    int turn = next.isBlank() ? -1 : text.indexOf(next, begin);
    return turn >= 0 && turn < limit ? turn : limit;
  }
}
