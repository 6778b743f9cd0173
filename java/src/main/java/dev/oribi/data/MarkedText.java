package dev.oribi.data;

import dev.oribi.text.ChatTemplate.Span;
import java.util.List;

/**
 * A text and the parts of it that the model is trained to produce.
 *
 * @param targets in rising order, not overlapping
 */
record MarkedText(String text, List<Span> targets) {

  /** The completion is the target. */
  static MarkedText of(String prompt, String completion) {
    return new MarkedText(prompt + completion, List.of(new Span(prompt.length(), prompt.length() + completion.length())));
  }
}
